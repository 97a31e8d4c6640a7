"""What earlier stores already know about a corpus: rows with all their logits, rows that lack some classes, the rest.

::

    corpus/shard-00000.parquet  ->  corpus/shard-00000-known.parquet   and soft_labels/part-00000-known-*.parquet
                                    corpus/shard-00000-more0.parquet   id, text, and the logits that store 0 has
                                    corpus/shard-00000-rest.parquet

Rows are matched by the hash of their text, so a corpus that was moved, sorted or cut anew costs nothing. Raw logits
are what is reused: the new job's temperature, mode and order of classes apply.

Legend: N rows, K labels of the new job.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from zsd import storage
from zsd.corpus import IngestResult, Shard
from zsd.corpus.normalize import NORMALIZATION, hash_texts
from zsd.errors import OutputError, StoreError
from zsd.labelling import soft_label_table
from zsd.labels import LabelSet
from zsd.shards import (
    SOFT_LABELS,
    Store,
    UnitRecord,
    commit_unit,
    matrix,
    read_json,
    soft_label_schema,
    vectors,
    write_json,
)
from zsd.units import Unit, parse_part

FloatArray = npt.NDArray[np.float32]
SAME = ("teacher_fingerprint", "nli_classes", "max_length", "long_text", "normalization")
"""What must be equal for two jobs' logits to be the same, beside the template."""

LOGITS = ("entailment", "contradiction")
ROWS_SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string())])


@dataclass(frozen=True, kw_only=True)
class ReuseTask:
    """One corpus shard against all stores; picklable.

    Args:
        output: the new job's directory.
        shard: the corpus shard.
        partitions: shards of the whole corpus.
        unit_rows: rows of a row group.
        stores: directories of finished stores that fit, see `check_reusable`.
        labels: what is asked now.
        temperature: of the soft labels.
    """

    output: str
    shard: Shard
    partitions: int
    unit_rows: int
    stores: tuple[str, ...]
    labels: LabelSet
    temperature: float


@dataclass(frozen=True, kw_only=True)
class Reused:
    """What became of one corpus shard, or of all of them.

    Attributes:
        shards: the shards to label instead of it.
        rows: rows of which all classes were known.
        partly: rows of which some were.
    """

    shards: tuple[Shard, ...]
    rows: int
    partly: int

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Reused:
        """Read what was written to ``corpus/reuse.json``."""
        shards = tuple(Shard(**shard | {"row_groups": tuple(shard["row_groups"])}) for shard in data["shards"])
        return cls(shards=shards, rows=data["rows"], partly=data["partly"])


def reuse_stores(
    output: str,
    ingest: IngestResult,
    stores: Sequence[str],
    labels: LabelSet,
    temperature: float,
    run: Callable[[Callable[[ReuseTask], Reused], Iterable[ReuseTask]], Iterable[Reused]] = map,
) -> Reused:
    """Take from finished stores what they know of a corpus; done once, and remembered in ``corpus/reuse.json``.

    Args:
        output: the new job's directory, with its corpus.
        ingest: of that corpus.
        stores: directories of stores that fit, see `check_reusable`.
        labels: what is asked now.
        temperature: of the soft labels.
        run: a map-like callable.
    """
    record = storage.join(output, "corpus", "reuse.json")
    if storage.exists(record):
        return Reused.from_dict(read_json(record))
    tasks = [
        ReuseTask(
            output=output,
            shard=shard,
            partitions=ingest.partitions,
            unit_rows=ingest.inputs.unit_rows,
            stores=tuple(stores),
            labels=labels,
            temperature=temperature,
        )
        for shard in ingest.shards
    ]
    done = list(run(reuse_shard, tasks))
    result = Reused(
        shards=tuple(shard for one in done for shard in one.shards),
        rows=sum(one.rows for one in done),
        partly=sum(one.partly for one in done),
    )
    write_json(record, asdict(result))
    return result


def check_reusable(store: Store, identity: dict[str, Any]) -> None:
    """Refuse a store whose logits another teacher, template or normalization made.

    Raises:
        OutputError: it does not fit; what differs is named.
    """
    manifest = store.manifest
    asked = {**identity, "template": identity["labels"]["template"], "normalization": NORMALIZATION}
    found = {**manifest, "template": manifest["labels"]["template"]}
    changes = [
        f"{key} was {found.get(key)!r}, now {asked[key]!r}"
        for key in (*SAME, "template")
        if found.get(key) != asked[key]
    ]
    if manifest["folder"] != SOFT_LABELS:
        changes = ["it holds a student's predictions and no logits"]
    if changes:
        raise OutputError(
            f"--reuse {store.root}: its logits are not those of this job: {'; '.join(changes)}: leave it away, or give "
            "--reuse-other recompute"
        )


def reuse_shard(task: ReuseTask) -> Reused:
    """Take from the stores what they know of a shard, and write what is left as shards of its own.

    Memory: the keys of the shard, and one part of a store.

    Raises:
        StoreError: a part of a store cannot be read.
    """
    return _Split(task).run()


class _Split:
    """One shard being divided."""

    def __init__(self, task: ReuseTask) -> None:
        self.task = task
        self.stem = task.shard.name.removesuffix(".parquet")
        self.corpus = storage.join(task.output, "corpus")
        self.file = storage.join(self.corpus, task.shard.name)
        ids, keys = [], []
        for table in self._row_groups():
            ids.append(table["id"])
            keys.append(hash_texts(table["text"].cast(pa.large_string()).combine_chunks()))
        self.ids = pa.chunked_array([chunk for column in ids for chunk in column.chunks]).combine_chunks()
        self.keys = pa.concat_arrays(keys)
        self.taken = np.zeros(len(self.ids), dtype=bool)

    def run(self) -> Reused:
        shards = []
        with ExitStack() as stack:
            known = stack.enter_context(_ShardWriter(self.corpus, f"{self.stem}-known.parquet", ROWS_SCHEMA, None))
            for number, uri in enumerate(self.task.stores):
                store = Store(uri)
                name = f"{self.stem}-more{number}.parquet"
                logits = [soft_label_schema(len(self.task.labels)).field(column) for column in LOGITS]
                schema = pa.schema([*ROWS_SCHEMA, *logits])
                more = stack.enter_context(_ShardWriter(self.corpus, name, schema, self.task.unit_rows))
                self._take(store, known, more)
                shards.append(more)
            rest = stack.enter_context(
                _ShardWriter(self.corpus, f"{self.stem}-rest.parquet", ROWS_SCHEMA, self.task.unit_rows)
            )
            if self.taken.any():
                for table in self._untaken():
                    rest.add(table)
        if not self.taken.any():
            return Reused(shards=(self.task.shard,), rows=0, partly=0)
        written = [writer.shard() for writer in (known, *shards, rest)]
        return Reused(
            shards=tuple(shard for shard in written if shard.rows),
            rows=written[0].rows,
            partly=sum(shard.rows for shard in written[1:-1]),
        )

    def _row_groups(self) -> Iterator[pa.Table]:
        place = storage.resolve(self.file)
        with place.fs.open_input_file(place.path) as file:
            parquet = pq.ParquetFile(file)
            for group in range(parquet.num_row_groups):
                yield parquet.read_row_group(group)

    def _untaken(self) -> Iterator[pa.Table]:
        start = 0
        for table in self._row_groups():
            free = ~self.taken[start : start + table.num_rows]
            start += table.num_rows
            yield table.filter(pa.array(free)).cast(ROWS_SCHEMA)

    def _take(self, store: Store, known: _ShardWriter, more: _ShardWriter) -> None:
        """All rows of a store that are in this shard and not taken yet."""
        names = list(store.manifest["labels"]["names"])
        columns = [names.index(name) if name in names else -1 for name in self.task.labels.names]
        if all(column < 0 for column in columns):
            return
        for part in store.parts:
            if not self._may_hold(store, part):
                continue
            table = _read(store, part)
            keys = hash_texts(table["text"].cast(pa.large_string()).combine_chunks())
            found = pc.index_in(keys, value_set=self.keys)
            places = found.fill_null(-1).to_numpy(zero_copy_only=False)
            wanted = np.flatnonzero((places >= 0) & ~self.taken[places])
            if not len(wanted):
                continue
            self.taken[places[wanted]] = True
            rows = pa.table(
                {"id": self.ids.take(pa.array(places[wanted])), "text": table["text"].take(pa.array(wanted))}
            ).cast(ROWS_SCHEMA)
            logits = [_columns(matrix(table[name])[wanted], columns) for name in LOGITS]
            if min(columns) < 0:
                named = zip(LOGITS, map(vectors, logits), strict=True)
                more.add(pa.table({"id": rows["id"], "text": rows["text"], **dict(named)}))
            else:
                self._commit(rows, logits, known, store)

    def _may_hold(self, store: Store, part: str) -> bool:
        """Whether a part's rows can be in this shard: both corpora were divided by the same hash."""
        found = parse_part(part)
        theirs = store.manifest["partitions"]
        if found is None:
            return True
        step = math.gcd(theirs, self.task.partitions)
        return int(found.stem.split("-")[0]) % step == int(self.stem.split("-")[1]) % step

    def _commit(self, rows: pa.Table, logits: list[FloatArray], known: _ShardWriter, store: Store) -> None:
        unit = Unit(shard=known.name, first=known.groups, sizes=(rows.num_rows,))
        known.add(rows)
        labelled = soft_label_table(rows, logits[0], logits[1], self.task.labels, self.task.temperature)
        record = UnitRecord(
            part=unit.part,
            rows=rows.num_rows,
            pairs=0,
            tokens=0,
            truncated=0,
            padding_waste=0.0,
            seconds=0.0,
            started=time.time(),
            worker="reuse - -",
            engine=str(store.manifest["engine"]),
            precision="as it was",
        )
        commit_unit(storage.join(self.task.output, SOFT_LABELS), labelled, record)


def _read(store: Store, part: str) -> pa.Table:
    """Texts and logits of one file of a store.

    Raises:
        StoreError: it is missing or damaged.
    """
    uri = storage.join(store.directory, part)
    try:
        return storage.read_parquet(uri, ["text", *LOGITS])
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{uri}: cannot be read ({storage.first_line(error)}): zsd verify shows all damage") from None


class _ShardWriter:
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

    def __enter__(self) -> _ShardWriter:
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


def _columns(logits_NK: FloatArray, columns: Sequence[int]) -> FloatArray:
    """The columns in the new order; not-a-number where a class is new."""
    result_NK = np.full((len(logits_NK), len(columns)), np.nan, dtype=np.float32)
    for new, old in enumerate(columns):
        if old >= 0:
            result_NK[:, new] = logits_NK[:, old]
    return result_NK
