"""A training as a job on files: its task, the share of a worker in preparing it, and what is told of it afterwards.

::

    OUT/checkpoints/NAME/rows/        tokenized rows with the teacher's labels (`zsd.training_rows`)
    OUT/checkpoints/NAME/answers-R/   what the student before round R says of them
    OUT/checkpoints/NAME/labels-R/    the labels of round R of self-training, made of both
    OUT/checkpoints/NAME/round-R/     the checkpoints of that round
    OUT/checkpoints/NAME/student-R/   the student after it, where another round follows
    OUT/tensorboard/                  events of ``--report_to tensorboard``; those of round R in round-R/

Legend: N rows, K labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs

import zsd
from zsd import storage
from zsd.errors import InputError
from zsd.row_weights import plan_epoch
from zsd.shards import LOGITS, Store, write_json
from zsd.soft_labels import Recipe
from zsd.students.folder import CARD
from zsd.training import Objective
from zsd.training_rows import (
    HELDOUT,
    TRAIN,
    TrainingRows,
    file_name,
    gold_table,
    side_files,
    training_table,
    write_sides,
)

CHECKPOINTS = "checkpoints"


@dataclass(frozen=True, kw_only=True)
class TrainTask:
    """All that a training worker needs to know; picklable.

    Args:
        store: output directory of the label job.
        work: the folder below ``checkpoints`` of this student.
        target: where the finished student goes.
        tensorboard: folder for the events of ``--report_to tensorboard``.
        student: what `zsd.students.spec.parse_student` reads.
        teacher: ``bundled`` or the checkpoint to cut a ``layers:`` student from.
        recipe: makes the labels of the stored logits.
        gold: K reviewed probabilities by text id.
        new_gold: texts of those of them that are not in the store.
        excluded: text ids of rows that are never trained on, nor held out.
        limit: rows of the store that are used, its first ones; None: all.
        heldout_fraction: share of rows held out.
        objective: what the student is trained for.
        weight: see `zsd.row_weights.loss_weights`.
        balance: see `zsd.row_weights.class_copies`.
        gold_weight: how often a reviewed row comes for each time that another does.
        round: 0 is the training on the teacher's labels, R the Rth round of self-training.
        rounds: the last of them.
        arguments: transformers `TrainingArguments` the user gave.
    """

    store: str
    work: str
    target: str
    tensorboard: str
    student: str
    teacher: str
    recipe: Recipe
    gold: dict[str, tuple[float, ...]] = field(default_factory=dict)
    new_gold: tuple[str, ...] = ()
    excluded: frozenset[str] = frozenset()
    limit: int | None = None
    heldout_fraction: float
    objective: Objective
    weight: str
    balance: float
    gold_weight: float
    round: int = 0
    rounds: int = 0
    arguments: dict[str, Any]

    @property
    def turns(self) -> list[TrainTask]:
        """This training, round by round."""
        return [replace(self, round=number) for number in range(self.rounds + 1)]

    @property
    def rows(self) -> str:
        """Folder of the tokenized rows."""
        return storage.join(self.work, "rows")

    @property
    def answers(self) -> str:
        """Folder of what the student before this round says of them."""
        return storage.join(self.work, f"answers-{self.round}")

    @property
    def labels(self) -> str | None:
        """Folder of the labels of this round; None for the teacher's."""
        return storage.join(self.work, f"labels-{self.round}") if self.round else None

    @property
    def run(self) -> str:
        """Name of the folder with the checkpoints of this round."""
        return f"round-{self.round}"

    @property
    def events(self) -> str:
        """Folder for TensorBoard's events of this round."""
        return storage.join(self.tensorboard, self.run) if self.round else self.tensorboard

    @property
    def published(self) -> str:
        """Where the student of this round goes."""
        return self.target if self.round == self.rounds else storage.join(self.work, f"student-{self.round}")

    @property
    def before(self) -> str:
        """Where the student of the round before is."""
        return storage.join(self.work, f"student-{self.round - 1}")


def prepare_rows(task: TrainTask, tokenizer: Any, *, worker: int, workers: int) -> None:
    """Write this worker's share of the tokenized rows: every file of the store that is its turn and not done."""
    store = Store(task.store)
    made = {"tokenizer": tokenizer, "max_length": tokenizer.model_max_length}
    for part, (name, used) in enumerate(_used(store, task.limit)):
        if part % workers == worker and not _done(task.rows, part):
            rows = store.table(name, ["id", "text", *LOGITS]).slice(0, used)
            table = training_table(rows, recipe=task.recipe, gold=task.gold, excluded=task.excluded, **made)
            write_sides(table, task.rows, part, heldout_fraction=task.heldout_fraction)
    last = len(store.parts)
    if task.new_gold and last % workers == worker and not _done(task.rows, last):
        table = gold_table(task.gold, task.new_gold, **made)
        write_sides(table, task.rows, last, heldout_fraction=task.heldout_fraction)


def _used(store: Store, limit: int | None) -> Iterator[tuple[str, int]]:
    """The files of a store that hold its first rows, each with how many of its rows are among them."""
    left = store.manifest["rows"] if limit is None else limit
    for shard in store.manifest["shards"]:
        if left > 0:
            yield str(shard["part"]), min(left, shard["rows"])
        left -= shard["rows"]


def _done(folder: str, part: int) -> bool:
    return storage.exists(storage.join(folder, file_name(TRAIN, part)))


def open_sides(task: TrainTask, rows: str, labels: str | None) -> tuple[TrainingRows, TrainingRows]:
    """The training and the held-out side, ready to be trained on.

    Args:
        task: the round.
        rows: local folder of the tokenized rows.
        labels: local folder of the labels of the round; None: the teacher's.

    Raises:
        InputError: there are too few rows for the split: one side is empty.
    """
    train = TrainingRows(rows, side_files(rows, TRAIN), labels)
    heldout = TrainingRows(rows, side_files(rows, HELDOUT))
    for side, name in ((train, "training"), (heldout, "held-out")):
        if not len(side):
            raise InputError(
                f"{len(train) + len(heldout)} soft-labelled row(s) leave none for the {name} side of the split "
                f"(--heldout-fraction {task.heldout_fraction}): label more rows, or change the fraction"
            )
    if not train.keep.any():
        raise InputError(
            f"--rounds {task.rounds}: the student decides no row as its teacher does after round {task.round - 1}: "
            "train longer, or lower it"
        )
    train.weights, train.copies = plan_epoch(
        train.probs,
        keep_N=train.keep,
        gold_N=train.gold,
        weight=task.weight,
        balance=task.balance,
        gold_weight=task.gold_weight,
        multi_label=task.objective.multi_label,
    )
    return train, heldout


def refusal_file(task: TrainTask) -> str:
    """Where a worker writes down why it refused, for the driver."""
    return storage.join(task.work, "refusal.json")


def publish(folder: Path, card: dict[str, Any], target: str) -> None:
    """Copy a finished student to its place, and its card last: a student without one is not finished.

    Args:
        folder: local folder that holds it.
        card: what ``zsd.json`` is to say.
        target: where it goes; what lies there is replaced.
    """
    place = storage.resolve(target)
    storage.delete_folder(target)
    place.fs.create_dir(place.path, recursive=True)
    pafs.copy_files(str(folder), place.path, source_filesystem=pafs.LocalFileSystem(), destination_filesystem=place.fs)
    write_json(storage.join(target, CARD), card)


def trained_card(
    task: TrainTask, train: TrainingRows, heldout: TrainingRows, metrics: Mapping[str, float], **more: Any
) -> dict[str, Any]:
    """What ``zsd.json`` says of a student that the Trainer has trained.

    Args:
        task: its last round.
        train: rows it was trained on.
        heldout: rows it was measured on.
        metrics: of the Trainer on those.
        more: further entries.
    """
    kept = ("agreement", "kl", "loss", "gold_rows", "gold_accuracy")
    figures = {name: metrics[f"eval_{name}"] for name in kept if f"eval_{name}" in metrics}
    return student_card(
        task,
        kind="encoder",
        train_rows=int(train.keep.sum()),
        heldout={"rows": len(heldout), "fraction": task.heldout_fraction, **figures},
        **more,
    )


def student_card(task: TrainTask, **more: Any) -> dict[str, Any]:
    """What ``zsd.json`` of a student says: where it comes from and how it was trained."""
    manifest = Store(task.store).manifest
    return {
        "zsd_version": zsd.__version__,
        "labels": manifest["labels"],
        "teacher": manifest["teacher"],
        "teacher_fingerprint": manifest["teacher_fingerprint"],
        "nli_classes": manifest["nli_classes"],
        "temperature": task.objective.temperature,
        "recipe": task.recipe.to_dict(),
        "student": task.student,
        "gold_rows": len(task.gold),
        "rounds": task.round,
        "objective": asdict(task.objective),
        "weight": task.weight,
        "balance": task.balance,
        "gold_weight": task.gold_weight,
        "freeze_embeddings": task.objective.freeze_embeddings,
        **more,
    }
