"""What is asked of the teacher: class names in order, a hypothesis template, single- or multi-label.

Legend: K labels, T templates, H = T * K hypotheses.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zsd.errors import LabelSetError

DEFAULT_TEMPLATE = "This text is about {}."


@dataclass(frozen=True, kw_only=True)
class LabelSet:
    """The ordered class names and how they become hypotheses.

    Args:
        names: K class names, distinct, at least two (one is enough for multi-label); order is kept
            everywhere: column k of every array is ``names[k]``.
        template: hypothesis template with exactly one ``{}``.
        multi_label: whether several classes may be true of one text.
        more_templates: further templates; the logits of a class are their mean with the first one's.

    Raises:
        LabelSetError: a name is empty or repeated, there are too few, a template has not exactly one ``{}``
            or is given twice.
    """

    names: tuple[str, ...]
    template: str = DEFAULT_TEMPLATE
    multi_label: bool = False
    more_templates: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        fewest = 1 if self.multi_label else 2
        if len(self.names) < fewest:
            raise LabelSetError(
                f"{len(self.names)} class name(s) given, at least {fewest} needed: "
                "name more in the file of --labels, or with --label for each"
            )
        for name in self.names:
            if not name.strip():
                raise LabelSetError("a class name is empty: give every --label a name")
        repeated = sorted({name for name in self.names if self.names.count(name) > 1})
        if repeated:
            raise LabelSetError(f"class name {repeated[0]!r} is given more than once: names must be distinct")
        for template in self.templates:
            if template.count("{}") != 1 or template.replace("{}", "").count("{"):
                raise LabelSetError(f"template {template!r} must contain {{}} exactly once, where the class name goes")
            if self.templates.count(template) > 1:
                raise LabelSetError(f"template {template!r} is given more than once: it would only cost a second pass")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def templates(self) -> tuple[str, ...]:
        """All T templates, in order."""
        return (self.template, *self.more_templates)

    @property
    def hypotheses(self) -> list[str]:
        """The H hypotheses: one a class name, in order, of the first template, then of the next."""
        return [template.replace("{}", name) for template in self.templates for name in self.names]

    @property
    def fingerprint(self) -> str:
        """128-bit hex digest of names, templates and mode: equal if and only if the same is asked."""
        blob = json.dumps(self.to_dict(), ensure_ascii=False, sort_keys=True)
        return hashlib.blake2b(blob.encode(), digest_size=16).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """The form kept in manifests; `from_dict` reads it back."""
        more = {"more_templates": list(self.more_templates)} if self.more_templates else {}
        return {"names": list(self.names), "template": self.template, "multi_label": self.multi_label, **more}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> LabelSet:
        """Read what `to_dict` wrote."""
        return cls(
            names=tuple(data["names"]),
            template=data["template"],
            multi_label=data["multi_label"],
            more_templates=tuple(data.get("more_templates", ())),
        )


def read_label_file(path: str | Path) -> tuple[str, ...]:
    """Class names from a UTF-8 text file, one a line; blank lines are skipped.

    Raises:
        LabelSetError: the file cannot be read, is not UTF-8, or names no class.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise LabelSetError(f"{path}: not UTF-8 text (byte {error.start}): save the label file as UTF-8") from None
    except OSError as error:
        raise LabelSetError(f"{path}: cannot read the label file: {error.strerror}") from None
    names = tuple(_stripped(lines))
    if not names:
        raise LabelSetError(f"{path}: names no class: write one class name a line")
    return names


def _stripped(lines: Iterable[str]) -> Iterable[str]:
    return (line.strip() for line in lines if line.strip())
