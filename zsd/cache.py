"""Where derived files that can be made again are kept: one folder a user, on each node."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_directory() -> Path:
    """``$ZSD_CACHE``, or ``zsd`` under ``$XDG_CACHE_HOME`` (``~/.cache`` where that is unset)."""
    chosen = os.environ.get("ZSD_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zsd"


@contextmanager
def new_directory(final: Path) -> Iterator[Path]:
    """Fill a temporary directory that becomes `final` whole, or not at all.

    Two processes may make the same directory at the same time: the first to finish wins, the other's is dropped.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
    try:
        yield scratch
        try:
            scratch.rename(final)
        except OSError:
            if not final.is_dir():
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
