"""Pending units over a pool of actors, CPU and GPU at the same time, each getting units as fast as it finishes them."""

from __future__ import annotations

import itertools
import logging
import os
import socket
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np
import ray
import ray.data

from zsd.distributed.cluster import PoolSize, actor_kind, own_error, placement_here
from zsd.engines.base import Placement
from zsd.shards import Unit, UnitRecord

IN_FLIGHT = 2
"""Units handed to an actor at a time: the next one waits there while one is run."""


class UnitWorker(Protocol):
    """Does one unit at a time: reads it, runs the model, commits the shard."""

    def __call__(self, unit: Unit, *, worker: str) -> UnitRecord:
        """Do one unit; `worker` says who did it."""
        ...


class _UnitActor:
    """Ray's side of a `UnitWorker`: tells it where it is, hands it units, sends back records."""

    def __init__(self, make: Callable[[Placement], UnitWorker]) -> None:
        _quiet()
        self.worker = make(placement_here())
        self.name = f"{actor_kind()} {socket.gethostname()} {os.getpid()}"

    def __call__(self, batch: dict[str, np.ndarray[Any, Any]]) -> dict[str, list[Any]]:
        units = [
            Unit(shard=str(shard), row_group=int(group), rows=int(rows))
            for shard, group, rows in zip(batch["shard"], batch["row_group"], batch["rows"], strict=True)
        ]
        records = [asdict(self.worker(unit, worker=self.name)) for unit in units]
        return {key: [record[key] for record in records] for key in records[0]}


def run_units(
    units: Sequence[Unit], make_worker: Callable[[Placement], UnitWorker], size: PoolSize
) -> Iterator[UnitRecord]:
    """Run every unit once and yield its record as soon as it is committed, in any order.

    An actor that dies is started again and its unit retried by Ray. One Ray Data operator holds both kinds of actor;
    that needs `ray_remote_args_fn`, which Ray drops in 2.64: this function is the only place that knows.

    Args:
        units: at least one.
        make_worker: picklable; called once in every actor.
        size: the pool; it must fit the cluster.

    Raises:
        ZsdError: a worker refused; units committed so far stay committed.
    """
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.issue_detectors_config.detectors = []  # a detector would ask for one more actor's arguments
    for name in ("ray.data", "ray.data.dataset"):
        logging.getLogger(name).setLevel(logging.ERROR)
    gpu_first = itertools.chain([{"num_gpus": 1, "num_cpus": 1}] * size.gpu_actors)
    cpu = {"num_cpus": size.cpus_per_actor, "num_gpus": 0}
    pending = ray.data.from_items([asdict(unit) for unit in units], override_num_blocks=len(units))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*ray_remote_args_fn")
        records = pending.map_batches(
            _UnitActor,
            fn_constructor_kwargs={"make": make_worker},
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=size.actors, max_tasks_in_flight_per_actor=IN_FLIGHT),
            ray_remote_args_fn=lambda: next(gpu_first, cpu),
        )
    try:
        for record in records.iter_rows():
            yield UnitRecord(**record)
    except (ray.exceptions.RayError, ray.exceptions.UserCodeException) as error:
        raise own_error(error) from None


def _quiet() -> None:
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
