"""Which files `--data` names: paths, globs, folders, saved `datasets` folders, on disk or in any `pyarrow.fs` store."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs

from zsd import storage
from zsd.corpus import listing
from zsd.errors import CorpusError

FORMATS = {".txt": "txt", ".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
KNOWN_ENDINGS = f"{', '.join(FORMATS)} (text ones also with {', '.join(COMPRESSIONS)})"
DATASETS = "datasets"


@dataclass(frozen=True)
class Source:
    """One file, or one split of a saved `datasets` folder.

    Args:
        uri: absolute path or URI.
        format: txt, csv, tsv, jsonl, parquet or datasets.
        size: bytes, as stored.
        mtime_ns: time of the last change in nanoseconds since 1970; None where the store does not say.
    """

    uri: str
    format: str
    size: int
    mtime_ns: int | None

    @property
    def compression(self) -> str | None:
        """The codec that the ending names, for `pyarrow.CompressedInputStream`; None for a plain file."""
        return _split_ending(storage.resolve(self.uri).path)[1]

    @property
    def text_bytes(self) -> int:
        """A guess of the bytes of text inside: compressed text is taken to be four times its size, parquet twice."""
        return self.size * (4 if self.compression else 2 if self.format == "parquet" else 1)


def resolve_sources(data: Sequence[str], *, output: str | None = None) -> list[Source]:
    """The sources that `data` names, in the order given, sorted by path within each, no file twice.

    Args:
        data: paths, globs (``*``, ``?``, ``[...]``, ``**``), folders (searched through, without names that start with
            ``.`` or ``_``, for files with a known ending) or URIs of these.
        output: the job's folder, where folders and globs find nothing: a second run must not read what the first wrote.

    Raises:
        CorpusError: nothing matches, an ending is unknown, a file cannot be read, a folder holds nothing to read.
    """
    if not data:
        raise CorpusError("no data given: name a file, a folder or a glob with --data")
    mine = None if output is None else storage.resolve(output).uri
    found: dict[str, Source] = {}
    for value in data:
        try:
            for source in _sources_of(value, mine):
                found.setdefault(_identity(source), source)
        except (OSError, pa.ArrowException) as error:
            raise CorpusError(f"{value}: cannot be read: {storage.first_line(error)}") from None
    return list(found.values())


def _sources_of(value: str, output: str | None) -> list[Source]:
    """The sources of one `--data` value."""
    if not value:
        raise CorpusError("an empty name was given to --data: remove it")
    if listing.has_wildcard(value) and not _is_literal_path(value):
        return _sources_of_glob(value, output)
    place = storage.resolve(value)
    info = place.fs.get_file_info(place.path)
    if info.type == pafs.FileType.NotFound:
        raise CorpusError(f"{value}: no such file or folder: check the path given to --data")
    if info.is_file:
        return [_file_source(place, info)]
    if place.uri == output:
        raise CorpusError(f"{value}: is also the output folder: choose another --output")
    sources = list(_sources_of_folder(place, output))
    if not sources:
        raise CorpusError(f"{value}: the folder holds no file with a known ending: {KNOWN_ENDINGS}")
    return sources


def _is_literal_path(value: str) -> bool:
    return "://" not in value and Path(value).expanduser().exists()


def _sources_of_glob(pattern: str, output: str | None) -> list[Source]:
    sources: list[Source] = []
    matched = 0
    for place, info in listing.expand_glob(pattern):
        if output is not None and place.uri.startswith(f"{output}/"):
            continue
        if info.is_file:
            matched += 1
            sources.append(_file_source(place, info))
        elif splits := _saved_dataset_splits(place):
            matched += 1
            sources.extend(splits)
    if not matched:
        raise CorpusError(f"{pattern}: matches no file: check the path, and quote the pattern in the shell")
    return sources


def _sources_of_folder(folder: storage.Location, output: str | None) -> Iterator[Source]:
    if splits := _saved_dataset_splits(folder):
        yield from splits
        return
    for place, info in listing.children(folder):
        if info.base_name.startswith((".", "_")) or place.uri == output:
            continue
        if not info.is_file:
            yield from _sources_of_folder(place, output)
        elif _split_ending(place.path)[0]:
            yield _file_source(place, info)


def _saved_dataset_splits(folder: storage.Location) -> list[Source]:
    """One source for every split that `datasets.save_to_disk` left in a folder; none in any other folder."""
    splits = listing.saved_dataset_splits(folder)
    if splits and not folder.is_local:
        raise CorpusError(f"{folder.uri}: a saved `datasets` folder must lie on a local path: copy it, or use parquet")
    return [_split_source(split) for split in splits]


def _split_source(split: storage.Location) -> Source:
    infos = [info for _, info in listing.children(split) if info.is_file]
    changed = [info.mtime_ns for info in infos if info.mtime_ns is not None]
    return Source(split.uri, DATASETS, sum(info.size for info in infos), max(changed, default=None))


def _file_source(place: storage.Location, info: pafs.FileInfo) -> Source:
    kind, _ = _split_ending(place.path)
    if kind is None:
        raise CorpusError(f"{place.uri}: unknown ending: zsd reads {KNOWN_ENDINGS} and saved `datasets` folders")
    if place.is_local and not os.access(place.path, os.R_OK):
        raise CorpusError(f"{place.uri}: no permission to read it: change its mode or its owner")
    return Source(place.uri, kind, info.size, info.mtime_ns)


def _split_ending(path: str) -> tuple[str | None, str | None]:
    """Format and codec that the ending of a file's name means; (None, None) if it is not a known one."""
    name, last = os.path.splitext(path.lower())  # noqa: PTH122 (a path in a store is no pathlib.Path)
    codec = COMPRESSIONS.get(last)
    kind = FORMATS.get(os.path.splitext(name)[1] if codec else last)  # noqa: PTH122
    if kind is None or (codec and kind == "parquet"):
        return None, None
    return kind, codec


def _identity(source: Source) -> str:
    """What two names of the same file have in common."""
    return source.uri if "://" in source.uri else str(Path(source.uri).resolve())
