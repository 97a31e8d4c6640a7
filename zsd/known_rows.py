"""One corpus shard divided by what earlier stores know of its rows: all their logits, some of them, none.

Legend: N rows, K labels and H hypotheses of the new job.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from zsd import storage
from zsd.corpus import Shard
from zsd.corpus.normalize import hash_texts
from zsd.errors import StoreError
from zsd.label_tables import soft_label_table
from zsd.labels import LabelSet
from zsd.shard_writer import ShardWriter
from zsd.shards import (
    LOGITS,
    SOFT_LABELS,
    TEMPLATE_LOGITS,
    Store,
    UnitRecord,
    commit_unit,
    matrix,
    vectors,
)
from zsd.units import Unit, parse_part

FloatArray = npt.NDArray[np.float32]
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
        made_by: for each store, what ran when its logits were made.
    """

    shards: tuple[Shard, ...]
    rows: int
    partly: int
    made_by: tuple[dict[str, Any], ...] = ()

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Reused:
        """Read what was written to ``corpus/reuse.json``."""
        shards = tuple(Shard(**shard | {"row_groups": tuple(shard["row_groups"])}) for shard in data["shards"])
        return cls(shards=shards, rows=data["rows"], partly=data["partly"], made_by=tuple(data.get("made_by", ())))


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
            known = stack.enter_context(ShardWriter(self.corpus, f"{self.stem}-known.parquet", ROWS_SCHEMA, None))
            for number, uri in enumerate(self.task.stores):
                store = Store(uri)
                name = f"{self.stem}-more{number}.parquet"
                vector = pa.list_(pa.float32(), len(self.task.labels.hypotheses))
                schema = pa.schema([*ROWS_SCHEMA, *((column, vector) for column in LOGITS)])
                more = stack.enter_context(ShardWriter(self.corpus, name, schema, self.task.unit_rows))
                self._take(store, known, more)
                shards.append(more)
            rest = stack.enter_context(
                ShardWriter(self.corpus, f"{self.stem}-rest.parquet", ROWS_SCHEMA, self.task.unit_rows)
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

    def _take(self, store: Store, known: ShardWriter, more: ShardWriter) -> None:
        """All rows of a store that are in this shard and not taken yet."""
        theirs = LabelSet.from_dict(store.manifest["labels"])
        hypotheses = theirs.hypotheses
        columns = [hypotheses.index(one) if one in hypotheses else -1 for one in self.task.labels.hypotheses]
        logit_columns = LOGITS if len(theirs.templates) == 1 else TEMPLATE_LOGITS
        if all(column < 0 for column in columns):
            return
        for part in store.parts:
            if not self._may_hold(store, part):
                continue
            table = _read(store, part, logit_columns)
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
            logits = [_columns(matrix(table[name])[wanted], columns) for name in logit_columns]
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

    def _commit(self, rows: pa.Table, logits: list[FloatArray], known: ShardWriter, store: Store) -> None:
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
            precision="+".join(sorted({str(one["precision"]) for one in store.manifest["engines"]})),
        )
        commit_unit(storage.join(self.task.output, SOFT_LABELS), labelled, record)


def _read(store: Store, part: str, logits: Sequence[str]) -> pa.Table:
    """Texts and logits of one file of a store.

    Raises:
        StoreError: it is missing or damaged.
    """
    uri = storage.join(store.directory, part)
    try:
        return storage.read_parquet(uri, ["text", *logits])
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{uri}: cannot be read ({storage.first_line(error)}): zsd verify shows all damage") from None


def _columns(logits: FloatArray, columns: Sequence[int]) -> FloatArray:
    """[N, H] logits of the earlier store's hypotheses in the new order; not-a-number where a hypothesis is new."""
    result_NH = np.full((len(logits), len(columns)), np.nan, dtype=np.float32)
    for new, old in enumerate(columns):
        if old >= 0:
            result_NH[:, new] = logits[:, old]
    return result_NH
