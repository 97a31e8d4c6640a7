"""The labels of a round of self-training as files: what the student says of the rows, and what follows from it.

Legend: N rows, K labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from zsd import storage
from zsd.inference import FloatArray
from zsd.self_training import next_labels
from zsd.shards import matrix, vectors
from zsd.training_job import TrainTask
from zsd.training_rows import TRAIN, TrainingRows, mapped, side_files, write_arrow


def prepare_answers(
    task: TrainTask, rows: str, probabilities: Callable[[Sequence[Any]], FloatArray], *, worker: int, workers: int
) -> None:
    """Write this worker's share of what the student before this round says of the training rows.

    Args:
        task: of a round of self-training.
        rows: local folder of the tokenized rows.
        probabilities: of the student, for the token ids of some rows.
        worker: number of this worker.
        workers: how many there are.
    """
    for name in _turn(rows, task.answers, worker, workers):
        dataset = TrainingRows(rows, [name])
        ids = [dataset[n]["input_ids"] for n in range(len(dataset))]
        columns = {"probs": vectors(probabilities(ids))}
        write_arrow(storage.join(task.answers, name), pa.table(columns))


def prepare_labels(task: TrainTask, rows: str, answers: str, *, worker: int, workers: int) -> None:
    """Write this worker's share of the labels of a round of self-training, when all answers are there.

    Args:
        task: of a round of self-training.
        rows: local folder of the tokenized rows.
        answers: local folder of what the student before it says of them.
        worker: number of this worker.
        workers: how many there are.
    """
    assert task.labels is not None, "round 0 has the teacher's labels"
    names = side_files(answers, TRAIN)
    sums = [matrix(mapped(storage.join(answers, name))["probs"]).sum(axis=0, dtype=np.float64) for name in names]
    total = sum(len(mapped(storage.join(answers, name))) for name in names)
    frequency_K = (np.sum(sums, axis=0) / max(1, total)).astype(np.float32)
    if task.recipe.method == "none":  # classes are evened out only where the recipe trusts the rows to be even
        frequency_K = np.full_like(frequency_K, 1 / len(frequency_K))
    for name in _turn(rows, task.labels, worker, workers):
        before = mapped(storage.join(rows, name))
        teacher_NK, gold_N = matrix(before["probs"]), before["gold"].to_numpy()
        student_NK = matrix(mapped(storage.join(answers, name))["probs"])
        labels_NK, keep_N = next_labels(student_NK, teacher_NK, frequency_K, multi_label=task.objective.multi_label)
        labels_NK = np.where(gold_N[:, None], teacher_NK, labels_NK)  # what a person said stands
        columns = {"probs": vectors(labels_NK), "keep": pa.array(keep_N | gold_N)}
        write_arrow(storage.join(task.labels, name), pa.table(columns))


def _turn(rows: str, done: str, worker: int, workers: int) -> list[str]:
    """The files of the training side that this worker has to answer with one of the same name."""
    there = set(side_files(done, TRAIN))
    return [name for name in side_files(rows, TRAIN)[worker::workers] if name not in there]
