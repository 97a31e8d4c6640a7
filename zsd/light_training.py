"""Training of the students that need no Trainer and no checkpoints: static and linear, in one go on one machine."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from zsd.shards import Store
from zsd.students.fit import fit
from zsd.students.rows import StoreRows
from zsd.students.spec import parse_student
from zsd.teachers.nli import teacher_checkpoint
from zsd.training_job import TrainTask, publish, student_card


def train_light(task: TrainTask, *, write: Callable[[str], None] = print) -> None:
    """Train a ``static`` or ``linear`` student and publish it.

    Args:
        task: its training.
        write: takes progress lines.

    Raises:
        InputError: see `zsd.students.fit.fit`.
    """
    labels = Store(task.store).manifest["labels"]
    rows = StoreRows(
        store=task.store,
        recipe=task.recipe,
        gold=task.gold,
        new_gold=task.new_gold,
        excluded=task.excluded,
        limit=task.limit,
        weight=task.weight,
        gold_weight=task.gold_weight,
    )
    with tempfile.TemporaryDirectory(prefix="zsd-train-") as scratch:
        folder = Path(scratch) / "student"
        folder.mkdir()
        made = fit(
            parse_student(task.student),
            rows,
            folder,
            teacher=teacher_checkpoint(task.teacher),
            names=labels["names"],
            multi_label=labels["multi_label"],
            temperature=task.objective.temperature,
            heldout_fraction=task.heldout_fraction,
            seed=int(task.arguments.get("seed", 0)),
            write=write,
        )
        publish(folder, student_card(task, **made), task.target)
