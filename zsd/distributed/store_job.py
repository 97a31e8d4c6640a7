"""What `zsd label` and `zsd predict` have in common: ingest, run the pending units on a pool, write the manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from zsd import storage
from zsd.config import CorpusConfig
from zsd.console import Progress, say
from zsd.corpus import IngestResult, ingest_local, resolve_sources
from zsd.distributed.cluster import connect, pool_size, run_tasks
from zsd.distributed.pool import UnitWorker, run_units
from zsd.engines.base import Placement
from zsd.engines.choice import choice_lines, read_choices
from zsd.manifest import make_manifest
from zsd.output import claim
from zsd.shards import MANIFEST, Unit, UnitRecord, pending, read_json, read_record, write_json

INGEST_HERE_BYTES = 32 << 20
"""Corpora up to this size are read in the driver: starting Ray tasks would take longer."""

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


def run_store_job(
    config: CorpusConfig,
    *,
    job: str,
    folder: str,
    identity: dict[str, Any],
    unit_rows: int,
    plan: Callable[[list[Unit]], JobPlan],
) -> dict[str, Any]:
    """Run or resume one job that turns corpus rows into shards; returns its manifest.

    Args:
        config: corpus, output and actors.
        job: ``label`` or ``predict``.
        folder: where the shards go, below the output.
        identity: what makes two runs the same job.
        unit_rows: rows of one unit, where the user did not say.
        plan: what follows from all units of the job.

    Raises:
        OutputError: the output belongs to another job, or its inputs have changed.
        ZsdError: anything else the job refuses.
    """
    resolve_sources(config.data, output=config.output)  # a mistake there must leave nothing behind
    claim(config.output, job, identity)
    ingest = _ingest(config, config.unit_rows or unit_rows)
    units = [
        Unit(shard=shard.name, row_group=group, rows=rows)
        for shard in ingest.shards
        for group, rows in enumerate(shard.row_groups)
    ]
    manifest_file = storage.join(config.output, MANIFEST)
    directory = storage.join(config.output, folder)
    todo = pending(directory, units)
    if storage.exists(manifest_file) and not todo:
        say(f"{config.output}: this {job} job is finished, nothing to do")
        return read_json(manifest_file)
    done = {unit.part for unit in units} - {unit.part for unit in todo}
    records = [read_record(directory, part) for part in sorted(done)]
    if done:
        say(f"resuming: {sum(r.rows for r in records):,} of {ingest.kept:,} rows are done and kept")
    planned = plan(units)
    if todo:
        records += _run(config, job, todo, planned, ingest)
    manifest = make_manifest(
        job=job,
        folder=folder,
        identity=identity | planned.facts,
        ingest=ingest,
        records=records,
        choices=read_choices(config.output, records),
    )
    write_json(manifest_file, manifest)
    return manifest


def _ingest(config: CorpusConfig, unit_rows: int) -> IngestResult:
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


def _run(config: CorpusConfig, job: str, todo: list[Unit], plan: JobPlan, ingest: IngestResult) -> list[UnitRecord]:
    connect(config.ray_address)
    size = pool_size(
        cpu_actors=config.cpu_actors,
        gpu_actors=config.gpu_actors,
        cpus_per_actor=config.cpus_per_actor,
        units=len(todo),
    )
    kinds = [f"{size.cpu_actors} CPU actor(s) of {size.cpus_per_actor} thread(s)"] if size.cpu_actors else []
    kinds += [f"{size.gpu_actors} GPU actor(s)"] if size.gpu_actors else []
    say(f"{job}: starting {' and '.join(kinds)} for {len(todo):,} unit(s)")
    todo_rows = sum(unit.rows for unit in todo)
    progress = Progress(job, total=ingest.kept, done=ingest.kept - todo_rows)
    records: list[UnitRecord] = []
    for record in run_units(todo, plan.make_worker(-(-todo_rows // size.actors)), size):
        _tell_choice(config.output, record, records)
        records.append(record)
        progress.add(record.rows, started=record.started)
    return records


def _tell_choice(output: str, record: UnitRecord, before: Sequence[UnitRecord]) -> None:
    """Say once what runs on a node: an actor's own words may go where nobody reads them."""
    if record.choice in {one.choice for one in before}:
        return
    for choice in read_choices(output, [record]).values():
        for line in choice_lines(choice):
            say(line)
