"""What ``--student`` asks for, read from one word."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from zsd.errors import StudentError

DEFAULT_LAYERS_STUDENT = "layers:half"
DEFAULT_CHECKPOINT_STUDENT = "distilbert/distilbert-base-uncased"


@dataclass(frozen=True, kw_only=True)
class StudentSpec:
    """What ``--student`` asks for.

    Args:
        kind: ``encoder``, ``static`` or ``linear``.
        layers: of an encoder: how many of the teacher's layers, or ``half``: every second one.
        checkpoint: a local directory or a hub name: of an encoder without `layers` always; of a static student, where
            its token embeddings come from, the teacher where None.
    """

    kind: Literal["encoder", "static", "linear"] = "encoder"
    layers: int | Literal["half"] | None = None
    checkpoint: str | None = None


def parse_student(spec: str) -> StudentSpec:
    """Read ``layers:N``, ``layers:half``, ``static``, ``static:CHECKPOINT``, ``linear``, or a checkpoint name or path.

    A directory that is called ``static`` or ``linear`` is ``./static`` here.

    Raises:
        StudentError: nothing is given, or what follows ``layers:`` is neither ``half`` nor a number above 0.
    """
    spec = spec.strip()
    if not spec:
        raise StudentError(
            "--student is empty: give layers:half, layers:N, static, linear, a checkpoint directory or a hub name"
        )
    kind, colon, rest = spec.partition(":")
    if spec == "linear":
        return StudentSpec(kind="linear")
    if kind == "static":
        if colon and not rest:
            raise StudentError("--student 'static:': name the checkpoint whose token embeddings it starts from")
        return StudentSpec(kind="static", checkpoint=rest or None)
    if not (colon and kind == "layers"):
        return StudentSpec(checkpoint=spec)
    if rest == "half":
        return StudentSpec(layers="half")
    if not re.fullmatch(r"[1-9][0-9]{0,3}", rest):
        raise StudentError(f"--student {spec!r}: layers: is followed by half or by a number above 0, as in layers:3")
    return StudentSpec(layers=int(rest))
