"""First pass over a corpus: one source is read, screened, and divided by the hash of its texts.

Legend: N rows of a batch.
"""

from __future__ import annotations

import uuid
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from zsd import storage
from zsd.corpus.normalize import KEY_TYPE, hash_texts
from zsd.corpus.partitioned import PartitionedWriter
from zsd.corpus.progress import READ, Tally
from zsd.corpus.readers import read_rows
from zsd.corpus.rows import Rejected, RowBatch
from zsd.corpus.sources import Source

PARTITION_BYTES = 256 * 2**20
REJECTED_SCHEMA = pa.schema(
    [("source", pa.string()), ("row", pa.int64()), ("reason", pa.string()), ("text", pa.string())]
)
_TEXT_FIELDS = [("row", pa.int64()), ("key", KEY_TYPE), ("text", pa.large_string())]
_TEXT_SCHEMA = pa.schema(_TEXT_FIELDS)
_TEXT_SCHEMA_WITH_ID = pa.schema([*_TEXT_FIELDS, ("id", pa.large_string())])
_ID_SCHEMA = pa.schema([("row", pa.int64()), ("id_key", KEY_TYPE), ("key", KEY_TYPE)])


@dataclass(frozen=True, kw_only=True)
class SpillResult:
    """What `spill` wrote for one source.

    Args:
        source_index: its place in the order of the sources.
        uri: the source.
        texts_file: name of the spill file with the usable rows; None if there are none.
        ids_file: name of the spill file by id; None without an id column.
        rejected_file: name of the parquet file with the rejected rows; None if there are none.
        rows: rows read, usable or not.
        rejected: how many were rejected, by reason.
        chars: characters of the usable texts.
    """

    source_index: int
    uri: str
    texts_file: str | None
    ids_file: str | None
    rejected_file: str | None
    rows: int
    rejected: dict[str, int]
    chars: int


def choose_partitions(total_bytes: int) -> int:
    """How many partitions for that many bytes of text: the power of two that keeps one below `PARTITION_BYTES`.

    A power of two, so that the partitions of a corpus that has grown are divisions of the earlier ones.
    """
    return 1 << (max(1, -(-total_bytes // PARTITION_BYTES)) - 1).bit_length()


def spill(
    source: Source,
    source_index: int,
    *,
    partitions: int,
    directory: str,
    text_column: str,
    id_column: str | None,
    limit: int | None = None,
) -> SpillResult:
    """Read one source and write its rows, divided into `partitions`, into `directory` (a path or URI).

    The names of the files hold a random part, so that two attempts at the same source never write the same file.
    Memory: about three times `partitioned.FLUSH_BYTES`, whatever the size of the source.

    Raises:
        CorpusError: the source is not what its ending says, or lacks a column.
    """
    attempt = f"{source_index:05d}-{uuid.uuid4().hex[:8]}"
    names = {kind: f"{kind}-{attempt}" for kind in ("spill", "ids", "reject")}
    schema = _TEXT_SCHEMA if id_column is None else _TEXT_SCHEMA_WITH_ID
    uris = {kind: storage.join(directory, name) for kind, name in names.items()}
    tally = Tally(directory, f"{READ}{source_index:05d}")
    rows = chars = 0
    reasons: Counter[str] = Counter()
    with (
        PartitionedWriter(uris["spill"], schema, parts=partitions, key="key") as texts,
        PartitionedWriter(uris["ids"], _ID_SCHEMA, parts=partitions, key="id_key") as ids,
        RejectedWriter(uris["reject"], source.uri) as rejects,
    ):
        for batch in read_rows(source, text_column=text_column, id_column=id_column, limit=limit):
            table = _text_table(batch)
            texts.add(table)
            if id_column is not None:
                ids.add(_id_table(table))
            rejects.add(batch.rejected)
            rows += len(batch)
            tally.add(len(batch))
            chars += pc.sum(pc.utf8_length(batch.texts)).as_py() or 0
            reasons.update(rejected.reason for rejected in batch.rejected)
    return SpillResult(
        source_index=source_index,
        uri=source.uri,
        texts_file=None if texts.is_empty else names["spill"],
        ids_file=None if ids.is_empty else names["ids"],
        rejected_file=names["reject"] if reasons else None,
        rows=rows,
        rejected=dict(reasons),
        chars=chars,
    )


def _text_table(batch: RowBatch) -> pa.Table:
    columns = {"row": pa.array(batch.rows, pa.int64()), "key": hash_texts(batch.texts), "text": batch.texts}
    if batch.ids is not None:
        columns["id"] = batch.ids
    return pa.table(columns)


def _id_table(table: pa.Table) -> pa.Table:
    id_keys = hash_texts(table["id"].combine_chunks())
    return pa.table([table["row"], id_keys, table["key"]], schema=_ID_SCHEMA)


class RejectedWriter:
    """Writes rejected rows of one source as parquet, batch by batch; no file if there are none."""

    def __init__(self, uri: str, source_uri: str) -> None:
        self._uri, self._source_uri = uri, source_uri
        self._stack = ExitStack()
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> RejectedWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, rejected: list[Rejected]) -> None:
        """Write these rows after the earlier ones."""
        if not rejected:
            return
        if self._writer is None:
            stream = self._stack.enter_context(storage.open_scratch(self._uri))
            self._writer = self._stack.enter_context(pq.ParquetWriter(stream, REJECTED_SCHEMA))
        rows, reasons, texts = zip(*rejected, strict=True)
        columns = [[self._source_uri] * len(rows), rows, reasons, texts]
        self._writer.write_table(pa.table(columns, schema=REJECTED_SCHEMA))
