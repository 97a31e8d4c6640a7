"""The actor of the pool as a plain object, and what the pool makes of its answers: Ray is stood in for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import ray

from tests.unit.store import record
from zsd.attempts import Piece
from zsd.distributed import pool, unit_actor
from zsd.distributed.sizing import PoolSize
from zsd.distributed.unit_actor import Outcome, UnitActor
from zsd.engines.base import Placement
from zsd.errors import EngineError, StoreError, TeacherError
from zsd.shards import UnitRecord
from zsd.unit_rows import Skip
from zsd.units import Unit

FIRST, SECOND = Unit(shard="shard-00000.parquet", first=0, sizes=(4, 4)).single()


class Worker:
    """Fails on the units that it is told to."""

    def __init__(self) -> None:
        self.fails: dict[Unit, Exception] = {}

    def __call__(self, unit: Unit, *, worker: str, skip: Skip = ()) -> UnitRecord:
        self.probe(unit, start=0, stop=unit.rows, skip=skip)
        return record(unit)

    def probe(self, unit: Unit, *, start: int, stop: int, skip: Skip = ()) -> None:
        if unit in self.fails:
            raise self.fails[unit]


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    monkeypatch.setattr(unit_actor, "actor_kind", lambda: "gpu")
    monkeypatch.setattr(unit_actor, "placement_here", Placement)
    monkeypatch.setattr(unit_actor, "_Counters", lambda *_: SimpleNamespace(add=lambda record: None))
    return Worker()


def test_rows_are_to_blame_as_long_as_others_work(worker: Worker) -> None:
    actor = UnitActor(lambda placement: worker, "label")
    worker.fails[SECOND] = RuntimeError("CUDA error: out of memory")
    failed = actor.run(Piece(unit=SECOND))
    assert (failed.failed, failed.broken) == ("RuntimeError: CUDA error: out of memory", False), "nothing is known yet"
    assert actor.run(Piece(unit=FIRST)).record == record(FIRST)
    assert not actor.run(Piece(unit=SECOND)).broken


@pytest.mark.parametrize("error", [RuntimeError("device lost"), EngineError("a logit is not finite")])
def test_a_model_that_fails_on_rows_it_did_before_is_broken(worker: Worker, error: Exception) -> None:
    actor = UnitActor(lambda placement: worker, "label")
    actor.run(Piece(unit=FIRST))
    worker.fails = {FIRST: error, SECOND: error}
    for piece in (Piece(unit=SECOND), Piece(unit=SECOND, probe=(0, 2))):
        outcome = actor.run(piece)
        assert outcome.broken
        assert str(error) in str(outcome.failed)


@pytest.mark.parametrize("error", [OSError("slow down"), StoreError("shard is damaged")])
def test_storage_that_fails_says_nothing_of_the_model(worker: Worker, error: Exception) -> None:
    actor = UnitActor(lambda placement: worker, "label")
    actor.run(Piece(unit=FIRST))
    worker.fails = {FIRST: error, SECOND: RuntimeError("bad row")}
    assert not actor.run(Piece(unit=SECOND)).broken


def test_a_refusal_and_a_model_that_cannot_be_loaded_end_the_job(worker: Worker) -> None:
    def refuse(placement: Placement) -> Worker:
        raise TeacherError("no NLI model")

    def stumble(placement: Placement) -> Worker:
        raise KeyError("weights")

    for make, told in ((refuse, ("TeacherError", "no NLI model")), (stumble, ("EngineError", "cannot load the model"))):
        _, refusal = UnitActor(make, "label").ready()
        assert refusal is not None
        assert refusal.refused is not None
        assert refusal.refused[0] == told[0]
        assert told[1] in refusal.refused[1]


def test_the_pool_replaces_a_broken_actor_and_its_pieces_have_failed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    killed: list[Any] = []
    said = Outcome(failed="RuntimeError: device lost", broken=True)
    fake = SimpleNamespace(get=lambda one: said, kill=killed.append, exceptions=ray.exceptions)
    monkeypatch.setattr(pool, "ray", fake)
    monkeypatch.setattr(pool._Pool, "_start", lambda self, kind: pool._Slot(kind=kind, handle="new", loading="l"))
    size = PoolSize(cpu_actors=0, gpu_actors=1, cpus_per_actor=1)
    actors = pool._Pool(make_worker=lambda placement: Worker(), size=size, job="label")
    pieces = {"one": Piece(unit=FIRST), "two": Piece(unit=SECOND)}
    slot = pool._Slot(kind="gpu", handle="old", loading="l", name="gpu here 1", pieces=dict(pieces))
    actors.slots = [slot]
    answers = actors._hear(slot, "one")
    assert [one.piece for one in answers] == list(pieces.values())
    told = "is broken: it fails on rows that it did before: RuntimeError: device lost"
    assert {one.outcome.failed for one in answers} == {f"the gpu actor {told}"}
    assert (killed, [one.handle for one in actors.slots]) == (["old"], ["new"])
    assert capsys.readouterr().err == f"zsd: label: gpu here 1 {told}: another takes its place\n"


def test_what_an_actor_commits_is_counted_for_rays_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: dict[str, float] = {}

    class Counter:
        def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
            self.name, self.tag_keys = name, tag_keys

        def inc(self, value: float, tags: dict[str, str]) -> None:
            assert value > 0, "Ray refuses it"
            assert tags == {"job": "label", "actor": "gpu", "engine": "torch fp32"}
            assert set(tags) == set(self.tag_keys)
            counted[self.name] = counted.get(self.name, 0) + value

    monkeypatch.setattr(unit_actor, "actor_kind", lambda: "gpu")
    monkeypatch.setattr(unit_actor, "placement_here", Placement)
    monkeypatch.setattr(unit_actor, "Counter", Counter)
    worker = Worker()
    actor = UnitActor(lambda placement: worker, "label")
    actor.run(Piece(unit=FIRST))
    worker.fails[SECOND] = RuntimeError("a row that kills")
    actor.run(Piece(unit=SECOND))
    assert counted == {"zsd_rows": 4, "zsd_pairs": record(FIRST).pairs, "zsd_tokens": 100}, "a failure counts nothing"
    actor.counters.add(record(SECOND, rejected=2))
    assert counted["zsd_rejected"] == 2
