"""`zsd distill`: soft labels to a student, on one or many Ray Train workers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pyarrow.fs as pafs
import ray.train
from ray.train.torch import TorchTrainer
from ray.util.queue import Empty, Queue

from zsd import errors, storage
from zsd.assets import BUNDLED_TEACHER
from zsd.config import DistillConfig
from zsd.console import duration, say
from zsd.distributed.cluster import connect, own_error, train_resources
from zsd.distributed.train_worker import CHECKPOINTS, TrainTask, refusal_file, train_loop
from zsd.errors import ConfigError, ZsdError
from zsd.output import claim
from zsd.shards import Store, checksum, read_json
from zsd.students.folder import CARD, STUDENT
from zsd.students.layers import build_student
from zsd.students.spec import DEFAULT_CHECKPOINT_STUDENT, DEFAULT_LAYERS_STUDENT, parse_student
from zsd.teachers.nli import absolute_checkpoint, teacher_checkpoint

WORKER_RETRIES = 3
"""Times that training goes on from its last checkpoint after a worker has died."""


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
    card_file = storage.join(config.output, STUDENT, CARD)
    if storage.exists(card_file):
        say(f"{config.output}: this distill job is finished, nothing to do")
        return read_json(card_file)
    try:
        _run(task, store, config)
    except ZsdError:
        if not _has_checkpoint(config.output):
            storage.delete_folder(storage.join(config.output, CHECKPOINTS))
        raise
    storage.delete_folder(storage.join(config.output, CHECKPOINTS))
    return read_json(card_file)


def _run(task: TrainTask, store: Store, config: DistillConfig) -> None:
    labels = store.manifest["labels"]
    build_student(
        parse_student(task.student),
        teacher=teacher_checkpoint(task.teacher),
        names=labels["names"],
        multi_label=labels["multi_label"],
        seed=int(task.arguments.get("seed", 0)),
    )
    connect(config.ray_address)
    started = time.monotonic()
    rows = store.manifest["rows"]
    say(f"distill: {task.student} on {rows:,} soft-labelled rows, {config.num_workers} worker(s)")
    _fit(task, config.num_workers)
    agreement = read_json(storage.join(config.output, STUDENT, CARD))["heldout"]["agreement"]
    where = storage.join(config.output, STUDENT)
    say(f"distill: done in {duration(time.monotonic() - started)}, held-out agreement {agreement:.3f}: {where}")


def _has_checkpoint(output: str) -> bool:
    place = storage.resolve(storage.join(output, CHECKPOINTS, "distill"))
    found = place.fs.get_file_info(pafs.FileSelector(place.path, allow_not_found=True))
    return any(info.base_name.startswith("checkpoint_") for info in found)


def _task(config: DistillConfig, store: Store, arguments: dict[str, Any]) -> TrainTask:
    teacher = str(store.manifest["teacher"])
    bundled = teacher == BUNDLED_TEACHER
    return TrainTask(
        store=store.root,
        output=storage.resolve(config.output).uri,
        student=absolute_checkpoint(
            config.student or (DEFAULT_LAYERS_STUDENT if bundled else DEFAULT_CHECKPOINT_STUDENT)
        ),
        teacher=teacher,
        heldout_fraction=config.heldout_fraction,
        freeze_embeddings=config.freeze_embeddings,
        arguments=arguments,
        threads=1,
    )


def _identity(task: TrainTask, store: Store) -> dict[str, Any]:
    shards = "".join(shard["checksum"] for shard in store.manifest["shards"])
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
            train_loop,
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
        except ray.train.WorkerGroupError as error:
            raise next(map(own_error, error.worker_failures.values()), error) from None
    if storage.exists(refusal_file(task)):
        refusal = read_json(refusal_file(task))
        storage.delete_file(refusal_file(task))
        raise getattr(errors, refusal["error"])(refusal["message"])


def _resources(use_gpu: bool, threads: int) -> dict[str, float]:
    return {"CPU": threads, "GPU": 1} if use_gpu else {"CPU": threads}


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
