"""A compiled checkpoint: what `zsd compile` puts beside its own files."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from transformers import AutoConfig

from zsd.assets import BUNDLED_SPARSE_TEACHER
from zsd.checkpoint import Checkpoint
from zsd.errors import EngineError, in_one_line
from zsd.quiet import quiet_transformers
from zsd.teachers.nli import NLITeacher, checkpoint_fingerprint

FP32_ONNX = "onnx/fp32.onnx"
INT8_ONNX = "onnx/int8.onnx"
INT8_OPENVINO = "openvino/int8.xml"
RECHECK_OPENVINO = "openvino/recheck.json"
DRAFT_FOLDER = "draft"
DRAFT_CONFIG = "draft/config.json"
RECHECK_DRAFT = "draft/recheck.json"


def compiled_file(checkpoint: Checkpoint, kind: str) -> Path | None:
    """A file, such as ``onnx/int8.onnx``, of the checkpoint's directory; None without it.

    Of the bundled sparse teacher, ``onnx/int8.onnx`` is made in the cache of this node when it is first asked for.

    Raises:
        EngineError: that fails.
        InputError: its weights cannot be loaded.
    """
    if isinstance(checkpoint, NLITeacher) and (checkpoint.name, kind) == (BUNDLED_SPARSE_TEACHER, INT8_ONNX):
        # Imported here: it needs onnx and ONNX Runtime, and to look for a file does not.
        from zsd.compile.bundled import bundled_int8

        return bundled_int8(checkpoint)
    file = Path(checkpoint.path) / kind
    return file if file.is_file() else None


def draft_of(checkpoint: Checkpoint) -> NLITeacher | None:
    """The draft that `zsd compile --draft` made of a teacher, which reads the same pairs; None without one.

    Raises:
        EngineError: its config.json is damaged.
    """
    directory = Path(checkpoint.path) / DRAFT_FOLDER
    if not isinstance(checkpoint, NLITeacher) or compiled_file(checkpoint, DRAFT_CONFIG) is None:
        return None
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(directory, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise EngineError(f"{directory} is damaged ({in_one_line(error)}): make it again with zsd compile") from None
    return replace(
        checkpoint,
        name=f"{checkpoint.name}/{DRAFT_FOLDER}",
        path=str(directory),
        fingerprint=checkpoint_fingerprint(directory),
        config=config,
    )


@dataclass(frozen=True, kw_only=True)
class Widths:
    """How close pairs of a form must be to be run again, as differences of raw logits: see `zsd.teachers.recheck`.

    Attributes:
        within: by the teacher itself in the fastest floating point; 0: none.
        exactly_within: after it by the teacher in fp32; 0: none. None: bf16 was not measured, and may not look.
        hypotheses: what the form was made for; anything where empty.
        multi_label: several of them may be true of one text.
        columns: of entailment and contradiction, which it was made for.
        bias: of the teacher by hypothesis: close is also what is close after it is taken off; none where empty.
    """

    within: float
    exactly_within: float | None = 0.0
    hypotheses: tuple[str, ...] = ()
    multi_label: bool = False
    columns: tuple[int, ...] = ()
    bias: tuple[float, ...] = ()


def write_recheck(directory: Path, form: str, widths: Widths) -> None:
    """Write them beside a form of a compiled teacher, `RECHECK_OPENVINO` or `RECHECK_DRAFT`."""
    what = "pairs whose raw logits are so close are run again by the teacher itself, the closest in fp32"
    content = asdict(widths) | {"what": what}
    (directory / form).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_recheck(checkpoint: Checkpoint, form: str) -> Widths | None:
    """What `write_recheck` wrote of a form; None where it decides alone.

    Raises:
        EngineError: the file is damaged.
    """
    file = compiled_file(checkpoint, form)
    if file is None:
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        exactly = content.get("exactly_within", 0.0)
        hypotheses = tuple(map(str, content.get("hypotheses", ())))
        bias = tuple(map(float, content.get("bias", ())))
        if len(bias) not in (0, len(hypotheses)):
            raise ValueError("a bias of other classes")
        return Widths(
            within=float(content["within"]),
            exactly_within=None if exactly is None else float(exactly),
            hypotheses=hypotheses,
            multi_label=bool(content.get("multi_label")),
            columns=tuple(map(int, content.get("columns", ()))),
            bias=bias,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise EngineError(f"{file} is damaged: make the form again with zsd compile") from None
