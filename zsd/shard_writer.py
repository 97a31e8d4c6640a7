"""A corpus shard written piece by piece, in row groups that are units of later work."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from zsd import storage
from zsd.corpus import Shard


class ShardWriter:
    """Writes one corpus shard, whole or not at all; no file where no row comes.

    Args:
        corpus: the folder.
        name: file name.
        schema: of every table.
        unit_rows: rows of a row group; None: one row group for every table added.
    """

    def __init__(self, corpus: str, name: str, schema: pa.Schema, unit_rows: int | None) -> None:
        self.name = name
        self._file, self._schema, self._unit_rows = storage.join(corpus, name), schema, unit_rows
        self._stack = ExitStack()
        self._writer: pq.ParquetWriter | None = None
        self._pending = schema.empty_table()
        self._sizes: list[int] = []

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        if kind is None and self._pending.num_rows:
            self._write(self._pending)
        self._stack.__exit__(kind, *rest)

    @property
    def groups(self) -> int:
        """Row groups written so far."""
        return len(self._sizes)

    def add(self, table: pa.Table) -> None:
        """Rows after those before."""
        if self._unit_rows is None:
            self._write(table)
            return
        self._pending = pa.concat_tables([self._pending, table])
        whole = self._pending.num_rows - self._pending.num_rows % self._unit_rows
        for start in range(0, whole, self._unit_rows):
            self._write(self._pending.slice(start, self._unit_rows))
        self._pending = self._pending.slice(whole)

    def shard(self) -> Shard:
        """What was written."""
        return Shard(name=self.name, rows=sum(self._sizes), row_groups=tuple(self._sizes))

    def _write(self, table: pa.Table) -> None:
        if self._writer is None:
            file = self._stack.enter_context(storage.open_atomic(self._file))
            self._writer = self._stack.enter_context(pq.ParquetWriter(file, self._schema, compression="zstd"))
        self._writer.write_table(table, row_group_size=table.num_rows)
        self._sizes.append(table.num_rows)
