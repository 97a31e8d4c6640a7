"""Files by path or URI: one small layer over `pyarrow.fs`, so that no other module asks where a file lies.

A local file is written under a temporary name in the same folder, flushed to disk and renamed: it is whole or absent.
An object store (s3://, gs://, abfs://) needs no such dance: a put is atomic by itself, the object appears when the put
is complete. So the bytes are gathered in memory and put at once; that is meant for shards and manifests, not for
files larger than memory (`open_scratch` streams those, without the promise).

A temporary name starts with a dot and ends in ``.tmp``; `list_names` never shows it, so a killed writer leaves nothing
that a reader could take for data.
"""

from __future__ import annotations

import io
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from zsd.errors import OutputError
from zsd.filesystems import Location as Location
from zsd.filesystems import first_line as first_line
from zsd.filesystems import persistently as persistently
from zsd.filesystems import resolve as resolve


def join(uri: str | Path, *parts: str) -> str:
    """The URI of something below `uri`: ``join("s3://b/out", "corpus", "a.parquet")``."""
    return resolve(uri).join(*parts).uri


def exists(uri: str | Path) -> bool:
    """Whether a file or folder is there."""
    place = resolve(uri)
    return persistently(place, lambda: bool(place.fs.get_file_info(place.path).type != pafs.FileType.NotFound))


def list_names(uri: str | Path, prefix: str = "", suffix: str = "") -> list[str]:
    """Sorted names of the files directly in a folder; empty if it is absent. Temporary names are left out."""
    found = infos(resolve(uri))
    names = (info.base_name for info in found if info.is_file)
    return sorted(n for n in names if n.startswith(prefix) and n.endswith(suffix) and not n.startswith("."))


def infos(place: Location) -> list[pafs.FileInfo]:
    """What lies directly in a folder; nothing if it is absent."""
    selector = pafs.FileSelector(place.path, allow_not_found=True)
    return persistently(place, lambda: list(place.fs.get_file_info(selector)))


def read_bytes(uri: str | Path) -> bytes:
    """The whole content of a file.

    Raises:
        FileNotFoundError: there is none.
    """
    place = resolve(uri)

    def read() -> bytes:
        with place.fs.open_input_stream(place.path) as stream:
            return bytes(stream.read())

    return persistently(place, read)


def read_parquet(uri: str | Path, columns: Sequence[str] | None = None) -> pa.Table:
    """A parquet file's rows in memory, or some columns of them; its own metadata with the schema.

    Raises:
        OSError, pa.ArrowException: it cannot be read, or is damaged.
    """
    place = resolve(uri)

    def read() -> pa.Table:
        with place.fs.open_input_file(place.path) as file:
            parquet = pq.ParquetFile(file, page_checksum_verification=True)
            return parquet.read(columns=None if columns is None else list(columns))

    return persistently(place, read)


def open_scratch(uri: str | Path) -> pa.NativeFile:
    """A stream that writes a file piece by piece. Not atomic: a killed writer may leave a part of it."""
    place = resolve(uri)
    _make_folder(place)
    return place.fs.open_output_stream(place.path)


@contextmanager
def open_atomic(uri: str | Path) -> Iterator[IO[bytes]]:
    """A binary file that appears under its name, whole, when the block ends, and not at all if the block raises."""
    place = resolve(uri)
    _make_folder(place)
    if not place.is_local:
        buffer = io.BytesIO()
        yield buffer
        _put(place, buffer.getbuffer())
        return
    final = Path(place.path)
    temporary = final.with_name(f".{final.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(final)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes_atomic(uri: str | Path, data: bytes) -> None:
    """Write a small file so that it is whole or absent; one already there is replaced."""
    with open_atomic(uri) as file:
        file.write(data)


def write_table_atomic(
    uri: str | Path,
    tables: pa.Table | Iterable[pa.Table],
    *,
    schema: pa.Schema | None = None,
    row_group_size: int | None = None,
    dictionary_columns: Sequence[str] = (),
) -> None:
    """Write a zstd parquet file so that it is whole or absent; one already there is replaced.

    Args:
        uri: the file.
        tables: one table, or several that are written one after another, each into row groups of its own.
        schema: required with several tables; they are cast to it.
        row_group_size: rows in a row group; a shorter one ends every table. Default: pyarrow's.
        dictionary_columns: columns with few distinct values.
    """
    if isinstance(tables, pa.Table):
        schema, tables = schema or tables.schema, [tables]
    if schema is None:
        raise ValueError("write_table_atomic: several tables need a schema")
    dictionary = list(dictionary_columns) or False
    with (
        open_atomic(uri) as file,
        pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=dictionary) as writer,
    ):
        for table in tables:
            writer.write_table(table.cast(schema), row_group_size=row_group_size)


def move(uri: str | Path, target: str | Path) -> None:
    """Give a file another name; one already there is replaced. On a store it is copied, then deleted."""
    source, place = resolve(uri), resolve(target)
    _make_folder(place)
    persistently(place, lambda: place.fs.copy_file(source.path, place.path))
    delete_file(uri)


def delete_file(uri: str | Path) -> None:
    """Delete a file that may be absent."""
    place = resolve(uri)
    if exists(uri):
        persistently(place, lambda: place.fs.delete_file(place.path))


def delete_folder(uri: str | Path) -> None:
    """Delete a folder, which may be absent, and all it holds."""
    place = resolve(uri)
    if exists(uri):
        persistently(place, lambda: place.fs.delete_dir(place.path))


def delete_empty_folder(uri: str | Path) -> None:
    """Delete a local folder if it holds nothing; a store has no empty folders."""
    place = resolve(uri)
    if place.is_local and exists(uri) and not any(Path(place.path).iterdir()):
        Path(place.path).rmdir()


def delete_temporaries(uri: str | Path) -> None:
    """Delete what killed writers left directly in a folder."""
    place = resolve(uri)
    for info in infos(place):
        if info.is_file and info.base_name.startswith(".") and info.base_name.endswith(".tmp"):
            place.fs.delete_file(info.path)


def _make_folder(place: Location) -> None:
    parent = place.path.rpartition("/")[0]
    if parent and place.fs.type_name not in {"s3", "gcs"}:  # these have no folders, and a bucket is not ours to make
        place.fs.create_dir(parent, recursive=True)


def _put(place: Location, data: memoryview) -> None:
    if place.fs.type_name == "hdfs":
        raise OutputError(f"{place.uri}: HDFS can be read, not written (its put is not atomic): use a mounted path")

    def put() -> None:
        with place.fs.open_output_stream(place.path) as stream:
            stream.write(data)

    persistently(place, put)
