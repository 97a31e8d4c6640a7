"""Spill files: rows of one source, divided by a 128-bit key, so that one part can be read without the others.

One Arrow file a source, not one a source and part: 1000 sources and 1000 parts would be a million files. The writer
gathers rows up to `FLUSH_BYTES`, then writes one record batch for every part, in order; so batch ``f * parts + p``
holds what flush ``f`` gave to part ``p``, and no index is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from zsd import storage
from zsd.corpus.normalize import key_parts

FLUSH_BYTES = 64 * 2**20


class PartitionedWriter:
    """Writes the spill file `uri`; nothing is written until a row is added.

    Args:
        uri: the file; not written atomically, it counts only once its name is handed on.
        schema: columns of the tables to come.
        parts: how many parts.
        key: the column whose digest decides the part.
    """

    def __init__(self, uri: str, schema: pa.Schema, *, parts: int, key: str) -> None:
        self._uri, self._schema, self._parts, self._key = uri, schema, parts, key
        self._pending: list[pa.Table] = []
        self._pending_bytes = 0
        self._writer: pa.RecordBatchFileWriter | None = None

    def __enter__(self) -> PartitionedWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._pending:
            self._flush()
        if self._writer is not None:
            self._writer.close()
            self._stream.close()

    @property
    def is_empty(self) -> bool:
        """Whether no row has been added yet."""
        return self._writer is None and not self._pending

    def add(self, table: pa.Table) -> None:
        """Take the rows of a table, in order."""
        if table.num_rows == 0:
            return
        self._pending.append(table)
        self._pending_bytes += table.nbytes
        if self._pending_bytes >= FLUSH_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._writer is None:
            self._stream = storage.open_scratch(self._uri)
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            self._writer = pa.ipc.new_file(self._stream, self._schema, options=options)
        batch = pa.concat_tables(self._pending).combine_chunks().to_batches()[0]
        self._pending, self._pending_bytes = [], 0
        part_of_row = key_parts(batch[self._key], self._parts)
        if self._parts > 1:
            batch = batch.take(pa.array(np.argsort(part_of_row, kind="stable")))
        ends = np.cumsum(np.bincount(part_of_row, minlength=self._parts)).tolist()
        for start, end in zip([0, *ends], ends, strict=False):
            self._writer.write_batch(batch.slice(start, end - start))


def read_part(uri: str, part: int, *, parts: int, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The record batches of one part of a spill file, in the order of its rows."""
    place = storage.resolve(uri)
    with place.fs.open_input_file(place.path) as file:
        names = pa.ipc.open_file(file).schema.names
        fields = [i for i, name in enumerate(names) if columns is None or name in columns]
        reader = pa.ipc.open_file(file, options=pa.ipc.IpcReadOptions(included_fields=fields))
        for index in range(part, reader.num_record_batches, parts):
            yield reader.get_batch(index)
