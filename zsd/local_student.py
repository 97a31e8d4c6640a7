"""Students that lie in an object store, on this machine."""

from __future__ import annotations

from pathlib import Path

import pyarrow.fs as pafs

from zsd import storage
from zsd.cache import cache_directory, new_directory
from zsd.shards import checksum
from zsd.students.folder import CARD


def local_student(uri: str) -> Path:
    """A student on a file system of this machine: its own folder, or a copy in the cache of one in an object store."""
    place = storage.resolve(uri)
    if place.is_local:
        return Path(place.path)
    card = storage.read_bytes(storage.join(uri, CARD))
    copy = cache_directory() / "students" / checksum(f"{place.uri} ".encode() + card)
    if not copy.is_dir():
        with new_directory(copy) as scratch:
            pafs.copy_files(place.path, str(scratch), source_filesystem=place.fs)
    return copy
