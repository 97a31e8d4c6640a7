"""The store: files of labelled rows, each committed whole, and the manifest written last.

A unit's output is one parquet file (`zsd.units`); when all are there, neighbours are merged (`zsd.compaction`). What
the units of a file cost is in the file's own footer: a resumed job sums up work it did not do.

Legend: N rows, K labels, T templates, H = T * K hypotheses.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from zsd import storage
from zsd.errors import InputError, StoreError
from zsd.redaction import redacted
from zsd.units import Unit

FloatArray = npt.NDArray[np.float32]
SCHEMA_VERSION = 2
MANIFEST = "manifest.json"
SOFT_LABELS = "soft_labels"
PREDICTIONS = "predictions"
FOOTER_KEY = b"zsd.units"
MANIFEST_KEYS = frozenset({"job", "folder", "labels", "shards", "rows", "rows_in", "rejected", "duplicates"})
"""What a reader of a store relies on."""


@dataclass(frozen=True, kw_only=True)
class UnitRecord:
    """What one committed unit holds and cost; kept in the footer of the file that holds it.

    Attributes:
        part: file name under which it was committed.
        rows: rows in it.
        pairs: premise/hypothesis pairs run (rows, for a student).
        tokens: real tokens run.
        truncated: rows of which the text was cut.
        padding_waste: share of computed tokens that was padding.
        seconds: wall time of the model pass.
        started: POSIX time at which the unit began, seconds.
        worker: who ran it: actor kind, node and process.
        engine: engine name.
        precision: ``fp32``, ``bf16``, ...
        windowed: rows of which the text was split into windows.
        windows: how many windows these have together.
        choice: file below ``engines/`` that says why this engine, where there is one.
        rechecked: how often a pair was run again, by a second look or a third.
        rejected: rows of the unit that the model failed on; they are not in the file.
        by_teacher: rows of a student's predictions that its teacher answered, from a store or anew.
        teacher_rows: rows that the teacher was asked about anew.
        teacher_pairs: premise/hypothesis pairs of these.
    """

    part: str
    rows: int
    pairs: int
    tokens: int
    truncated: int
    padding_waste: float
    seconds: float
    started: float
    worker: str
    engine: str
    precision: str
    windowed: int = 0
    windows: int = 0
    choice: str = ""
    rechecked: int = 0
    rejected: int = 0
    by_teacher: int = 0
    teacher_rows: int = 0
    teacher_pairs: int = 0


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """One file of a store.

    Attributes:
        part: file name.
        rows: rows in it.
        checksum: 128-bit BLAKE2b hex digest of the file.
        records: of the units it holds, in order.
    """

    part: str
    rows: int
    checksum: str
    records: tuple[UnitRecord, ...]


ANSWERED_BY = "answered_by"
"""Column of predictions with deferral: who answered the row, ``student`` or ``teacher``."""


def prediction_schema(labels: int, *, answered_by: bool = False) -> pa.Schema:
    """Arrow schema of a shard of a student's predictions with K labels, and of who answered where others may."""
    columns = {"id": pa.string(), "text": pa.string(), "label": pa.string(), "score": pa.float32()}
    who = [(ANSWERED_BY, pa.string())] if answered_by else []
    return pa.schema([*columns.items(), ("probs", pa.list_(pa.float32(), labels)), *who])


LOGITS = ("entailment", "contradiction")
"""Columns of the raw logits: [N, K], the mean over the templates where there are several."""

TEMPLATE_LOGITS = ("entailment_by_template", "contradiction_by_template")
"""Columns of the raw logits of every hypothesis, [N, H], template by template; only where there are several."""


def soft_label_schema(labels: int, templates: int = 1) -> pa.Schema:
    """Arrow schema of a soft-label shard with K labels: a prediction and the raw logits it was made from."""
    logits = [(name, pa.list_(pa.float32(), labels)) for name in LOGITS]
    each = [(name, pa.list_(pa.float32(), templates * labels)) for name in TEMPLATE_LOGITS]
    return pa.schema([*prediction_schema(labels), *logits, *(each if templates > 1 else [])])


def vectors(array_NK: FloatArray) -> pa.FixedSizeListArray:
    """[N, K] float32 as an Arrow fixed-size-list column."""
    flat = pa.array(np.ascontiguousarray(array_NK, dtype=np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, array_NK.shape[1])


def matrix(column: pa.ChunkedArray | pa.Array) -> FloatArray:
    """An Arrow fixed-size-list column as [N, K] float32."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, dtype=np.float32).reshape(len(column), column.type.list_size)


def read_row_groups(corpus: str, unit: Unit) -> list[pa.Table]:
    """The rows of a unit, one table for each of its row groups: id, text, and what else the corpus shard has.

    Raises:
        StoreError: the corpus shard is missing or damaged.
        OSError: the storage failed.
    """
    place = storage.resolve(storage.join(corpus, unit.shard))

    def read() -> list[pa.Table]:
        with place.fs.open_input_file(place.path) as file:
            parquet = pq.ParquetFile(file)
            return [parquet.read_row_group(group) for group in range(unit.first, unit.stop)]

    try:
        return storage.persistently(place, read)
    except (FileNotFoundError, pa.ArrowException) as error:
        raise StoreError(
            f"{place.uri}: row groups from {unit.first} cannot be read ({storage.first_line(error)}): "
            "remove the output directory and run again"
        ) from None


def commit_unit(directory: str, table: pa.Table, record: UnitRecord) -> UnitRecord:
    """Write a unit's file, whole or not at all, and return its record.

    Its pages have checksums: until the manifest lists the file nothing else would tell a changed byte.

    Raises:
        OSError: the storage failed.
    """
    sink = pa.BufferOutputStream()
    table = table.replace_schema_metadata(footer_of([record]))
    pq.write_table(
        table, sink, compression="zstd", use_dictionary=["label"], store_schema=True, write_page_checksum=True
    )
    storage.write_bytes_atomic(storage.join(directory, record.part), sink.getvalue().to_pybytes())
    return record


def footer_of(records: Sequence[UnitRecord]) -> dict[bytes, bytes]:
    """Schema metadata that keeps the records of a file's units."""
    return {FOOTER_KEY: json.dumps([asdict(record) for record in records]).encode()}


def checksum(data: bytes) -> str:
    """128-bit BLAKE2b hex digest."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def describe_file(directory: str, part: str) -> StoredFile:
    """What a file of the store is: its checksum, and the records in its footer.

    Raises:
        StoreError: it is missing, damaged or was not written by zsd.
    """
    uri = storage.join(directory, part)
    try:
        data = storage.read_bytes(uri)
    except FileNotFoundError:
        raise StoreError(f"{uri}: missing: run the same command again") from None
    except OSError as error:
        raise StoreError(
            f"{uri}: cannot be read ({storage.first_line(error)}): run the same command again when the storage works"
        ) from None
    try:
        parquet = pq.ParquetFile(pa.BufferReader(data))
        metadata = parquet.schema_arrow.metadata or {}
        records = tuple(UnitRecord(**one) for one in json.loads(metadata[FOOTER_KEY]))
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):
        raise StoreError(f"{uri}: not a shard that zsd wrote, or damaged: delete this file and run again") from None
    return StoredFile(part=part, rows=parquet.metadata.num_rows, checksum=checksum(data), records=records)


def write_json(uri: str, content: dict[str, Any]) -> None:
    """Write JSON, whole or not at all, indented, with a final newline and without secrets."""
    text = redacted(json.dumps(content, indent=2, ensure_ascii=False))
    storage.write_bytes_atomic(uri, f"{text}\n".encode())


def read_json(uri: str) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        StoreError: it cannot be read or is not a JSON object.
    """
    try:
        content = json.loads(storage.read_bytes(uri))
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{uri}: cannot be read: {storage.first_line(error)}") from None
    except ValueError:
        raise StoreError(f"{uri}: not valid JSON: the file is damaged") from None
    if not isinstance(content, dict):
        raise StoreError(f"{uri}: not a JSON object: the file is damaged")
    return content


def store_root(uri: str) -> str:
    """The output directory of the job that a store's URI, or that of a folder of shards, belongs to."""
    root = storage.resolve(uri).uri
    head, _, last = root.rstrip("/").rpartition("/")
    return head if last in (SOFT_LABELS, PREDICTIONS) else root


class Store:
    """A finished store, opened for reading.

    Args:
        uri: the job's output directory, or its ``soft_labels`` or ``predictions`` folder.

    Raises:
        InputError: there is no store, or an unfinished one.
        StoreError: its manifest is damaged, or of another version of zsd.
    """

    def __init__(self, uri: str) -> None:
        self.root = store_root(uri)
        if not storage.exists(storage.join(self.root, MANIFEST)):
            state = "holds no store: give the --output directory of a finished zsd label"
            if any(storage.exists(storage.join(self.root, f"job-{job}.json")) for job in ("label", "predict")):
                state = "holds an unfinished job: run the same command again to finish it"
            raise InputError(f"{uri}: {state}")
        self.manifest = read_json(storage.join(self.root, MANIFEST))
        if self.manifest.get("schema") != SCHEMA_VERSION:
            raise StoreError(f"{uri}: manifest schema {self.manifest.get('schema')!r} is not {SCHEMA_VERSION}")
        missing = sorted(MANIFEST_KEYS - self.manifest.keys())
        if missing:
            raise StoreError(f"{uri}: its manifest.json lacks {missing[0]!r}: the file is damaged")
        self.directory = storage.join(self.root, str(self.manifest["folder"]))

    @property
    def parts(self) -> list[str]:
        """File names of the shards, in order."""
        return [str(shard["part"]) for shard in self.manifest["shards"]]

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The shards one after another, each a table of the chosen columns.

        Raises:
            StoreError: a shard is missing or damaged.
        """
        return (self.table(part, columns) for part in self.parts)

    def table(self, part: str, columns: Sequence[str] | None = None) -> pa.Table:
        """One shard, as a table of the chosen columns.

        Raises:
            StoreError: the shard is missing or damaged.
        """
        uri = storage.join(self.directory, part)
        try:
            return storage.read_parquet(uri, columns)
        except (OSError, pa.ArrowException) as error:
            raise StoreError(
                f"{uri}: cannot be read ({storage.first_line(error)}): zsd verify shows all damage"
            ) from None

    def read(self, columns: Sequence[str]) -> pa.Table:
        """All rows of the chosen columns in memory."""
        return pa.concat_tables(self.tables(columns))
