"""`zsd label` in this process: the stand-in teacher in a plain loop where the pool of actors would be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests import standin
from zsd import teacher_plan
from zsd.attempts import Attempts
from zsd.distributed import store_job
from zsd.distributed.sizing import PoolSize
from zsd.engines import registry
from zsd.engines.base import Placement
from zsd.shards import UnitRecord

NAME = "cpu here 1"


class Killed(BaseException):
    """The process ends: nothing may catch it."""


def run_units(
    attempts: Attempts, make_worker: Callable[[Placement], Any], *_: Any, after: int | None = None, **__: Any
) -> Iterator[UnitRecord]:
    """What the pool does; with `after`, it is killed when so many units are committed."""
    worker = make_worker(Placement())
    done = 0
    while attempts:
        piece = attempts.next(NAME, [NAME])
        assert piece is not None
        record: UnitRecord = worker(piece.unit, worker=NAME, skip=piece.skip)
        attempts.succeeded(piece, NAME, record.seconds)
        yield record
        done += 1
        if done == after:
            raise Killed


def install(monkeypatch: pytest.MonkeyPatch, *, killed_after: int | None = None) -> None:
    """From now on `zsd.distributed.label.label` needs no Ray."""

    def run(*asked: Any, **options: Any) -> Iterator[UnitRecord]:
        return run_units(*asked, after=killed_after, **options)

    monkeypatch.setattr(registry, "ENGINES", registry.ENGINES)  # which the stand-in changes: undone with the rest
    monkeypatch.setattr(teacher_plan, "LabelTask", standin.task_maker())
    monkeypatch.setattr(store_job, "run_units", run)
    monkeypatch.setattr(store_job, "connect", lambda address: None)
    monkeypatch.setattr(store_job, "pool_size", lambda **_: PoolSize(cpu_actors=1, gpu_actors=0, cpus_per_actor=1))
