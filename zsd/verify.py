"""Is a store what its manifest says? Every shard present, readable, unchanged; ids unique; counts equal.

Legend: N rows, K labels.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from zsd import storage
from zsd.shards import PREDICTIONS, Store, checksum, matrix, prediction_schema, soft_label_schema


@dataclass(kw_only=True)
class Verification:
    """What `verify_store` found.

    Attributes:
        uri: the store.
        rows: rows read from the shards.
        shards: shards the manifest lists.
        problems: one line each, naming the file; empty when the store is sound.
    """

    uri: str
    rows: int = 0
    shards: int = 0
    problems: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {"uri": self.uri, "ok": not self.problems, **vars(self)}


def verify_store(uri: str) -> Verification:
    """Read a whole finished store and compare it with its manifest.

    Memory: 8 bytes a row.

    Raises:
        StoreError: there is no finished store to compare.
    """
    store = Store(uri)
    result = Verification(uri=store.root, shards=len(store.parts))
    listed = {unit["part"]: unit for unit in store.manifest["units"]}
    found = set(storage.list_names(store.directory))
    result.problems += [f"{part}: missing" for part in sorted(listed.keys() - found)]
    result.problems += [f"{part}: foreign: the manifest does not list it" for part in sorted(found - listed.keys())]
    hashes: list[np.ndarray[Any, np.dtype[np.uint64]]] = []
    for part in sorted(listed.keys() & found):
        table = _check_shard(store, part, listed[part], result)
        if table is not None:
            result.rows += table.num_rows
            hashes.append(_id_hashes(table["id"]))
    if hashes:
        _check_unique(store, np.concatenate(hashes), result)
    _check_counts(store, result)
    return result


def _check_shard(store: Store, part: str, unit: dict[str, Any], result: Verification) -> pa.Table | None:
    data = storage.read_bytes(storage.join(store.directory, part))
    if checksum(data) != unit["checksum"]:
        result.problems.append(f"{part}: changed since it was written: its checksum is not the manifest's")
    try:
        table = pq.read_table(pa.BufferReader(data))
    except (pa.ArrowException, OSError) as error:
        result.problems.append(f"{part}: unreadable: {storage.first_line(error)}")
        return None
    labels = store.manifest["labels"]
    schema = (prediction_schema if store.manifest["folder"] == PREDICTIONS else soft_label_schema)(len(labels["names"]))
    if not table.schema.equals(schema):
        result.problems.append(f"{part}: its columns are not those of this store")
        return None
    if table.num_rows != unit["rows"]:
        result.problems.append(f"{part}: {table.num_rows} rows, the manifest says {unit['rows']}")
    _check_probs(part, table, labels["multi_label"], result)
    return table


def _check_probs(part: str, table: pa.Table, multi_label: bool, result: Verification) -> None:
    probs_NK = matrix(table["probs"])
    if not (np.isfinite(probs_NK).all() and (probs_NK >= 0).all() and (probs_NK <= 1).all()):
        result.problems.append(f"{part}: a probability is not in [0, 1]")
    elif not multi_label and not np.allclose(probs_NK.sum(axis=1), 1, atol=1e-4):
        result.problems.append(f"{part}: the probabilities of a row do not sum to 1")


def _id_hashes(ids: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[np.uint64]]:
    digests = b"".join(hashlib.blake2b(i.encode(), digest_size=8).digest() for i in ids.to_pylist())
    return np.frombuffer(digests, dtype=np.uint64)


def _check_unique(store: Store, hashes: np.ndarray[Any, np.dtype[np.uint64]], result: Verification) -> None:
    values, counts = np.unique(hashes, return_counts=True)
    suspects = values[counts > 1]
    if not len(suspects):
        return
    seen: dict[str, str] = {}
    for part, table in zip(store.parts, store.tables(["id"]), strict=True):
        mask = np.isin(_id_hashes(table["id"]), suspects)
        for one in table["id"].filter(pa.array(mask)).to_pylist():
            if one in seen:
                result.problems.append(f"{part}: id {one!r} is also in {seen[one]}")
            seen.setdefault(one, part)


def _check_counts(store: Store, result: Verification) -> None:
    manifest = store.manifest
    if result.rows != manifest["rows"]:
        result.problems.append(f"the shards hold {result.rows} rows, the manifest says {manifest['rows']}")
    total = manifest["rows"] + manifest["rejected"] + manifest["duplicates"]
    if total != manifest["rows_in"]:
        result.problems.append(f"manifest: rows + rejected + duplicates = {total}, rows_in = {manifest['rows_in']}")
    for folder in ("rejected", "duplicates"):
        directory = storage.join(store.root, folder)
        rows = 0
        for name in storage.list_names(directory, suffix=".parquet"):
            place = storage.resolve(storage.join(directory, name))
            try:
                with place.fs.open_input_file(place.path) as file:
                    rows += pq.ParquetFile(file).metadata.num_rows
            except (pa.ArrowException, OSError) as error:
                result.problems.append(f"{folder}/{name}: unreadable: {storage.first_line(error)}")
        if rows != manifest[folder]:
            result.problems.append(f"{folder}/ holds {rows} rows, the manifest says {manifest[folder]}")


def summary(result: Verification) -> str:
    """One line for a sound store, one for each problem otherwise."""
    if not result.problems:
        return f"{result.uri}: sound: {result.rows:,} rows in {result.shards:,} shards"
    return "\n".join(f"{result.uri}: {problem}" for problem in result.problems)


def to_json(result: Verification) -> str:
    """The result as JSON text."""
    return json.dumps(result.to_dict(), indent=2)
