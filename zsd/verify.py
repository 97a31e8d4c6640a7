"""Is a store what its manifest says? Every shard present, readable, unchanged; ids unique; counts equal.

Legend: N rows, K labels.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from zsd import storage
from zsd.shards import (
    LOGITS,
    MANIFEST,
    PREDICTIONS,
    TEMPLATE_LOGITS,
    Store,
    checksum,
    matrix,
    prediction_schema,
    soft_label_schema,
)

Hashes = npt.NDArray[np.uint64]
MOST_SHOWN = 20


@dataclass(kw_only=True)
class Verification:
    """What `verify_store` found.

    Attributes:
        uri: the store.
        directory: folder of its shards.
        rows: rows read from the shards.
        shards: shards the manifest lists.
        problems: one line each, naming the file; empty when the store is sound.
        damaged: files of the store that `repair_store` puts aside.
        foreign: those of them that are of no use to it even when whole.
        missing: files that the manifest lists and that are not there.
        finished: whether there is a manifest.
    """

    uri: str
    directory: str = ""
    rows: int = 0
    shards: int = 0
    problems: list[str] = field(default_factory=list)
    damaged: set[str] = field(default_factory=set)
    foreign: set[str] = field(default_factory=set)
    missing: list[str] = field(default_factory=list)
    finished: bool = True

    def damage(self, part: str, problem: str) -> None:
        """A file of the store is not what it should be."""
        self.problems.append(f"{part}: {problem}")
        self.damaged.add(part)

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        sets = {"damaged": sorted(self.damaged), "foreign": sorted(self.foreign)}
        return {"uri": self.uri, "ok": not self.problems, **vars(self), **sets}


def verify_store(uri: str) -> Verification:
    """Read a whole finished store and compare it with its manifest.

    Memory: one shard, and 8 bytes a row.

    Raises:
        InputError: there is no finished store to compare.
        StoreError: its manifest is damaged.
    """
    store = Store(uri)
    result = Verification(uri=store.root, directory=store.directory, shards=len(store.parts))
    listed = {shard["part"]: shard for shard in store.manifest["shards"]}
    found = set(storage.list_names(store.directory))
    if len(listed) < len(store.parts):
        result.problems.append("manifest: lists a shard twice")
    result.missing = sorted(listed.keys() - found)
    result.problems += [f"{part}: missing" for part in result.missing]
    for part in sorted(found - listed.keys()):
        result.foreign.add(part)
        result.damage(part, "foreign: the manifest does not list it")
    hashes: dict[str, Hashes] = {}
    for part in sorted(listed.keys() & found):
        table = _check_shard(store, part, listed[part], result)
        if table is not None:
            result.rows += table.num_rows
            hashes[part] = _id_hashes(table["id"])
    _check_unique(store, hashes, result)
    _check_counts(store, result)
    return result


def _check_shard(store: Store, part: str, listed: dict[str, Any], result: Verification) -> pa.Table | None:
    """The shard's table where it can be read and has the columns of this store."""
    try:
        data = storage.read_bytes(storage.join(store.directory, part))
        if checksum(data) != listed["checksum"]:
            result.damage(part, "changed since it was written: its checksum is not the manifest's")
        table = pq.read_table(pa.BufferReader(data))
    except (pa.ArrowException, OSError) as error:
        result.damage(part, f"unreadable: {storage.first_line(error)}")
        return None
    labels = store.manifest["labels"]
    count, templates = len(labels["names"]), 1 + len(labels.get("more_templates", ()))
    predictions = store.manifest["folder"] == PREDICTIONS
    refereed = "deferral" in store.manifest
    schema = prediction_schema(count, answered_by=refereed) if predictions else soft_label_schema(count, templates)
    if not table.schema.equals(schema):
        result.damage(part, "its columns are not those of this store")
        return None
    if table.num_rows != listed["rows"]:
        result.damage(part, f"{table.num_rows} rows, the manifest says {listed['rows']}")
    empty = [name for name in table.column_names if _has_null(table[name])]
    if empty:
        result.damage(part, f"a value is missing in column {', '.join(empty)}")
        return None
    for problem in _wrong_values(table, labels):
        result.damage(part, problem)
    return table


def _has_null(column: pa.ChunkedArray) -> bool:
    nested = pa.types.is_fixed_size_list(column.type)
    return bool(column.null_count or (nested and any(chunk.flatten().null_count for chunk in column.chunks)))


def _wrong_values(table: pa.Table, labels: dict[str, Any]) -> list[str]:
    """What cannot be in a store: of the probabilities, the label and score made from them, and the logits."""
    if not table.num_rows:
        return []
    problems = []
    probs_NK = matrix(table["probs"])
    if not (np.isfinite(probs_NK).all() and (probs_NK >= 0).all() and (probs_NK <= 1).all()):
        problems.append("a probability is not in [0, 1]")
    else:
        if not labels["multi_label"] and not np.allclose(probs_NK.sum(axis=1), 1, atol=1e-4):
            problems.append("the probabilities of a row do not sum to 1")
        names = [labels["names"][k] for k in probs_NK.argmax(axis=1)]
        if names != table["label"].to_pylist() or not np.array_equal(probs_NK.max(axis=1), table["score"].to_numpy()):
            problems.append("the label or score of a row is not that of its most probable class")
    for name in (*LOGITS, *TEMPLATE_LOGITS):
        if name in table.column_names and not np.isfinite(matrix(table[name])).all():
            problems.append(f"a logit in column {name} is not a finite number")
    return problems


def _id_hashes(ids: pa.ChunkedArray) -> Hashes:
    digests = b"".join(hashlib.blake2b(i.encode(), digest_size=8).digest() for i in ids.to_pylist())
    return np.frombuffer(digests, dtype=np.uint64)


def _check_unique(store: Store, hashes: dict[str, Hashes], result: Verification) -> None:
    """Ids whose hashes meet are read again and compared in full."""
    values, counts = np.unique(np.concatenate([np.empty(0, np.uint64), *hashes.values()]), return_counts=True)
    suspects = values[counts > 1]
    seen: dict[str, str] = {}
    for part, hashes_N in hashes.items():
        mask = np.isin(hashes_N, suspects)
        if not mask.any():
            continue
        data = storage.read_bytes(storage.join(store.directory, part))
        ids = pq.read_table(pa.BufferReader(data), columns=["id"])["id"]
        for one in ids.filter(pa.array(mask)).to_pylist():
            if one in seen:
                result.damage(part, f"id {one!r} is also in {seen[one]}")
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


def repair_store(result: Verification) -> list[str]:
    """Make a damaged store an unfinished one: the job's own command then does again what is damaged or missing.

    Damaged and foreign files are moved to ``OUTPUT/damaged/`` and never deleted; so is the manifest, without which the
    store counts as unfinished.

    Args:
        result: what `verify_store`, or `zsd.unfinished.verify`, found.

    Returns:
        names of the files that will be made again.
    """
    if not result.damaged and not result.missing:
        return []
    aside = storage.join(result.uri, "damaged")
    for part in sorted(result.damaged):
        storage.move(storage.join(result.directory, part), storage.join(aside, part))
    if result.finished:
        storage.move(storage.join(result.uri, MANIFEST), storage.join(aside, MANIFEST))
    return sorted((result.damaged - result.foreign) | set(result.missing))


def summary(result: Verification) -> str:
    """One line for a sound store; otherwise one for each of the first problems, and how many more there are."""
    if not result.problems:
        return f"{result.uri}: sound: {result.rows:,} rows in {result.shards:,} shards"
    lines = [f"{result.uri}: {problem}" for problem in result.problems[:MOST_SHOWN]]
    more = len(result.problems) - len(lines)
    return "\n".join([*lines, f"{result.uri}: and {more:,} more problems (--json lists all)"] if more else lines)
