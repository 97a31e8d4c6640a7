"""`zsd distill`: soft labels to a student, on one or many Ray Train workers, in one or more rounds."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pyarrow.fs as pafs
import ray
import ray.train
from ray.train.torch import TorchTrainer
from ray.util.queue import Empty, Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from zsd import storage
from zsd.config import DistillConfig
from zsd.console import duration, say
from zsd.distributed.cluster import connect, own_error, run_tasks
from zsd.distributed.sizing import may_grow, train_resources
from zsd.distributed.train_entry import train_loop
from zsd.errors import ZsdError, error_named
from zsd.light_training import train_light
from zsd.output import claim
from zsd.shards import Store, read_json
from zsd.students.folder import CARD
from zsd.students.layers import build_student
from zsd.students.spec import parse_student
from zsd.teachers.nli import teacher_checkpoint
from zsd.training_job import CHECKPOINTS, TrainTask, refusal_file
from zsd.training_plan import TrainingPlan, plan_training

WORKER_RETRIES = 3
"""Times that training goes on from its last checkpoint after a worker has died."""


def distill(config: DistillConfig, arguments: dict[str, Any]) -> dict[str, Any]:
    """Train a student, or go on from the last checkpoint of an interrupted run; returns the student's card.

    Args:
        config: what to train on and where to.
        arguments: transformers `TrainingArguments` by name, over zsd's defaults.

    Returns:
        The card of the student; of the first where several are trained, with those of the others under ``students``.

    Raises:
        InputError: the store, a student, the reviewed rows, an argument or the output directory is wrong.
    """
    plan = plan_training(config, arguments)
    claim(config.output, "distill", plan.identity)
    if all(_finished(task) for task in plan.tasks):
        say(f"{config.output}: this distill job is finished, nothing to do")
        return _cards(plan)
    try:
        _check_students(plan)
        connect(config.ray_address)
        for line in plan.remarks:
            say(f"distill: {line}")
        for task in plan.tasks:
            if not _finished(task):
                _train(task, config)
    except ZsdError:
        if not any(_has_checkpoint(task) for task in plan.tasks):
            storage.delete_folder(storage.join(config.output, CHECKPOINTS))
        raise
    storage.delete_folder(storage.join(config.output, CHECKPOINTS))
    return _cards(plan)


def _cards(plan: TrainingPlan) -> dict[str, Any]:
    first, *others = [read_json(storage.join(task.target, CARD)) for task in plan.tasks]
    return {**first, "students": {card["student"]: card for card in others}} if others else first


def _finished(task: TrainTask) -> bool:
    return storage.exists(storage.join(task.target, CARD))


def _check_students(plan: TrainingPlan) -> None:
    """Find a student that cannot be built before a cluster is asked for."""
    for task in plan.tasks:
        labels = Store(task.store).manifest["labels"]
        spec = parse_student(task.student)
        if spec.kind == "encoder":
            build_student(
                spec,
                teacher=teacher_checkpoint(task.teacher),
                names=labels["names"],
                multi_label=labels["multi_label"],
                seed=int(task.arguments.get("seed", 0)),
            )


def _train(task: TrainTask, config: DistillConfig) -> None:
    """All rounds of one student; those that are done already are passed over."""
    started = time.monotonic()
    rows = min(task.limit or math.inf, Store(task.store).manifest["rows"])
    light = parse_student(task.student).kind != "encoder"
    say(f"distill: {task.student} on {rows:,} soft-labelled rows, {1 if light else config.workers} worker(s)")
    for turn in task.turns:
        if storage.exists(storage.join(turn.published, CARD)):
            continue
        if turn.round:
            say(f"distill: round {turn.round} of {task.rounds} of self-training")
        with _lines() as lines:
            if light:
                run_tasks(partial(train_light, write=lines.put), [turn])
            else:
                _fit(turn, config, lines)
    held_out = read_json(storage.join(task.target, CARD))["heldout"]
    told = f"held-out agreement {held_out['agreement']:.3f}"
    if "gold_accuracy" in held_out:
        told += f", accuracy {held_out['gold_accuracy']:.3f} on {held_out['gold_rows']} reviewed rows held out"
    say(f"distill: done in {duration(time.monotonic() - started)}, {told}: {task.target}")


def _has_checkpoint(task: TrainTask) -> bool:
    for turn in task.turns:
        place = storage.resolve(storage.join(task.work, turn.run))
        found = place.fs.get_file_info(pafs.FileSelector(place.path, allow_not_found=True))
        if any(info.base_name.startswith("checkpoint_") for info in found):
            return True
    return False


def _fit(task: TrainTask, config: DistillConfig, lines: Queue) -> None:
    workers, fewest = config.workers, config.min_workers
    grows = config.num_workers is not None and may_grow(config.ray_address)
    use_gpu, threads = train_resources(workers, may_grow=grows)
    place = storage.resolve(task.work)
    place.fs.create_dir(place.path, recursive=True)
    storage.delete_file(refusal_file(task))  # of a driver that died before it could read it
    trainer = TorchTrainer(
        train_loop,
        train_loop_config={"task": ray.put(task), "threads": threads, "lines": lines},
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers if fewest is None else (fewest, workers),
            use_gpu=use_gpu,
            resources_per_worker=_resources(use_gpu, threads),
        ),
        run_config=ray.train.RunConfig(
            name=task.run,
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
        raise error_named(refusal["error"], refusal["message"])


def _resources(use_gpu: bool, threads: int) -> dict[str, float]:
    return {"CPU": threads, "GPU": 1} if use_gpu else {"CPU": threads}


@contextmanager
def _lines() -> Iterator[Queue]:
    """A queue whose lines are printed here as they come; it lives on this node, for with it the training would die."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    queue = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
    stop = threading.Event()

    def drain() -> None:
        while True:
            last = stop.is_set()  # asked before the queue: a line may come after it was found empty
            try:
                say(queue.get(timeout=0.5))
            except Empty:
                if last:
                    return
            except ray.exceptions.RayActorError:  # the training fails of it as well, and says so
                return

    thread = threading.Thread(target=drain, daemon=True)
    thread.start()
    try:
        yield queue
    finally:
        stop.set()
        thread.join(timeout=5)
        queue.shutdown()
