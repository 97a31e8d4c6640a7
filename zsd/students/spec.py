"""What ``--student`` asks for, read from one word."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast

from zsd.assets import BUNDLED_TEACHERS
from zsd.errors import StudentError

DEFAULT_LAYERS_STUDENT = "layers:half"
JOINT_STUDENT = "joint"
DEFAULT_CHECKPOINT_STUDENT = "distilbert/distilbert-base-uncased"


Layers = int | Literal["half", "all"]


@dataclass(frozen=True, kw_only=True)
class StudentSpec:
    """What ``--student`` asks for.

    Args:
        kind: ``encoder``, ``static`` or ``linear``.
        layers: of an encoder: how many of the teacher's layers, ``half``: every second one, or ``all``.
        joint: of an encoder with `layers`: it reads the class names before the text (`zsd.joint_encoder`).
        checkpoint: a local directory or a hub name: of an encoder without `layers` always; of a static student, where
            its token embeddings come from, the teacher where None.
    """

    kind: Literal["encoder", "static", "linear"] = "encoder"
    layers: Layers | None = None
    joint: bool = False
    checkpoint: str | None = None


def default_encoder(teacher: str) -> str:
    """The student of a teacher where none is named: cut from a bundled one, else small and general."""
    return DEFAULT_LAYERS_STUDENT if teacher in BUNDLED_TEACHERS else DEFAULT_CHECKPOINT_STUDENT


def parse_student(spec: str) -> StudentSpec:
    """Read ``layers:N``, ``joint:N`` (also ``half``, ``all``), ``static``, ``linear``, or a checkpoint name or path.

    ``joint`` is ``joint:all``, ``static:CHECKPOINT`` starts from that checkpoint's token embeddings. A directory that
    is called ``joint``, ``static`` or ``linear`` is ``./static`` here.

    Raises:
        StudentError: nothing is given, or what follows ``layers:`` or ``joint:`` is no number above 0, half or all.
    """
    spec = spec.strip()
    if not spec:
        raise StudentError(
            "--student is empty: give layers:half, layers:N, joint, static, linear, a checkpoint directory or hub name"
        )
    kind, colon, rest = spec.partition(":")
    if spec == "linear":
        return StudentSpec(kind="linear")
    if kind == "static":
        if colon and not rest:
            raise StudentError("--student 'static:': name the checkpoint whose token embeddings it starts from")
        return StudentSpec(kind="static", checkpoint=rest or None)
    if spec == JOINT_STUDENT:
        return StudentSpec(layers="all", joint=True)
    if not (colon and kind in ("layers", "joint")):
        return StudentSpec(checkpoint=spec)
    return StudentSpec(layers=_layers(kind, rest), joint=kind == "joint")


def _layers(kind: str, told: str) -> Layers:
    if told in ("half", "all"):
        return cast("Layers", told)
    if not re.fullmatch(r"[1-9][0-9]{0,3}", told):
        raise StudentError(
            f"--student '{kind}:{told}': {kind}: is followed by half, all or a number above 0, as in {kind}:3"
        )
    return int(told)
