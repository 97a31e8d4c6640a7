"""`zsd label`: a corpus and class names to soft labels, on every actor the cluster has."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from zsd.config import LabelConfig
from zsd.console import say
from zsd.corpus import IngestResult
from zsd.distributed.cluster import connect, run_tasks
from zsd.distributed.store_job import JobPlan, run_store_job
from zsd.engines.registry import DRAFT
from zsd.errors import OutputError
from zsd.known_rows import Reused
from zsd.labelling import TeacherChoices
from zsd.options import shared_options
from zsd.output import job_file
from zsd.reuse import REUSE, check_reusable, reuse_stores
from zsd.shards import SOFT_LABELS, Store, read_json, store_root
from zsd.storage import exists, join, resolve
from zsd.teacher_plan import pair_lengths, plan_teacher
from zsd.teachers.nli import absolute_checkpoint, load_teacher
from zsd.teachers.recheck import check_draft
from zsd.units import Unit

UNIT_PAIRS = 1024
"""Pairs of a row group, the finest grain of work: some ten seconds on one core of a teacher as large as the bundled."""

UNIT_WEIGHTS = 12 * 6 * 384**2
"""Weights in the encoder of that teacher; a larger one gets as many fewer pairs."""

UNIT_PAIRS_LEAST = 64
"""Pairs of a row group even of a large teacher, where a row has not more: a GPU wants to have some to run at once."""


def label(config: LabelConfig) -> dict[str, Any]:
    """Label a corpus, or go on where an earlier run of the same job stopped; returns the manifest.

    Raises:
        InputError: the teacher, the labels, the corpus or the output directory are not what they should be.
        EngineError: the engine cannot run the teacher.
    """
    labels = config.label_set()
    teacher = load_teacher(config.teacher, max_length=config.max_length, nli_classes=config.nli_classes)
    pair_lengths(teacher, ["probe"], labels, config.long_text)  # a hypothesis too long must leave nothing behind
    if config.precision == DRAFT:
        check_draft(teacher, labels)
    identity = {
        "labels": labels.to_dict(),
        "temperature": config.temperature,
        "teacher": absolute_checkpoint(config.teacher),
        "teacher_fingerprint": teacher.fingerprint,
        "nli_classes": {"entailment": teacher.classes.entailment, "contradiction": teacher.classes.contradiction},
        "max_length": teacher.max_length,
        "long_text": config.long_text,
        "engine_asked": config.engine,
        "precision_asked": config.precision,
    }
    asked = shared_options(config, TeacherChoices)
    choices = TeacherChoices(**asked | {"teacher": absolute_checkpoint(config.teacher)})
    output = resolve(config.output).uri
    stores = _reusable(config, identity)
    identity |= {"reuse": stores} if stores else {}

    def reuse(ingest: IngestResult) -> Reused:
        if len(ingest.shards) > 1:
            connect(config.ray_address)
        return reuse_stores(
            output, ingest, stores, labels, config.temperature, run=run_tasks if len(ingest.shards) > 1 else map
        )

    def plan(units: list[Unit]) -> JobPlan:
        task = plan_teacher(teacher, labels, choices, output=output, units=units)
        return JobPlan(
            make_worker=lambda rows: replace(
                task, pairs=rows * len(labels.hypotheses), content_free=config.content_free
            ),
            facts={"buckets": list(task.lengths.buckets())},
        )

    return run_store_job(
        config,
        job="label",
        folder=SOFT_LABELS,
        identity=identity,
        unit_rows=default_unit_rows(teacher.config, len(labels.hypotheses)),
        plan=plan,
        reuse=reuse if stores else None,
    )


def default_unit_rows(config: Any, hypotheses: int) -> int:
    """Rows of a row group: some ten seconds of work on a core, of a teacher of any size; at least one row.

    Args:
        config: the teacher's transformers configuration; an encoder layer has about 12 H^2 weights.
        hypotheses: of a row.
    """
    weights = 12 * config.num_hidden_layers * config.hidden_size**2
    pairs = max(UNIT_PAIRS_LEAST, int(UNIT_PAIRS * min(1.0, UNIT_WEIGHTS / weights)))
    return max(1, pairs // hypotheses)


def _reusable(config: LabelConfig, identity: dict[str, Any]) -> list[str]:
    """The stores to reuse; one that does not fit is refused, or left aside with a line where the user asked for that.

    Raises:
        OutputError: a store does not fit.
        InputError: there is no finished store.
    """
    stores: list[str] = []
    taken = _taken(config.output)
    for uri in config.reuse:
        if store_root(uri) in taken:
            stores.append(store_root(uri))
            continue
        store = Store(uri)
        try:
            check_reusable(store, identity)
        except OutputError as error:
            if config.reuse_other == "refuse":
                raise
            say(f"label: not reused, computed again: {error}")
            continue
        stores.append(store.root)
    return stores


def _taken(output: str) -> list[str]:
    """Stores whose rows an earlier run of this job has taken already: they are not needed any more."""
    if not (exists(join(output, REUSE)) and exists(job_file(output, "label"))):
        return []
    return list(read_json(job_file(output, "label")).get("reuse", []))
