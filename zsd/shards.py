"""The store: shards of labelled rows, each committed whole, and the manifest written last.

A *unit* is one row group of one canonical corpus shard. Its output is one parquet file whose name is derived from the
unit, so that a retry overwrites itself and a rerun sees what is done by looking at the folder. What a shard cost is in
its own footer: a resumed job sums up work it did not do.

Legend: N rows, K labels.
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

FloatArray = npt.NDArray[np.float32]
SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
SOFT_LABELS = "soft_labels"
PREDICTIONS = "predictions"
FOOTER_KEY = b"zsd.unit"
MANIFEST_KEYS = frozenset({"job", "folder", "labels", "units", "rows", "rows_in", "rejected", "duplicates"})
"""What a reader of a store relies on."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A unit of work: one row group of one canonical corpus shard.

    Args:
        shard: file name under ``corpus/``.
        row_group: number of the row group.
        rows: rows in it.
    """

    shard: str
    row_group: int
    rows: int

    @property
    def part(self) -> str:
        """File name of the unit's output."""
        return f"part-{self.shard.removeprefix('shard-').removesuffix('.parquet')}-{self.row_group:05d}.parquet"


@dataclass(frozen=True, kw_only=True)
class UnitRecord:
    """What one committed unit holds and cost; kept in the shard's footer and in the manifest.

    Attributes:
        part: file name.
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
        checksum: 128-bit BLAKE2b of the file; empty inside the footer itself.
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
    checksum: str = ""


def prediction_schema(labels: int) -> pa.Schema:
    """Arrow schema of a shard of a student's predictions with K labels."""
    columns = {"id": pa.string(), "text": pa.string(), "label": pa.string(), "score": pa.float32()}
    return pa.schema([*columns.items(), ("probs", pa.list_(pa.float32(), labels))])


def soft_label_schema(labels: int) -> pa.Schema:
    """Arrow schema of a soft-label shard with K labels: a prediction and the raw logits it was made from."""
    vector = pa.list_(pa.float32(), labels)
    return pa.schema([*prediction_schema(labels), ("entailment", vector), ("contradiction", vector)])


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


def read_unit(corpus: str, unit: Unit) -> pa.Table:
    """The (id, text) rows of a unit.

    Raises:
        StoreError: the corpus shard is missing or damaged.
    """
    place = storage.resolve(storage.join(corpus, unit.shard))
    try:
        with place.fs.open_input_file(place.path) as file:
            return pq.ParquetFile(file).read_row_group(unit.row_group, columns=["id", "text"])
    except (OSError, pa.ArrowException) as error:
        raise StoreError(
            f"{place.uri}: row group {unit.row_group} cannot be read ({storage.first_line(error)}): "
            "remove the output directory and run again"
        ) from None


def commit_unit(directory: str, table: pa.Table, record: UnitRecord) -> UnitRecord:
    """Write a unit's shard, whole or not at all, and return its record with the checksum."""
    footer = {FOOTER_KEY: json.dumps(asdict(record)).encode()}
    sink = pa.BufferOutputStream()
    table = table.replace_schema_metadata(footer)
    pq.write_table(table, sink, compression="zstd", use_dictionary=["label"], store_schema=True)
    data = sink.getvalue().to_pybytes()
    storage.write_bytes_atomic(storage.join(directory, record.part), data)
    return with_checksum(record, data)


def with_checksum(record: UnitRecord, data: bytes) -> UnitRecord:
    """The record with the checksum of the file's bytes."""
    return UnitRecord(**{**asdict(record), "checksum": checksum(data)})


def checksum(data: bytes) -> str:
    """128-bit BLAKE2b hex digest."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def read_record(directory: str, part: str) -> UnitRecord:
    """The record of a committed shard, from its footer; the checksum from its bytes.

    Raises:
        StoreError: the shard is damaged or was not written by zsd.
    """
    uri = storage.join(directory, part)
    try:
        data = storage.read_bytes(uri)
        metadata = pq.read_schema(pa.BufferReader(data)).metadata or {}
        record = UnitRecord(**json.loads(metadata[FOOTER_KEY]))
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):
        raise StoreError(f"{uri}: not a shard that zsd wrote, or damaged: delete this file and run again") from None
    return with_checksum(record, data)


def pending(directory: str, units: Sequence[Unit]) -> list[Unit]:
    """The units whose output is not there yet, in order."""
    done = set(storage.list_names(directory, prefix="part-", suffix=".parquet"))
    return [unit for unit in units if unit.part not in done]


def write_json(uri: str, content: dict[str, Any]) -> None:
    """Write JSON, whole or not at all, indented and with a final newline."""
    storage.write_bytes_atomic(uri, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


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


class Store:
    """A finished store, opened for reading.

    Args:
        uri: the job's output directory, or its ``soft_labels`` or ``predictions`` folder.

    Raises:
        InputError: there is no store, or an unfinished one.
        StoreError: its manifest is damaged, or of another version of zsd.
    """

    def __init__(self, uri: str) -> None:
        root = storage.resolve(uri).uri
        head, _, last = root.rstrip("/").rpartition("/")
        self.root = head if last in (SOFT_LABELS, PREDICTIONS) else root
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
        return [str(unit["part"]) for unit in self.manifest["units"]]

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The shards one after another, each a table of the chosen columns.

        Raises:
            StoreError: a shard is missing or damaged.
        """
        for part in self.parts:
            place = storage.resolve(storage.join(self.directory, part))
            try:
                with place.fs.open_input_file(place.path) as file:
                    yield pq.read_table(file, columns=None if columns is None else list(columns))
            except (OSError, pa.ArrowException) as error:
                raise StoreError(
                    f"{place.uri}: cannot be read ({storage.first_line(error)}): zsd verify shows all damage"
                ) from None

    def read(self, columns: Sequence[str]) -> pa.Table:
        """All rows of the chosen columns in memory."""
        return pa.concat_tables(self.tables(columns))
