"""Listing folders and expanding globs over any `pyarrow.fs` filesystem, always in sorted order."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterator

import pyarrow.fs as pafs

from zsd import storage
from zsd.errors import CorpusError

Entry = tuple[storage.Location, pafs.FileInfo]


def has_wildcard(value: str) -> bool:
    """Whether a name is a glob; a ``?`` in a URI starts its options and is none."""
    return re.search(r"[*\[]" if "://" in value else r"[*?\[]", value) is not None


def children(folder: storage.Location) -> list[Entry]:
    """What lies directly in a folder, sorted by name; nothing if it is absent."""
    infos = folder.fs.get_file_info(pafs.FileSelector(folder.path, allow_not_found=True))
    kept = sorted((info for info in infos if info.type != pafs.FileType.NotFound), key=lambda info: info.base_name)
    return [(folder.join(info.base_name), info) for info in kept]


def expand_glob(pattern: str) -> Iterator[Entry]:
    """Files and folders that match; ``**`` stands for any number of folders, hidden names need a written dot.

    Folders saved by `datasets` are never looked into.
    """
    head, options = (pattern, "") if "://" not in pattern else _split_options(pattern)
    fixed, wild = _split_at_wildcard(head)
    yield from _expand(storage.resolve(fixed + options), wild)


def _split_options(uri: str) -> tuple[str, str]:
    head, mark, options = uri.partition("?")
    return head, mark + options


def _split_at_wildcard(pattern: str) -> tuple[str, list[str]]:
    """The folder before the first segment with a wildcard, and the segments from there on."""
    segments = pattern.split("/")
    first = next(i for i, segment in enumerate(segments) if has_wildcard(segment))
    if "://" in pattern and first < 3:
        raise CorpusError(f"{pattern}: a bucket's name cannot be a pattern: write it in full")
    return "/".join(segments[:first]) or ("/" if pattern.startswith("/") else "."), segments[first:]


def _expand(folder: storage.Location, segments: list[str]) -> Iterator[Entry]:
    segment, rest = segments[0], segments[1:]
    if segment == "**":
        yield from _expand(folder, rest or ["*"])
    for place, info in children(folder):
        if segment == "**":
            if not info.is_file and not info.base_name.startswith(".") and not saved_dataset_splits(place):
                yield from _expand(place, segments)
        elif not _matches(info.base_name, segment):
            continue
        elif not rest:
            yield place, info
        elif not info.is_file:
            yield from _expand(place, rest)


def _matches(name: str, segment: str) -> bool:
    return fnmatch.fnmatchcase(name, segment) and (not name.startswith(".") or segment.startswith("."))


def saved_dataset_splits(folder: storage.Location) -> list[storage.Location]:
    """The folders of the splits that `datasets.save_to_disk` wrote here; none if it is another kind of folder."""
    names = {info.base_name for info in folder.fs.get_file_info(pafs.FileSelector(folder.path, allow_not_found=True))}
    if "dataset_dict.json" in names:
        written = json.loads(storage.read_bytes(folder.join("dataset_dict.json").uri))
        return [folder.join(split) for split in written["splits"]]
    return [folder] if {"state.json", "dataset_info.json"} <= names else []
