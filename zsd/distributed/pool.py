"""Pending units over a pool of actors, CPU and GPU at the same time, each getting units as fast as it finishes them."""

from __future__ import annotations

import itertools
import json
import logging
import os
import socket
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np
import ray.data

from zsd import errors
from zsd.distributed.cluster import PoolSize, actor_kind, placement_here
from zsd.engines.base import Placement
from zsd.errors import ZsdError
from zsd.shards import Unit, UnitRecord

IN_FLIGHT = 2
"""Units handed to an actor at a time: the next one waits there while one is run."""


class UnitWorker(Protocol):
    """Does one unit at a time: reads it, runs the model, commits the shard."""

    def __call__(self, unit: Unit, *, worker: str) -> UnitRecord:
        """Do one unit; `worker` says who did it."""
        ...


class _UnitActor:
    """Ray's side of a `UnitWorker`: tells it where it is, hands it units, sends back what came of them.

    A refusal (`ZsdError`) travels as data, from the constructor too: Ray would turn it into a page of text.
    """

    def __init__(self, make: Callable[[Placement], UnitWorker]) -> None:
        _quiet()
        self.name = f"{actor_kind()} {socket.gethostname()} {os.getpid()}"
        self.refusal: ZsdError | None = None
        try:
            self.worker = make(placement_here())
        except ZsdError as error:
            self.refusal = error

    def __call__(self, batch: dict[str, np.ndarray[Any, Any]]) -> dict[str, list[str]]:
        columns = zip(batch["shard"], batch["row_group"], batch["rows"], strict=True)
        units = [Unit(shard=str(shard), row_group=int(group), rows=int(rows)) for shard, group, rows in columns]
        return {"outcome": [self._outcome(unit) for unit in units]}

    def _outcome(self, unit: Unit) -> str:
        try:
            if self.refusal is not None:
                raise self.refusal
            return json.dumps({"record": asdict(self.worker(unit, worker=self.name))})
        except ZsdError as error:
            return json.dumps({"error": type(error).__name__, "message": str(error)})


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
        outcomes = pending.map_batches(
            _UnitActor,
            fn_constructor_kwargs={"make": make_worker},
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=size.actors, max_tasks_in_flight_per_actor=IN_FLIGHT),
            ray_remote_args_fn=lambda: next(gpu_first, cpu),
        )
    for row in outcomes.iter_rows():
        outcome = json.loads(row["outcome"])
        if "error" in outcome:
            raise getattr(errors, outcome["error"])(outcome["message"])
        yield UnitRecord(**outcome["record"])


def _quiet() -> None:
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
