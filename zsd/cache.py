"""Where derived files that can be made again are kept: one folder a user, on each node."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_directory() -> Path:
    """``$ZSD_CACHE``, or ``zsd`` under ``$XDG_CACHE_HOME`` (``~/.cache`` where that is unset)."""
    chosen = os.environ.get("ZSD_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zsd"


def cached_file(kind: str, name: str, *content: object, make: Callable[[Path], None]) -> Path:
    """A file of the cache, made on first use; not to be written to.

    Args:
        kind: folder of the cache.
        name: of the file.
        content: all that the file follows from, the versions of whatever makes it among them.
        make: writes the file to the path it is given.
    """
    key = hashlib.blake2b("\0".join(map(str, content)).encode(), digest_size=16).hexdigest()
    directory = cache_directory() / kind / key
    if not (directory / name).is_file():
        with new_directory(directory) as scratch:
            make(scratch / name)
    return directory / name


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
