"""Second pass over a corpus: one partition of all sources becomes a shard without duplicates.

Legend: N usable rows of the partition, in the order of the corpus.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from zsd import storage
from zsd.corpus.conflicts import first_of_each, read_id_conflicts
from zsd.corpus.normalize import KEY_TYPE, ids_from_keys
from zsd.corpus.partitioned import read_part
from zsd.corpus.progress import SIFTED, Tally
from zsd.corpus.rows import PREFIX_CHARS
from zsd.corpus.spill import REJECTED_SCHEMA, SpillResult

SHARD_SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string())])
DUPLICATES_SCHEMA = pa.schema(
    [("source", pa.string()), ("row", pa.int64()), ("id", pa.string()), ("duplicate_of", pa.string())]
)
_INDEX_SCHEMA = pa.schema(
    [("source_index", pa.int32()), ("row", pa.int64()), ("key", KEY_TYPE), ("id", pa.large_string())]
)
_TEXT_SCHEMA = pa.schema([("id", pa.large_string()), ("text", pa.large_string())])
ID_IN_USE = "id already used by another text"


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One shard of the corpus: its file name, its rows, and the rows of each of its row groups."""

    name: str
    rows: int
    row_groups: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ReduceResult:
    """What became of one partition.

    Args:
        shard: what was written; None if no row was kept.
        duplicates: rows with a text that an earlier row has.
        conflicts: rows rejected because an earlier, different text has their id.
        rejected_file: name, in the spill folder, of the parquet file of these; None if there are none.
    """

    shard: Shard | None
    duplicates: int
    conflicts: int
    rejected_file: str | None


def reduce_partition(
    partition: int,
    *,
    partitions: int,
    spills: Sequence[SpillResult],
    directory: str,
    output: str,
    unit_rows: int,
    conflicts: Sequence[str] = (),
) -> ReduceResult:
    """Write ``OUTPUT/corpus/shard-PARTITION.parquet`` and, if any, ``OUTPUT/duplicates/part-PARTITION.parquet``.

    Args:
        partition: which one, from 0.
        partitions: how many there are.
        spills: what `spill` returned, in the order of the sources.
        directory: the spill folder.
        output: the job's folder.
        unit_rows: rows in every row group but the last.
        conflicts: the names that `write_id_conflicts` returned.

    Memory: the keys of the partition (and its ids, if they were given) and a few blocks of text.
    """
    part = _Part(partition, partitions, tuple(spills), directory)
    index = _read_index(part)
    clashes = read_id_conflicts(conflicts, directory=directory, partition=partition)
    clashing = np.searchsorted(_places(index), _places(clashes))
    kept, duplicates, originals = _keep_first(index["key"].combine_chunks(), clashing)
    shard = None
    if len(kept):
        shard = Shard(name=f"shard-{partition:05d}.parquet", rows=len(kept), row_groups=_sizes(len(kept), unit_rows))
        tally = Tally(directory, f"{SIFTED}{partition:05d}")
        units = chunked(tally.passed(_read_texts(part, index, kept)), unit_rows)
        storage.write_table_atomic(storage.join(output, "corpus", shard.name), units, schema=SHARD_SCHEMA)
    if len(duplicates):
        table = _duplicates_table(part, index, duplicates, originals)
        storage.write_table_atomic(storage.join(output, "duplicates", f"part-{partition:05d}.parquet"), table)
    rejected_file = _write_clashes(part, index, clashing, clashes) if len(clashing) else None
    return ReduceResult(shard=shard, duplicates=len(duplicates), conflicts=len(clashing), rejected_file=rejected_file)


def chunked(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of exactly `rows` rows, the last one shorter."""
    pending = None
    for table in tables:
        pending = table if pending is None else pa.concat_tables([pending, table])
        whole = pending.num_rows - pending.num_rows % rows
        for start in range(0, whole, rows):
            yield pending.slice(start, rows)
        pending = pending.slice(whole)
    if pending is not None and pending.num_rows:
        yield pending


@dataclass(frozen=True)
class _Part:
    """One partition of all spill files."""

    partition: int
    partitions: int
    spills: tuple[SpillResult, ...]
    directory: str

    def batches(self, *columns: str) -> Iterator[tuple[SpillResult, pa.RecordBatch]]:
        """Its record batches with the columns that are asked for and there, in the order of the corpus."""
        for spilled in self.spills:
            if spilled.texts_file is not None:
                uri = storage.join(self.directory, spilled.texts_file)
                for batch in read_part(uri, self.partition, parts=self.partitions, columns=columns):
                    yield spilled, batch

    def uris(self, source_indexes: pa.ChunkedArray) -> pa.Array:
        """The sources with these indexes."""
        uri_of = {spilled.source_index: spilled.uri for spilled in self.spills}
        return pa.array([uri_of[index] for index in source_indexes.to_pylist()], pa.string())


def _read_index(part: _Part) -> pa.Table:
    """Source index, row, key and id of the N rows: all but their texts."""
    tables = [_INDEX_SCHEMA.empty_table()]
    for spilled, batch in part.batches("row", "key", "id"):
        source = pa.array(np.full(batch.num_rows, spilled.source_index, dtype=np.int32))
        ids = batch["id"] if "id" in batch.schema.names else ids_from_keys(batch["key"])
        tables.append(pa.table([source, batch["row"], batch["key"], ids], schema=_INDEX_SCHEMA))
    return pa.concat_tables(tables)


def _places(table: pa.Table) -> npt.NDArray[np.int64]:
    """One rising number for source index and row; a source has fewer than 2**40 rows."""
    source = table["source_index"].to_numpy().astype(np.int64)
    return np.asarray((source << 40) + table["row"].to_numpy())


def _keep_first(
    keys: pa.Array, clashing: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Of the rows that do not clash: the first of each key, the others, and the first that each of those repeats."""
    standing = np.delete(np.arange(len(keys)), clashing)
    firsts = standing[first_of_each(keys.take(pa.array(standing)))]
    is_first = firsts == standing
    return standing[is_first], standing[~is_first], firsts[~is_first]


def _read_texts(part: _Part, index: pa.Table, positions: npt.NDArray[np.int64]) -> Iterator[pa.Table]:
    """Id and text of the rows at these positions of the index (rising), block by block."""
    start = 0
    for _, batch in part.batches("text"):
        low, high = np.searchsorted(positions, [start, start + batch.num_rows])
        chosen = positions[low:high]
        texts = batch["text"].take(pa.array(chosen - start))
        yield pa.table([index["id"].take(pa.array(chosen)), texts], schema=_TEXT_SCHEMA)
        start += batch.num_rows


def _duplicates_table(
    part: _Part, index: pa.Table, duplicates: npt.NDArray[np.int64], originals: npt.NDArray[np.int64]
) -> pa.Table:
    rows = index.take(pa.array(duplicates))
    originals_ids = index["id"].take(pa.array(originals))
    columns = [part.uris(rows["source_index"]), rows["row"], rows["id"], originals_ids]
    return pa.table(columns, names=DUPLICATES_SCHEMA.names).cast(DUPLICATES_SCHEMA)


def _write_clashes(part: _Part, index: pa.Table, clashing: npt.NDArray[np.int64], clashes: pa.Table) -> str:
    """The rows whose id an earlier text has, as a parquet file of rejected rows in the spill folder."""
    order = np.argsort(clashing)
    clashes = clashes.take(pa.array(order))
    texts = pa.concat_tables(_read_texts(part, index, clashing[order]))["text"]
    origins = zip(part.uris(clashes["first_source_index"]).to_pylist(), clashes["first_row"].to_pylist(), strict=True)
    columns = {
        "source": part.uris(clashes["source_index"]),
        "row": clashes["row"],
        "reason": [f"{ID_IN_USE} ({uri}:{row})" for uri, row in origins],
        "text": pc.utf8_slice_codeunits(texts, 0, PREFIX_CHARS),
    }
    name = f"reject-conflict-{part.partition:05d}"
    storage.write_table_atomic(storage.join(part.directory, name), pa.table(columns).cast(REJECTED_SCHEMA))
    return name


def _sizes(rows: int, unit_rows: int) -> tuple[int, ...]:
    """Rows of every row group."""
    rest = rows % unit_rows
    return (unit_rows,) * (rows // unit_rows) + ((rest,) if rest else ())
