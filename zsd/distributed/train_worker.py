"""What every Ray Train worker of `zsd distill` runs: build the student, train it, publish it."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import ray.train
from ray.train.huggingface.transformers import RayTrainReportCallback, prepare_trainer
from ray.util.queue import Queue
from transformers import TrainingArguments

import zsd
from zsd import storage
from zsd.distributed.cluster import placement_here
from zsd.errors import ConfigError, InputError
from zsd.quiet import quiet_transformers
from zsd.shards import Store, write_json
from zsd.students.checkpoint import save_student
from zsd.students.folder import CARD, STUDENT
from zsd.students.layers import build_student
from zsd.students.spec import parse_student
from zsd.teachers.nli import one_line, teacher_checkpoint
from zsd.training import default_training_arguments, make_trainer
from zsd.training_data import build_datasets

CHECKPOINTS = "checkpoints"


@dataclass(frozen=True, kw_only=True)
class TrainTask:
    """All that a training worker needs; picklable.

    Args:
        store: output directory of the label job.
        output: the distill job's output directory.
        student: what `zsd.students.spec.parse_student` reads.
        teacher: ``bundled`` or the checkpoint to cut a ``layers:`` student from.
        heldout_fraction: share of rows held out.
        freeze_embeddings: None: for ``layers:`` students only.
        arguments: transformers `TrainingArguments` the user gave.
        threads: processor threads of a worker.
        lines: where progress lines go.
    """

    store: str
    output: str
    student: str
    teacher: str
    heldout_fraction: float
    freeze_embeddings: bool | None
    arguments: dict[str, Any]
    threads: int
    lines: Queue | None = None


def train_loop(config: dict[str, TrainTask]) -> None:
    """What every Ray Train worker runs.

    A refusal (`InputError`; all workers come to the same) is written down for the driver: raised, Ray would take it
    for a death and try again.
    """
    task = config["task"]
    try:
        _train(task)
    except InputError as error:
        write_json(refusal_file(task), {"error": type(error).__name__, "message": str(error)})


def refusal_file(task: TrainTask) -> str:
    """Where a worker writes down why it refused."""
    return storage.join(task.output, CHECKPOINTS, "refusal.json")


def _train(task: TrainTask) -> None:
    import torch

    torch.set_num_threads(task.threads)
    context = ray.train.get_context()
    store = Store(task.store)
    labels = store.manifest["labels"]
    spec = parse_student(task.student)
    model, tokenizer = build_student(
        spec,
        teacher=teacher_checkpoint(task.teacher),
        names=labels["names"],
        multi_label=labels["multi_label"],
        seed=int(task.arguments.get("seed", 0)),
    )
    train, heldout = build_datasets(
        _batches(store),
        tokenizer=tokenizer,
        max_length=tokenizer.model_max_length,
        heldout_fraction=task.heldout_fraction,
    )
    use_cpu = bool(task.arguments.get("use_cpu", placement_here().device == "cpu"))
    chosen = default_training_arguments(len(train), use_cpu=use_cpu, workers=context.get_world_size()) | task.arguments
    frozen = task.freeze_embeddings if task.freeze_embeddings is not None else spec.layers is not None
    write = _writer(task, context.get_world_rank())
    with tempfile.TemporaryDirectory(prefix="zsd-train-") as scratch, quiet_transformers():
        trainer = make_trainer(
            model,
            tokenizer,
            _training_arguments(scratch, chosen),
            train=train,
            heldout=heldout,
            multi_label=labels["multi_label"],
            temperature=store.manifest["temperature"],
            freeze_embeddings=frozen,
            write=write,
        )
        trainer.add_callback(RayTrainReportCallback())
        trainer = prepare_trainer(trainer)
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            trainer.train()
        else:
            write("distill: going on from the last checkpoint")
            with checkpoint.as_directory() as directory:
                trainer.train(resume_from_checkpoint=str(Path(directory) / RayTrainReportCallback.CHECKPOINT_NAME))
        metrics = trainer.evaluate()
        if context.get_world_rank() == 0:
            card = _card(task, store, chosen, frozen, metrics, len(train), len(heldout))
            card["parameters"] = sum(parameter.numel() for parameter in model.parameters())
            card["workers"] = context.get_world_size()
            _publish(model, tokenizer, card, Path(scratch) / STUDENT, storage.join(task.output, STUDENT))


def _training_arguments(scratch: str, chosen: dict[str, Any]) -> TrainingArguments:
    try:
        return TrainingArguments(output_dir=scratch, **chosen)
    except (ValueError, TypeError, ImportError) as error:
        raise ConfigError(f"transformers refuses the training arguments: {one_line(error)}") from None


def _batches(store: Store) -> Iterator[pa.RecordBatch]:
    return itertools.chain.from_iterable(table.to_batches() for table in store.tables(["id", "text", "probs"]))


def _writer(task: TrainTask, rank: int) -> Callable[[str], None]:
    lines = task.lines
    if rank != 0 or lines is None:
        return lambda line: None

    def write(line: str) -> None:
        lines.put(line)

    return write


def _card(
    task: TrainTask,
    store: Store,
    chosen: dict[str, Any],
    frozen: bool,
    metrics: dict[str, float],
    train_rows: int,
    heldout_rows: int,
) -> dict[str, Any]:
    manifest = store.manifest
    kept = {name: metrics[f"eval_{name}"] for name in ("agreement", "kl", "loss")}
    return {
        "zsd_version": zsd.__version__,
        "labels": manifest["labels"],
        "teacher": manifest["teacher"],
        "teacher_fingerprint": manifest["teacher_fingerprint"],
        "nli_classes": manifest["nli_classes"],
        "temperature": manifest["temperature"],
        "student": task.student,
        "train_rows": train_rows,
        "heldout": {"rows": heldout_rows, "fraction": task.heldout_fraction, **kept},
        "freeze_embeddings": frozen,
        "training_arguments": chosen,
    }


def _publish(model: Any, tokenizer: Any, card: dict[str, Any], scratch: Path, target: str) -> None:
    """Write the checkpoint here, copy it to the output, and its card last: a student without one is not finished."""
    save_student(model, tokenizer, scratch)
    place = storage.resolve(target)
    storage.delete_folder(target)
    place.fs.create_dir(place.path, recursive=True)
    pafs.copy_files(str(scratch), place.path, source_filesystem=pafs.LocalFileSystem(), destination_filesystem=place.fs)
    write_json(storage.join(target, CARD), card)
