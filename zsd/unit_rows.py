"""The rows of a unit as a worker takes them: without those that are to be skipped, which are rejected with a reason."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from zsd import storage
from zsd.corpus.rows import PREFIX_CHARS
from zsd.corpus.spill import REJECTED_SCHEMA
from zsd.shards import read_row_groups
from zsd.units import Unit

Skip = Sequence[tuple[int, str]]
"""Rows of a unit to leave out, by their number in the unit, and why."""


def unit_rows(corpus: str, rejected: str, unit: Unit, skip: Skip) -> list[pa.Table]:
    """One table for each row group of a unit, without the rows to skip; these are written to the rejected rows.

    Args:
        corpus: folder of the corpus shards.
        rejected: folder of the rejected rows; the file is named like the unit's output, so a retry overwrites itself.
        unit: which rows.
        skip: which of them not.

    Raises:
        StoreError: the corpus shard is missing or damaged.
        OSError: the storage failed.
    """
    tables = read_row_groups(corpus, unit)
    if not skip:
        return tables
    whole = pa.concat_tables(tables)
    numbers = pa.array([number for number, _ in skip])
    texts = pc.utf8_slice_codeunits(whole["text"].take(numbers), 0, PREFIX_CHARS)
    columns = {
        "source": pa.array([f"corpus/{unit.shard}"] * len(skip)),
        "row": pa.array([_rows_before(corpus, unit) + number for number, _ in skip], pa.int64()),
        "reason": pa.array([error for _, error in skip]),
        "text": texts,
    }
    table = pa.table(columns).cast(REJECTED_SCHEMA)
    storage.write_table_atomic(storage.join(rejected, unit.part), table, dictionary_columns=["source", "reason"])
    return _without(tables, skip)


def probed_rows(corpus: str, unit: Unit, *, start: int, stop: int, skip: Skip) -> pa.Table:
    """Rows ``start`` to ``stop - 1`` of a unit, without those to skip."""
    left_out = {number for number, _ in skip}
    chosen = pa.array([number for number in range(start, stop) if number not in left_out], pa.int64())
    return pa.concat_tables(read_row_groups(corpus, unit)).take(chosen)


def _rows_before(corpus: str, unit: Unit) -> int:
    """Rows of the corpus shard before the unit."""
    place = storage.resolve(storage.join(corpus, unit.shard))
    with place.fs.open_input_file(place.path) as file:
        metadata = pq.ParquetFile(file).metadata
        return sum(metadata.row_group(group).num_rows for group in range(unit.first))


def _without(tables: list[pa.Table], skip: Skip) -> list[pa.Table]:
    keep = np.ones(sum(table.num_rows for table in tables), dtype=bool)
    keep[[number for number, _ in skip]] = False
    starts = np.cumsum([0, *(table.num_rows for table in tables)])
    return [
        table.filter(pa.array(keep[start:][: table.num_rows])) for table, start in zip(tables, starts, strict=False)
    ]
