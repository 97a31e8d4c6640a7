"""One id used by two different texts: found by looking at the corpus divided by id instead of by text.

Legend: N usable rows of one part, in the order of the corpus.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from zsd import storage
from zsd.corpus.normalize import key_parts
from zsd.corpus.partitioned import read_part
from zsd.corpus.spill import SpillResult

CONFLICT_SCHEMA = pa.schema(
    [
        ("partition", pa.int32()),
        ("source_index", pa.int32()),
        ("row", pa.int64()),
        ("first_source_index", pa.int32()),
        ("first_row", pa.int64()),
    ]
)


def first_of_each(keys: pa.Array) -> npt.NDArray[np.int64]:
    """For each of N keys, where the same key is seen first."""
    encoded = keys.dictionary_encode()
    codes = encoded.indices.to_numpy()  # numbered in the order of first sight
    firsts = np.zeros(len(encoded.dictionary), dtype=np.int64)
    firsts[codes[::-1]] = np.arange(len(keys))[::-1]
    return np.asarray(firsts[codes])


def find_id_conflicts(id_keys: pa.Array, text_keys: pa.Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows whose id was used earlier by another text, and the rows that used it first.

    Args:
        id_keys: N digests of the ids, in the order of the corpus.
        text_keys: N digests of the texts.
    """
    first = first_of_each(id_keys)
    same_text = pc.equal(text_keys, text_keys.take(pa.array(first))).to_numpy(zero_copy_only=False)
    later = np.flatnonzero(~same_text)
    return later, first[later]


def write_id_conflicts(part: int, *, partitions: int, spills: Sequence[SpillResult], directory: str) -> str | None:
    """Find the conflicts among the ids of one part; the name of the parquet file in `directory`, None without any."""
    table = _read_keys(part, partitions, spills, directory)
    if table.num_rows == 0:
        return None
    text_keys = table["key"].combine_chunks()
    later, firsts = find_id_conflicts(table["id_key"].combine_chunks(), text_keys)
    if len(later) == 0:
        return None
    found, origin = table.take(pa.array(later)), table.take(pa.array(firsts))
    parts = pa.array(key_parts(text_keys.take(pa.array(later)), partitions), pa.int32())
    columns = [parts, found["source_index"], found["row"], origin["source_index"], origin["row"]]
    name = f"conflict-{part:05d}"
    storage.write_table_atomic(storage.join(directory, name), pa.table(columns, schema=CONFLICT_SCHEMA))
    return name


def _read_keys(part: int, partitions: int, spills: Sequence[SpillResult], directory: str) -> pa.Table:
    """Source, row, id digest and text digest of all rows of a part, in the order of the corpus."""
    tables = []
    for spilled in spills:
        if spilled.ids_file is None:
            continue
        for batch in read_part(storage.join(directory, spilled.ids_file), part, parts=partitions):
            index = np.full(batch.num_rows, spilled.source_index, dtype=np.int32)
            tables.append(pa.Table.from_batches([batch]).append_column("source_index", pa.array(index)))
    return pa.concat_tables(tables).combine_chunks() if tables else pa.table({})


def read_id_conflicts(names: Sequence[str], *, directory: str, partition: int) -> pa.Table:
    """The conflicts whose texts lie in one partition."""
    tables = [CONFLICT_SCHEMA.empty_table()]
    for name in names:
        place = storage.resolve(storage.join(directory, name))
        chosen = [("partition", "=", partition)]
        tables.append(pq.read_table(place.path, filesystem=place.fs, filters=chosen, partitioning=None))
    return pa.concat_tables(tables)
