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
    """What ``--student`` asks for: exactly one of the two is set.

    Args:
        layers: how many of the teacher's layers, or ``half``: every second one.
        checkpoint: a local directory or a hub name.
    """

    layers: int | Literal["half"] | None = None
    checkpoint: str | None = None


def parse_student(spec: str) -> StudentSpec:
    """Read ``layers:N``, ``layers:half``, or a checkpoint name or path.

    Raises:
        StudentError: nothing is given, or what follows ``layers:`` is neither ``half`` nor a number above 0.
    """
    spec = spec.strip()
    if not spec:
        raise StudentError("--student is empty: give layers:half, layers:N, a checkpoint directory or a hub name")
    kind, colon, count = spec.partition(":")
    if not (colon and kind == "layers"):
        return StudentSpec(checkpoint=spec)
    if count == "half":
        return StudentSpec(layers="half")
    if not re.fullmatch(r"[1-9][0-9]{0,3}", count):
        raise StudentError(f"--student {spec!r}: layers: is followed by half or by a number above 0, as in layers:3")
    return StudentSpec(layers=int(count))
