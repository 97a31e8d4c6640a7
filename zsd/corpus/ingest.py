"""User files to the canonical corpus of a job: every row is kept, rejected or a duplicate, and the sum is checked.

::

    OUTPUT/corpus/shard-*.parquet            id, text
    OUTPUT/corpus/ingest.json                what was read and what became of it; written last
    OUTPUT/rejected/part-ingest-*.parquet    source, row, reason, text (a prefix)
    OUTPUT/duplicates/part-*.parquet         source, row, id, duplicate_of

`ingest_local` chains the passes through a map-like callable, so a cluster can run each call as a task.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from zsd import storage
from zsd.corpus.columns import columns_there_are
from zsd.corpus.conflicts import write_id_conflicts
from zsd.corpus.folder import IngestFolder
from zsd.corpus.normalize import NORMALIZATION
from zsd.corpus.progress import watched
from zsd.corpus.read_text import NO_KEY
from zsd.corpus.readers import jsonl_keys
from zsd.corpus.record import IngestResult, Inputs
from zsd.corpus.reduce import ID_IN_USE, ReduceResult, chunked, reduce_partition
from zsd.corpus.sources import resolve_sources
from zsd.corpus.spill import REJECTED_SCHEMA, SpillResult, choose_partitions, spill
from zsd.errors import ConfigError, CorpusError, InputError

Arguments = Mapping[str, Any]
Run = Callable[[Callable[[Arguments], Any], Iterable[Arguments]], Iterable[Any]]
"""Like `map`: calls a function on every dict of keyword arguments and gives the results in order."""

_REJECTED_ROWS_A_FILE = 1_000_000
_BYTES_OF_A_ROW = 4096


def ingest_local(
    data: Sequence[str],
    output: str,
    *,
    text_column: str = "text",
    id_column: str | None = None,
    unit_rows: int,
    limit: int | None = None,
    run: Run = map,
    partitions: int | None = None,
) -> IngestResult:
    """Write the corpus of a job, or return the record of the one that is there.

    Args:
        data: what to read, see `resolve_sources`.
        output: path or URI of the job's folder.
        text_column: column, or key, of the text.
        id_column: column, or key, of the id; None: ids are hashes of the texts.
        unit_rows: rows in a row group of a shard, the unit of later work.
        limit: read only the first rows, over all sources in order.
        run: a map-like callable; functions and arguments can be pickled.
        partitions: how many shards at most; None: see `choose_partitions`.

    Raises:
        CorpusError: a source is wrong, or no row can be used.
        OutputError: `output` holds another corpus.
    """
    began = time.monotonic()
    if unit_rows < 1 or (limit is not None and limit < 1):
        raise ConfigError(f"unit_rows ({unit_rows}) and limit ({limit}) must be at least 1")
    inputs = Inputs(
        normalization=NORMALIZATION,
        text_column=text_column,
        id_column=id_column,
        limit=limit,
        unit_rows=unit_rows,
        sources=tuple(resolve_sources(data, output=output)),
    )
    folder = IngestFolder(output)
    finished = folder.finished(inputs)
    if finished is not None:
        return finished
    folder.begin()
    try:
        partitions = partitions or _partitions(inputs)
        with watched(folder.spill):
            spills, reduced = _passes(inputs, folder, partitions, run)
        result = _result(inputs, spills, reduced, partitions, time.monotonic() - began)
    except InputError:
        folder.clear()
        raise
    names = [spilled.rejected_file for spilled in spills] + [part.rejected_file for part in reduced]
    _gather_rejected([name for name in names if name is not None], folder)
    folder.finish(result)
    return result


def _partitions(inputs: Inputs) -> int:
    size = sum(source.text_bytes for source in inputs.sources)
    return choose_partitions(size if inputs.limit is None else min(size, inputs.limit * _BYTES_OF_A_ROW))


def _passes(
    inputs: Inputs, folder: IngestFolder, partitions: int, run: Run
) -> tuple[list[SpillResult], list[ReduceResult]]:
    """Both passes over the corpus; between them, the look for ids with two texts."""
    common = {"partitions": partitions, "directory": folder.spill}
    columns = {"text_column": inputs.text_column, "id_column": inputs.id_column}
    sources = [common | columns | {"source": s, "source_index": i} for i, s in enumerate(inputs.sources)]
    spills = list(run(_spill, sources) if inputs.limit is None else _spill_first(sources, inputs.limit, run))
    common["spills"] = spills
    parts = range(partitions)
    conflicts: list[str] = []
    if inputs.id_column is not None:
        found = run(_write_id_conflicts, [common | {"part": part} for part in parts])
        conflicts = [name for name in found if name is not None]
    common |= {"output": folder.output, "unit_rows": inputs.unit_rows, "conflicts": conflicts}
    return spills, list(run(_reduce_partition, [common | {"partition": part} for part in parts]))


def _spill(arguments: Arguments) -> SpillResult:
    return spill(**arguments)


def _write_id_conflicts(arguments: Arguments) -> str | None:
    return write_id_conflicts(**arguments)


def _reduce_partition(arguments: Arguments) -> ReduceResult:
    return reduce_partition(**arguments)


def _spill_first(sources: Sequence[Arguments], limit: int, run: Run) -> Iterator[SpillResult]:
    """One source after another, until `limit` rows are read."""
    for arguments in sources:
        (result,) = run(_spill, [{**arguments, "limit": limit}])
        yield result
        limit -= result.rows
        if limit == 0:
            return


def _result(
    inputs: Inputs, spills: Sequence[SpillResult], reduced: Sequence[ReduceResult], partitions: int, seconds: float
) -> IngestResult:
    """The sum of all passes.

    Raises:
        CorpusError: no row is kept.
    """
    reasons: Counter[str] = Counter()
    for spilled in spills:
        reasons.update(spilled.rejected)
    reasons[ID_IN_USE] += sum(part.conflicts for part in reduced)
    by_reason = {reason: count for reason, count in reasons.most_common() if count}
    result = IngestResult(
        inputs=inputs,
        rows=sum(spilled.rows for spilled in spills),
        kept=sum(part.shard.rows for part in reduced if part.shard),
        rejected=sum(by_reason.values()),
        rejected_by_reason=by_reason,
        duplicates=sum(part.duplicates for part in reduced),
        shards=tuple(part.shard for part in reduced if part.shard),
        partitions=partitions,
        seconds=round(seconds, 3),
    )
    if result.rows != result.kept + result.rejected + result.duplicates:
        raise AssertionError(f"rows are lost: {result}")
    if result.kept == 0:
        raise CorpusError(_nothing_usable(result, spills))
    return result


def _nothing_usable(result: IngestResult, spills: Sequence[SpillResult]) -> str:
    first, *others = result.inputs.sources
    named = first.uri + (f" and {len(others)} more" if others else "")
    if not result.rows:
        return f"{named}: holds no row: give a file with at least one text"
    reason, count = next(iter(result.rejected_by_reason.items()))
    told = f"none of the {result.rows} rows can be used, most often ({count} rows) because: {reason}"
    if reason.startswith(NO_KEY):
        where = next(spilled.source_index for spilled in spills if reason in spilled.rejected)
        told += f" (it has: {columns_there_are(jsonl_keys(result.inputs.sources[where]))})"
    return f"{named}: {told}: check the file and --text-column"


def _gather_rejected(names: Sequence[str], folder: IngestFolder) -> None:
    """Few files of all rejected rows, from the many of the spill folder."""
    files = (storage.resolve(storage.join(folder.spill, name)) for name in names)
    batches = (batch for file in files for batch in _read_batches(file))
    tables = (pa.Table.from_batches([batch], REJECTED_SCHEMA) for batch in batches)
    for index, table in enumerate(chunked(tables, _REJECTED_ROWS_A_FILE)):
        name = storage.join(folder.rejected, f"part-ingest-{index:05d}.parquet")
        storage.write_table_atomic(name, table, dictionary_columns=["source", "reason"])


def _read_batches(file: storage.Location) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(file.fs.open_input_file(file.path)) as parquet:
        yield from parquet.iter_batches()
