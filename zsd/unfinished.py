"""Is what an unfinished job has committed so far readable, and all of it of this job's corpus?

There is no manifest yet, so no checksums of files: a file is read whole, its pages are held to their own checksums and
its ids to those of the corpus rows it was made from.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import pyarrow as pa

from zsd import storage
from zsd.corpus import IngestResult, Shard
from zsd.errors import InputError, StoreError
from zsd.known_rows import Reused
from zsd.output import job_file
from zsd.reuse import REUSE
from zsd.shards import MANIFEST, PREDICTIONS, SOFT_LABELS, describe_file, read_json, read_row_groups, store_root
from zsd.units import Part, Unit, coverage
from zsd.verify import Verification, verify_store

FOLDERS = {"label": SOFT_LABELS, "predict": PREDICTIONS}


def verify(uri: str) -> Verification:
    """`verify_store` of a finished store; of an unfinished one, its files so far.

    Raises:
        InputError: no store job has run there.
        StoreError: the manifest, or the record of the corpus, is damaged.
    """
    root = store_root(uri)
    job = next((job for job in FOLDERS if storage.exists(job_file(root, job))), None)
    if job is None or storage.exists(storage.join(root, MANIFEST)):
        return verify_store(uri)
    directory = storage.join(root, FOLDERS[job])
    shards = _shards(root)
    names = storage.list_names(directory)
    result = Verification(uri=root, directory=directory, shards=len(names), finished=False)
    found = coverage(shards, names)
    for name in found.foreign:
        result.foreign.add(name)
        result.damage(name, "foreign: not of this job's corpus")
    sizes = {shard.name: shard.row_groups for shard in shards}
    for part in found.parts:
        shard = f"shard-{part.stem}.parquet"
        unit = Unit(shard=shard, first=part.first, sizes=sizes[shard][part.first : part.stop])
        result.rows += _check(directory, part, _ids(root, unit), result)
    todo = sum(unit.rows for unit in found.missing)
    result.problems.append(f"unfinished: {todo:,} of {sum(shard.rows for shard in shards):,} rows are still to do")
    return result


def _shards(root: str) -> Sequence[Shard]:
    """The corpus of the job, or what ``--reuse`` made of it."""
    if storage.exists(storage.join(root, REUSE)):
        return Reused.from_dict(read_json(storage.join(root, REUSE))).shards
    record = storage.join(root, "corpus", "ingest.json")
    if not storage.exists(record):
        raise InputError(f"{root}: holds a job that has not read its corpus yet: there is nothing to verify")
    try:
        return IngestResult.from_dict(json.loads(storage.read_bytes(record))).shards
    except (ValueError, KeyError, TypeError, AttributeError):
        raise StoreError(f"{record}: is damaged: the job's own command says what to do") from None


def _ids(root: str, unit: Unit) -> list[str]:
    """The ids of a unit's rows in the corpus."""
    try:
        tables = read_row_groups(storage.join(root, "corpus"), unit)
    except OSError as error:
        raise StoreError(f"{root}/corpus/{unit.shard}: cannot be read: {storage.first_line(error)}") from None
    return [one for table in tables for one in table["id"].to_pylist()]


def _check(directory: str, part: Part, ids: list[str], result: Verification) -> int:
    """Rows of a file, none where it is damaged."""
    try:
        table = storage.read_parquet(storage.join(directory, part.name))
        table.validate(full=True)
        records = describe_file(directory, part.name).records
    except (pa.ArrowException, OSError, StoreError) as error:
        result.damage(part.name, f"unreadable: {storage.first_line(error)}")
        return 0
    expected = len(ids) - sum(record.rejected for record in records)
    if table.num_rows != expected:
        result.damage(part.name, f"{table.num_rows} rows, the corpus has {expected} for it")
    elif len(set(ids).intersection(table["id"].to_pylist())) != expected:
        result.damage(part.name, "its rows are not those that the corpus has for it")
    return int(table.num_rows)
