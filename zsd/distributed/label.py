"""`zsd label`: a corpus and class names to soft labels, on every actor the cluster has."""

from __future__ import annotations

from typing import Any

from zsd.batching import PairSet, pair_layout
from zsd.config import LabelConfig
from zsd.distributed.store_job import run_store_job
from zsd.labelling import LabelTask, sample_units
from zsd.shards import SOFT_LABELS, Unit
from zsd.storage import resolve
from zsd.teachers.nli import absolute_checkpoint, load_teacher

UNIT_PAIRS = 1024
"""Pairs of a unit: some ten seconds of work for a small teacher on one core, so little is lost or waited for."""

UNIT_ROWS_LEAST = 64
"""Rows of a unit even with many labels: a store is not made of thousands of tiny files."""


def label(config: LabelConfig) -> dict[str, Any]:
    """Label a corpus, or go on where an earlier run of the same job stopped; returns the manifest.

    Raises:
        InputError: the teacher, the labels, the corpus or the output directory are not what they should be.
        EngineError: the engine cannot run the teacher.
    """
    labels = config.label_set()
    teacher = load_teacher(config.teacher, max_length=config.max_length, nli_classes=config.nli_classes)
    layout = pair_layout(teacher.tokenizer)
    PairSet.build(teacher.tokenizer, layout, ["probe"], labels.hypotheses, max_length=teacher.max_length)
    identity = {
        "labels": labels.to_dict(),
        "temperature": config.temperature,
        "teacher": absolute_checkpoint(config.teacher),
        "teacher_fingerprint": teacher.fingerprint,
        "nli_classes": {"entailment": teacher.classes.entailment, "contradiction": teacher.classes.contradiction},
        "max_length": teacher.max_length,
        "engine_asked": config.engine,
        "precision_asked": config.precision,
    }

    def make_worker(units: list[Unit]) -> LabelTask:
        return LabelTask(
            output=resolve(config.output).uri,
            labels=labels,
            teacher=absolute_checkpoint(config.teacher),
            nli_classes=config.nli_classes,
            max_length=config.max_length,
            temperature=config.temperature,
            engine=config.engine,
            precision=config.precision,
            min_agreement=config.min_agreement,
            sample=sample_units(units),
            pairs=sum(unit.rows for unit in units) * len(labels),
        )

    return run_store_job(
        config,
        job="label",
        folder=SOFT_LABELS,
        identity=identity,
        unit_rows=max(UNIT_ROWS_LEAST, UNIT_PAIRS // len(labels)),
        make_worker=make_worker,
    )
