"""`zsd predict`: a corpus through a student, on every actor the cluster has."""

from __future__ import annotations

from typing import Any

from zsd.config import PredictConfig
from zsd.distributed.store_job import JobPlan, run_store_job
from zsd.predicting import PredictTask
from zsd.shards import PREDICTIONS
from zsd.storage import resolve
from zsd.students.checkpoint import load_checkpoint, student_names
from zsd.students.folder import student_directory
from zsd.teachers.nli import checkpoint_fingerprint

UNIT_ROWS = 4096
"""Rows of a unit: seconds of work for a small student on one core."""


def predict(config: PredictConfig) -> dict[str, Any]:
    """Predict a corpus, or go on where an earlier run of the same job stopped; returns the manifest.

    Raises:
        InputError: the student, the corpus or the output directory are not what they should be.
    """
    directory = student_directory(config.model)
    model, _ = load_checkpoint(directory)
    names, multi_label = student_names(model)
    identity = {
        "labels": {"names": names, "template": None, "multi_label": multi_label},
        "model": str(directory.resolve()),
        "precision": config.precision,
        "model_fingerprint": checkpoint_fingerprint(directory),
    }
    task = PredictTask(output=resolve(config.output).uri, model=str(directory.resolve()), precision=config.precision)
    return run_store_job(
        config,
        job="predict",
        folder=PREDICTIONS,
        identity=identity,
        unit_rows=UNIT_ROWS,
        plan=lambda units: JobPlan(make_worker=lambda rows: task, facts={}),
    )
