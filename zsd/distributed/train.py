"""`zsd distill`: soft labels to a student, on one or many Ray Train workers."""

from __future__ import annotations

import itertools
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import ray
import ray.train
from ray.train.huggingface.transformers import RayTrainReportCallback, prepare_trainer
from ray.train.torch import TorchTrainer
from ray.util.queue import Empty, Queue
from transformers import TrainingArguments

import zsd
from zsd import storage
from zsd.assets import BUNDLED_TEACHER, bundled_teacher_path
from zsd.config import DistillConfig
from zsd.console import say
from zsd.distributed.cluster import connect, own_error, placement_here, train_resources
from zsd.errors import ConfigError, ZsdError
from zsd.output import claim
from zsd.shards import Store, checksum, read_json, write_json
from zsd.student import (
    CARD,
    DEFAULT_CHECKPOINT_STUDENT,
    DEFAULT_LAYERS_STUDENT,
    STUDENT,
    build_student,
    parse_student,
    quiet_transformers,
    save_student,
)
from zsd.teachers.nli import one_line
from zsd.training import default_training_arguments, make_trainer
from zsd.training_data import build_datasets

CHECKPOINTS = "checkpoints"
WORKER_RETRIES = 3
"""Times that training goes on from its last checkpoint after a worker has died."""


@dataclass(frozen=True, kw_only=True)
class TrainTask:
    """All that a training worker needs; picklable.

    Args:
        store: output directory of the label job.
        output: the distill job's output directory.
        student: what `zsd.student.parse_student` reads.
        teacher: checkpoint to cut a ``layers:`` student from.
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


def distill(config: DistillConfig, arguments: dict[str, Any]) -> dict[str, Any]:
    """Train a student, or go on from the last checkpoint of an interrupted run; returns the student's card.

    Args:
        config: what to train on and where to.
        arguments: transformers `TrainingArguments` by name, over zsd's defaults.

    Raises:
        InputError: the store, the student, an argument or the output directory is wrong.
    """
    store = Store(config.soft_labels)
    if store.manifest["job"] != "label":
        raise ConfigError(f"{config.soft_labels}: holds predictions, not soft labels: give the output of zsd label")
    task = _task(config, store, arguments)
    claim(config.output, "distill", _identity(task, store))
    directory = storage.join(config.output, STUDENT)
    if storage.exists(storage.join(directory, CARD)):
        say(f"{config.output}: this distill job is finished, nothing to do")
        return read_json(storage.join(directory, CARD))
    labels = store.manifest["labels"]
    build_student(
        parse_student(task.student),
        teacher=task.teacher,
        names=labels["names"],
        multi_label=labels["multi_label"],
        seed=int(arguments.get("seed", 0)),
    )
    connect(config.ray_address)
    started = time.monotonic()
    rows = store.manifest["rows"]
    say(f"distill: {task.student} on {rows:,} soft-labelled rows, {config.num_workers} worker(s)")
    _fit(task, config.num_workers)
    card = read_json(storage.join(directory, CARD))
    storage.delete_folder(storage.join(config.output, CHECKPOINTS))
    took = time.monotonic() - started
    say(f"distill: done in {took:.0f}s, held-out agreement {card['heldout']['agreement']:.3f}: {directory}")
    return card


def _task(config: DistillConfig, store: Store, arguments: dict[str, Any]) -> TrainTask:
    teacher = str(store.manifest["teacher"])
    bundled = teacher == BUNDLED_TEACHER
    return TrainTask(
        store=store.root,
        output=storage.resolve(config.output).uri,
        student=config.student or (DEFAULT_LAYERS_STUDENT if bundled else DEFAULT_CHECKPOINT_STUDENT),
        teacher=str(bundled_teacher_path()) if bundled else teacher,
        heldout_fraction=config.heldout_fraction,
        freeze_embeddings=config.freeze_embeddings,
        arguments=arguments,
        threads=1,
    )


def _identity(task: TrainTask, store: Store) -> dict[str, Any]:
    shards = "".join(unit["checksum"] for unit in store.manifest["units"])
    return {
        "soft_labels": checksum(shards.encode()),
        "student": task.student,
        "heldout_fraction": task.heldout_fraction,
        "freeze_embeddings": task.freeze_embeddings,
        "training_arguments": task.arguments,
    }


def _fit(task: TrainTask, workers: int) -> None:
    use_gpu, threads = train_resources(workers)
    place = storage.resolve(storage.join(task.output, CHECKPOINTS))
    place.fs.create_dir(place.path, recursive=True)
    with _lines() as queue:
        trainer = TorchTrainer(
            _train_loop,
            train_loop_config={"task": replace(task, threads=threads, lines=queue)},
            scaling_config=ray.train.ScalingConfig(
                num_workers=workers, use_gpu=use_gpu, resources_per_worker=_resources(use_gpu, threads)
            ),
            run_config=ray.train.RunConfig(
                name="distill",
                storage_path=place.path,
                storage_filesystem=place.fs,
                failure_config=ray.train.FailureConfig(max_failures=WORKER_RETRIES),
                checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
            ),
        )
        try:
            trainer.fit()
        except (ray.exceptions.RayError, ray.train.TrainingFailedError) as error:
            raise _training_error(error) from None


def _resources(use_gpu: bool, threads: int) -> dict[str, float]:
    return {"CPU": threads, "GPU": 1} if use_gpu else {"CPU": threads}


def _training_error(error: BaseException) -> BaseException:
    failures = getattr(error, "worker_failures", {}) or {}
    for failure in (*failures.values(), error):
        found = own_error(failure)
        if isinstance(found, ZsdError):
            return found
    return error


@contextmanager
def _lines() -> Iterator[Queue]:
    """A queue whose lines are printed here as they come."""
    queue = Queue(actor_options={"num_cpus": 0})
    stop = threading.Event()

    def drain() -> None:
        while True:
            try:
                say(queue.get(timeout=0.5))
            except Empty:
                if stop.is_set():
                    return

    thread = threading.Thread(target=drain, daemon=True)
    thread.start()
    try:
        yield queue
    finally:
        stop.set()
        thread.join(timeout=5)
        queue.shutdown()


def _train_loop(config: dict[str, TrainTask]) -> None:
    """What every Ray Train worker runs."""
    import torch

    task = config["task"]
    torch.set_num_threads(task.threads)
    context = ray.train.get_context()
    store = Store(task.store)
    labels = store.manifest["labels"]
    spec = parse_student(task.student)
    model, tokenizer = build_student(
        spec,
        teacher=task.teacher,
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
