"""Where students lie."""

from __future__ import annotations

from pathlib import Path

from zsd.errors import StudentError

STUDENT = "student"
"""Folder of a distill job's output that holds the student."""
CARD = "zsd.json"
"""File in that folder which tells where the student comes from; written last."""


def student_directory(model: str) -> Path:
    """The checkpoint that ``--model`` means: a checkpoint directory, or the output directory of `zsd distill`.

    Raises:
        StudentError: neither is there.
    """
    for directory in (Path(model), Path(model) / STUDENT):
        if (directory / "config.json").is_file():
            return directory
    raise StudentError(f"{model}: no student here: give a checkpoint directory, or the --output of zsd distill")
