"""The embedded default: a small NLI teacher, its sparse form and a sample corpus that travel with the package."""

from __future__ import annotations

from pathlib import Path

BUNDLED_TEACHER = "bundled"
BUNDLED_SPARSE_TEACHER = "bundled-sparse"
BUNDLED_TEACHERS = (BUNDLED_TEACHER, BUNDLED_SPARSE_TEACHER)
_ASSETS = Path(__file__).parent


def bundled_teacher_path() -> Path:
    """Directory of the bundled NLI checkpoint (its README.md is the model card)."""
    return _ASSETS / "teacher"


def sparse_teacher_path() -> Path:
    """Directory of what the bundled teacher's sparse form differs in (`zsd.assets.sparse_teacher` assembles it)."""
    return _ASSETS / "teacher-sparse"


def sample_path(name: str) -> Path:
    """A file of the sample corpus: ``corpus.txt``, ``labels.txt`` or ``test.csv`` (README.md describes them)."""
    return _ASSETS / "sample" / name
