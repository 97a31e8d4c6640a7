"""What every Ray Train worker of `zsd distill` runs: its share of preparing the rows, then the training itself.

The corpus is not streamed through Ray Data: what a shard of a stream gives depends on the number of workers, and it
cannot go on in the middle. The workers tokenize the store once, into files that all of them map (`zsd.training_rows`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.fs as pafs
import ray.train
import torch
from ray.train.collective import barrier
from ray.train.huggingface.transformers import RayTrainReportCallback, prepare_trainer
from ray.util.queue import Queue
from transformers import TrainingArguments
from transformers.integrations import TensorBoardCallback

from zsd import storage
from zsd.distributed.cluster import placement_here
from zsd.errors import ConfigError, InputError
from zsd.inference import FloatArray, probabilities, token_logits
from zsd.quiet import quiet_transformers
from zsd.round_labels import prepare_answers, prepare_labels
from zsd.self_training import gentler
from zsd.shards import Store, write_json
from zsd.students.checkpoint import load_checkpoint, save_student
from zsd.students.layers import build_student
from zsd.students.spec import parse_student
from zsd.teachers.nli import one_line, teacher_checkpoint
from zsd.training import default_training_arguments, make_trainer
from zsd.training_events import keep_events
from zsd.training_flags import check_reports
from zsd.training_job import (
    TrainTask,
    open_sides,
    prepare_rows,
    publish,
    refusal_file,
    trained_card,
)


@dataclass(frozen=True, kw_only=True)
class WorkerTask:
    """The training, and what a worker is given for it.

    Args:
        task: the training.
        threads: processor threads of a worker.
        lines: where progress lines go.
    """

    task: TrainTask
    threads: int
    lines: Queue


def train(here: WorkerTask) -> None:
    """A worker's part of a round of training.

    A refusal (`InputError`; all workers come to the same) is written down for the driver: raised, Ray would take it
    for a death and try again.
    """
    torch.set_num_threads(here.threads)
    try:
        with tempfile.TemporaryDirectory(prefix="zsd-train-") as scratch, quiet_transformers():
            _Round(here, Path(scratch)).run()
    except InputError as error:
        write_json(refusal_file(here.task), {"error": type(error).__name__, "message": str(error)})


class _Round:
    """One round of training, as one worker sees it."""

    def __init__(self, here: WorkerTask, scratch: Path) -> None:
        self.task, self.scratch = here.task, scratch
        context = ray.train.get_context()
        self.worker, self.workers = context.get_world_rank(), context.get_world_size()
        self.write: Callable[[str], None] = here.lines.put if self.worker == 0 else lambda line: None
        self.device = placement_here().device
        self.use_cpu = bool(self.task.arguments.get("use_cpu", self.device == "cpu"))

    def run(self) -> None:
        """Prepare, train, and publish the student."""
        task = self.task
        model, tokenizer = self._student()
        prepare_rows(task, tokenizer, worker=self.worker, workers=self.workers)
        barrier()
        rows = self._local(task.rows)
        train, heldout = open_sides(task, rows, self._labels(rows))
        chosen = self._chosen(int(train.keep.sum()))
        trainer = make_trainer(
            model,
            tokenizer,
            _training_arguments(str(self.scratch), chosen),
            train=train,
            heldout=heldout,
            objective=task.objective,
            write=self.write,
        )
        keep_events(trainer, task.events, self.scratch / "tensorboard")
        trainer.add_callback(RayTrainReportCallback())
        trainer = prepare_trainer(trainer)
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            trainer.train()
        else:
            self.write("distill: going on from the last checkpoint")
            with checkpoint.as_directory() as directory:
                trainer.train(resume_from_checkpoint=str(Path(directory) / RayTrainReportCallback.CHECKPOINT_NAME))
        trainer.remove_callback(TensorBoardCallback)  # it would begin another file, which nobody closes
        metrics = trainer.evaluate()
        if self.worker == 0:
            facts = {
                "steps": trainer.state.global_step,
                "training_arguments": chosen,
                "parameters": sum(parameter.numel() for parameter in model.parameters()),
                "workers": self.workers,
            }
            save_student(model, tokenizer, self.scratch / "student")
            card = trained_card(task, train, heldout, metrics, **facts)
            publish(self.scratch / "student", card, task.published)

    def _student(self) -> tuple[Any, Any]:
        """The student to train: as asked for, or in a later round the one that the round before has left."""
        labels = Store(self.task.store).manifest["labels"]
        return build_student(
            parse_student(self._local(self.task.before) if self.task.round else self.task.student),
            teacher=teacher_checkpoint(self.task.teacher),
            names=labels["names"],
            multi_label=labels["multi_label"],
            seed=int(self.task.arguments.get("seed", 0)),
        )

    def _labels(self, rows: str) -> str | None:
        """Local folder of the labels of this round, made where they are not there yet; None: the teacher's."""
        if self.task.labels is None:
            return None
        share = {"worker": self.worker, "workers": self.workers}
        model, tokenizer = load_checkpoint(self._local(self.task.before))
        model.to(self.device)
        bf16 = self._chosen(1)["bf16"]  # depends on the hardware, not on the rows

        def answers(ids: Sequence[Any]) -> FloatArray:
            with torch.autocast(self.device, torch.bfloat16, enabled=bf16):
                logits_NK = token_logits(model, tokenizer, ids)
            objective = self.task.objective
            return probabilities(logits_NK / np.float32(objective.temperature), multi_label=objective.multi_label)

        prepare_answers(self.task, rows, answers, **share)
        barrier()
        prepare_labels(self.task, rows, self._local(self.task.answers), **share)
        barrier()
        return self._local(self.task.labels)

    def _chosen(self, train_rows: int) -> dict[str, Any]:
        """The training arguments: zsd's defaults on this hardware, and over them what the user gave."""
        defaults = default_training_arguments(train_rows, use_cpu=self.use_cpu, workers=self.workers)
        return (gentler(defaults) if self.task.round else defaults) | self.task.arguments

    def _local(self, uri: str) -> str:
        """A folder on a file system of this machine: itself, or a copy of it where it lies in an object store."""
        place = storage.resolve(uri)
        if place.is_local:
            return place.path
        copy = self.scratch / place.path.rpartition("/")[2]
        if not copy.exists():
            copy.mkdir()
            pafs.copy_files(place.path, str(copy), source_filesystem=place.fs)
        return str(copy)


def _training_arguments(scratch: str, chosen: dict[str, Any]) -> TrainingArguments:
    try:
        args = TrainingArguments(output_dir=scratch, **chosen)
    except (ValueError, TypeError, ImportError) as error:
        raise ConfigError(f"transformers refuses the training arguments: {one_line(error)}") from None
    check_reports(args)
    return args
