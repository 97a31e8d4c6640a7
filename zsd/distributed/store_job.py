"""What `zsd label` and `zsd predict` have in common: ingest, run the pending units on a pool, write the manifest."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from zsd import storage
from zsd.attempts import Attempts
from zsd.compaction import merge, plan_merges
from zsd.config import CorpusConfig
from zsd.console import say
from zsd.corpus import IngestResult, Shard, ingest_local, resolve_sources
from zsd.distributed.cluster import connect, run_tasks
from zsd.distributed.pool import run_units
from zsd.distributed.sizing import may_grow, pool_size
from zsd.distributed.unit_actor import UnitWorker
from zsd.engines.base import Placement
from zsd.engines.choice import choice_lines, read_choices
from zsd.errors import StoreError, ZsdError
from zsd.known_rows import Reused
from zsd.manifest import make_manifest
from zsd.monitor import Monitor
from zsd.output import claim
from zsd.rejected import forget_rejected, most_rejected
from zsd.shards import MANIFEST, StoredFile, UnitRecord, describe_file, read_json, write_json
from zsd.units import Coverage, Unit, coverage

INGEST_HERE_BYTES = 32 << 20
"""Corpora up to this size are read in the driver: starting Ray tasks would take longer."""

TASKS_FROM = 64
"""Files from which on they are read and merged by Ray tasks and not in the driver."""

WorkerMaker = Callable[[Placement], UnitWorker]


@dataclass(frozen=True, kw_only=True)
class JobPlan:
    """What a job decides when it knows its corpus, and decides alike on every run.

    Args:
        make_worker: from the rows that one actor may expect to the picklable that makes a worker in an actor.
        facts: what the manifest says of it, at the top level.
    """

    make_worker: Callable[[int], WorkerMaker]
    facts: dict[str, Any]


def run_store_job(config: CorpusConfig, **how: Any) -> dict[str, Any]:
    """`_run_store_job`, whatever the storage does.

    Raises:
        StoreError: reading or writing failed; what is done is kept.
        ZsdError: see there.
    """
    try:
        return _run_store_job(config, **how)
    except OSError as error:
        raise StoreError(
            f"{config.output}: the storage failed: {storage.first_line(error)}: what is done is kept, run the same "
            "command again when it works"
        ) from error


def _run_store_job(
    config: CorpusConfig,
    *,
    job: str,
    folder: str,
    identity: dict[str, Any],
    unit_rows: int,
    plan: Callable[[list[Unit]], JobPlan],
    reuse: Callable[[IngestResult], Reused] | None = None,
) -> dict[str, Any]:
    """Run or resume one job that turns corpus rows into shards; returns its manifest.

    Args:
        config: corpus, output and actors.
        job: ``label`` or ``predict``.
        folder: where the shards go, below the output.
        identity: what makes two runs the same job.
        unit_rows: rows of one unit, where the user did not say.
        plan: what follows from all units of the job.
        reuse: takes what earlier stores know of the corpus, and says what is left to do.

    Raises:
        OutputError: the output belongs to another job, or its inputs have changed.
        ZsdError: anything else the job refuses.
    """
    resolve_sources(config.data, output=config.output)  # a mistake there must leave nothing behind
    claim(config.output, job, identity)
    ingest = ingest_corpus(config, config.unit_rows or unit_rows)
    reused = reuse(ingest) if reuse else Reused(shards=ingest.shards, rows=0, partly=0)
    if reuse:
        say(f"{job}: {reused.rows:,} rows are known from --reuse, of {reused.partly:,} more some classes are")
        for one in reused.made_by:
            engines = ", ".join(f"{ran['engine']} {ran['precision']}" for ran in one["engines"])
            say(f"{job}: the logits in {one['store']} were made by {engines}")
    shards = reused.shards
    directory = storage.join(config.output, folder)
    manifest_file = storage.join(config.output, MANIFEST)
    missing = _settled(directory, shards).missing
    if storage.exists(manifest_file) and not missing:
        say(f"{config.output}: this {job} job is finished, nothing to do")
        return read_json(manifest_file)
    todo_rows = sum(unit.rows for unit in missing)
    if todo_rows < ingest.kept:
        say(f"resuming: {ingest.kept - todo_rows:,} of {ingest.kept:,} rows are done and kept")
    planned = plan([Unit(shard=shard.name, first=0, sizes=shard.row_groups) for shard in shards])
    monitor = Monitor(config.output, job, total=ingest.kept, done=ingest.kept - todo_rows)
    try:
        while missing:  # again only where a worker that outlived its driver got in between
            _run(config, missing, planned, ingest, monitor)
            missing = _settled(directory, shards).missing
        monitor.end("merging")
        files = _final_files(config, directory, shards)
    except ZsdError as error:
        monitor.end("failed", str(error))
        raise
    forget_rejected(config.output, files)
    records = [record for file in files for record in file.records]
    known = {"reused": {"rows": reused.rows, "partly": reused.partly}, "reused_from": list(reused.made_by)}
    manifest = make_manifest(
        job=job,
        folder=folder,
        identity=identity | planned.facts | known,
        ingest=ingest,
        files=files,
        choices=read_choices(config.output, records),
    )
    write_json(manifest_file, manifest)
    monitor.end("finished")
    return manifest


def _settled(directory: str, shards: Sequence[Shard]) -> Coverage:
    """What the folder of parts amounts to, after the parts that another one makes redundant are deleted."""
    found = coverage(shards, storage.list_names(directory, prefix="part-", suffix=".parquet"))
    for name in found.redundant:
        storage.delete_file(storage.join(directory, name))
    if found.foreign:
        raise StoreError(
            f"{storage.join(directory, found.foreign[0])}: not of this job's corpus: zsd verify --repair puts it aside"
        )
    return found


def _final_files(config: CorpusConfig, directory: str, shards: Sequence[Shard]) -> list[StoredFile]:
    """Merge neighbouring parts into files of a sensible size, and read what each of them holds."""
    parts = _settled(directory, shards).parts
    describe = functools.partial(describe_file, directory)
    run = run_tasks if len(parts) > TASKS_FROM else map
    files = {file.part: file for file in run(describe, [part.name for part in parts])}
    rows = {name: file.rows for name, file in files.items()}
    merged = list(run(merge, plan_merges(directory, parts, rows, target_rows=config.target_file_rows)))
    files |= {file.part: file for file in run(describe, merged)}
    parts = _settled(directory, shards).parts
    return [files.get(part.name) or describe(part.name) for part in parts]


def ingest_corpus(config: CorpusConfig, unit_rows: int) -> IngestResult:
    """Read the user's files into ``OUTPUT/corpus``, here or as Ray tasks; done once, and remembered there.

    Raises:
        InputError: a source is wrong, no row can be used, or the output holds another corpus.
    """

    def run(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterable[Any]:
        if sum(source.size for source in resolve_sources(config.data, output=config.output)) <= INGEST_HERE_BYTES:
            return map(function, items)
        connect(config.ray_address)
        return run_tasks(function, items)

    result = ingest_local(
        config.data,
        config.output,
        text_column=config.text_column,
        id_column=config.id_column,
        unit_rows=unit_rows,
        limit=config.limit,
        run=run,
    )
    refused = f", {result.rejected:,} rejected" if result.rejected else ""
    twice = f", {result.duplicates:,} duplicates" if result.duplicates else ""
    say(f"corpus: {result.rows:,} rows in {len(result.inputs.sources)} file(s): {result.kept:,} to do{refused}{twice}")
    return result


def _run(config: CorpusConfig, missing: Sequence[Unit], plan: JobPlan, ingest: IngestResult, monitor: Monitor) -> None:
    """Do what is missing on a pool of actors."""
    connect(config.ray_address)
    size = pool_size(
        cpu_actors=config.cpu_actors,
        gpu_actors=config.gpu_actors,
        cpus_per_actor=config.cpus_per_actor,
        units=sum(len(unit.sizes) for unit in missing),
        may_grow=may_grow(config.ray_address),
    )
    kinds = [f"{size.cpu_actors} CPU actor(s) of {size.cpus_per_actor} thread(s)"] if size.cpu_actors else []
    kinds += [f"{size.gpu_actors} GPU actor(s)"] if size.gpu_actors else []
    todo_rows = sum(unit.rows for unit in missing)
    say(f"{monitor.job}: starting {' and '.join(kinds)} for {todo_rows:,} rows")
    allowed = most_rejected(config.output, config.max_rejected, ingest, missing)
    attempts = Attempts(missing, most_rejected=allowed)
    told: set[str] = set()
    for record in run_units(attempts, plan.make_worker(-(-todo_rows // size.actors)), size, job=monitor.job):
        if record is None:
            monitor.beat()
            continue
        if record.choice not in told:
            told.add(record.choice)
            _tell_choice(config.output, record)
        monitor.add(record)


def _tell_choice(output: str, record: UnitRecord) -> None:
    """Say what runs on a node: an actor's own words may go where nobody reads them."""
    for choice in read_choices(output, [record]).values():
        for line in choice_lines(choice):
            say(line)
