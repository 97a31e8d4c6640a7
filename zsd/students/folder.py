"""Where students lie, and of which kind one is."""

from __future__ import annotations

import json
from pathlib import Path

from zsd.errors import StudentError

STUDENT = "student"
"""Folder of a distill job's output that holds the student; others of the same job are in ``student-NAME``."""
CARD = "zsd.json"
"""File in that folder which tells where the student comes from; written last."""
CONFIG = "config.json"
KINDS = {"model2vec": "static", "zsd-linear": "linear"}
"""Kind of a student by the ``model_type`` of its config.json; any other is that of an encoder."""


def student_directory(model: str) -> Path:
    """The student that ``--model`` means: its directory, or the output directory of `zsd distill`.

    Raises:
        StudentError: neither is there.
    """
    for directory in (Path(model), Path(model) / STUDENT):
        if (directory / CONFIG).is_file():
            return directory
    raise StudentError(f"{model}: no student here: give a student's directory, or the --output of zsd distill")


def student_kind(directory: str | Path) -> str:
    """``encoder``, ``static`` or ``linear``; what is no directory of a student is taken for an encoder.

    Raises:
        StudentError: its config.json is damaged.
    """
    file = Path(directory) / CONFIG
    if not file.is_file():
        return "encoder"
    try:
        model_type = json.loads(file.read_text(encoding="utf-8")).get("model_type")
    except (ValueError, AttributeError):
        raise StudentError(f"{file} is damaged: it is no JSON object: make the student again") from None
    return KINDS.get(str(model_type), "encoder")


def all_students(model: str) -> list[Path]:
    """Every student that ``--model`` means: the one in a directory, or all of a distill job, the first one first.

    Raises:
        StudentError: there is none.
    """
    first = student_directory(model)
    if first == Path(model):
        return [first]
    others = sorted(path.parent for path in Path(model).glob(f"{STUDENT}-*/{CONFIG}"))
    return [first, *others]
