"""Pieces of work over a pool of actors, CPU and GPU at the same time, each given the next as soon as it is free.

The actors are Ray's, the order is ours (`zsd.attempts`): an operator of Ray Data retries a block whose actor died for
ever, and cannot cut the next block to the speed of who asks for it.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import ray

from zsd.attempts import Attempts, Piece
from zsd.console import say
from zsd.distributed.sizing import PoolSize
from zsd.distributed.unit_actor import Outcome, UnitActor, UnitWorker
from zsd.engines.base import Placement
from zsd.engines.registry import ENGINE_NAMES
from zsd.errors import EngineError, ZsdError, error_named
from zsd.shards import UnitRecord

LOAD_ATTEMPTS = len(ENGINE_NAMES) + 1
"""Times in a row that actors of a kind may die while they load the model: each of the engines may kill its process in
a trial of ``--engine auto`` once, and is left out of the next."""

IN_FLIGHT = 2
"""Pieces with an actor at a time: while one is in the engine, another thread reads and tokenizes the next. Where rows
are under suspicion it is one: of two that an actor dies with, nobody could say which was to blame."""

WAIT_SECONDS = 1.0
WAITING_SECONDS = 60.0
"""Seconds after which a line says that actors are waited for, and again until there is one."""


@dataclass(kw_only=True, eq=False)
class _Slot:
    """One place of the pool: an actor and what it is doing."""

    kind: str
    handle: Any
    loading: Any
    name: str | None = None
    pieces: dict[Any, Piece] = field(default_factory=dict)

    @property
    def waits_for(self) -> list[Any]:
        """What the actor has been asked and not answered."""
        return [self.loading] if self.name is None else list(self.pieces)


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """What came of one piece, and who did it."""

    piece: Piece
    worker: str
    outcome: Outcome


@dataclass(kw_only=True)
class _Pool:
    """The actors; one that dies is replaced by another of its kind."""

    make_worker: Callable[[Placement], UnitWorker]
    size: PoolSize
    job: str
    slots: list[_Slot] = field(default_factory=list)
    died_loading: dict[str, int] = field(default_factory=dict)

    def start(self) -> None:
        kinds = ["gpu"] * self.size.gpu_actors + ["cpu"] * self.size.cpu_actors
        self.slots = [self._start(kind) for kind in kinds]

    def _start(self, kind: str) -> _Slot:
        needs = {"num_gpus": 1, "num_cpus": 1} if kind == "gpu" else {"num_cpus": self.size.cpus_per_actor}
        options = {"max_restarts": 0, "max_concurrency": IN_FLIGHT, **needs}
        handle = ray.remote(UnitActor).options(**options).remote(self.make_worker, self.job)
        return _Slot(kind=kind, handle=handle, loading=handle.ready.remote())

    def hand_out(self, attempts: Attempts) -> None:
        """Give every actor that waits for work a piece, and then one more, as long as there are any."""
        names = [slot.name for slot in self.slots if slot.name is not None]
        for depth in range(1, 2 if attempts.hunting else IN_FLIGHT + 1):
            for slot in self.slots:
                if slot.name is None or len(slot.pieces) >= depth:
                    continue
                piece = attempts.next(slot.name, names)
                if piece is None:
                    return
                slot.pieces[slot.handle.run.remote(piece)] = piece

    def wait(self) -> list[_Answer]:
        """What came of the pieces that ended, after a second at most.

        Raises:
            ZsdError: an actor cannot work.
        """
        asked = {one: slot for slot in self.slots for one in slot.waits_for}
        done, _ = ray.wait(list(asked), num_returns=1, timeout=WAIT_SECONDS)
        return [answer for one in done for answer in self._hear(asked[one], one)]

    def _hear(self, slot: _Slot, one: Any) -> list[_Answer]:
        if slot not in self.slots:
            return []
        try:
            said = ray.get(one)
        except ray.exceptions.RayTaskError:
            raise  # a fault of zsd, not of a node
        except ray.exceptions.RayError as error:
            return self._replace(slot, _why(error))
        if slot.name is not None:
            if said.broken:
                return self._replace(slot, f"it fails on rows that it did before: {said.failed}", fate="is broken")
            return [_Answer(piece=slot.pieces.pop(one), worker=slot.name, outcome=said)]
        slot.name, refusal = said
        self.died_loading[slot.kind] = 0
        if refusal is not None:
            raise own(refusal)
        return []

    def _replace(self, slot: _Slot, why: str, *, fate: str = "died") -> list[_Answer]:
        """Start another actor for one that died or is of no use any more; what it was doing has failed."""
        ray.kill(slot.handle)
        self.slots[self.slots.index(slot)] = self._start(slot.kind)
        say(f"{self.job}: {slot.name or f'a {slot.kind} actor'} {fate}: {why}: another takes its place")
        if slot.name is not None:
            lost = Outcome(failed=f"the {slot.kind} actor {fate}: {why}")
            return [_Answer(piece=piece, worker=slot.name, outcome=lost) for piece in slot.pieces.values()]
        self.died_loading[slot.kind] = self.died_loading.get(slot.kind, 0) + 1
        if self.died_loading[slot.kind] >= LOAD_ATTEMPTS:
            raise EngineError(
                f"a {slot.kind} actor died {LOAD_ATTEMPTS} times while it loaded the model, the last time because "
                f"{why}: use fewer actors, or a smaller model"
            )
        return []

    def close(self) -> None:
        """End the actors; what they have committed stays."""
        for slot in self.slots:
            ray.kill(slot.handle)


@dataclass(kw_only=True)
class _Waiting:
    """Says that actors are waited for: a cluster may be full, or about to grow."""

    job: str
    since: float = field(default_factory=time.monotonic)
    told: bool = False

    def look(self, slots: list[_Slot]) -> None:
        """Say so where it has lasted: once while some actors work, again and again while none does."""
        ready, now = sum(slot.name is not None for slot in slots), time.monotonic()
        if ready == len(slots):
            self.since, self.told = now, False
        elif now - self.since > WAITING_SECONDS and not (ready and self.told):
            self.since, self.told = now, True
            has, free = ray.cluster_resources(), ray.available_resources()
            room = " and ".join(f"{free.get(name, 0):.0f} of {has.get(name, 0):.0f} {name}s" for name in ("CPU", "GPU"))
            say(
                f"{self.job}: {ready} of {len(slots)} actors are at work; the others wait for room in the cluster "
                f"({room} are free) or load the model"
            )


def _why(error: BaseException) -> str:
    """What Ray says of an actor's death, in a few words."""
    text = str(error)
    if re.search("OUT_OF_MEMORY|low on memory", text):
        return "its node had too little memory"
    if re.search("node (has )?died|node was terminated", text):
        return "its node died"
    return "its process ended, perhaps killed for memory"


def own(refused: Outcome) -> ZsdError:
    """The error that an outcome carries."""
    assert refused.refused is not None
    return error_named(*refused.refused)


def run_units(
    attempts: Attempts, make_worker: Callable[[Placement], UnitWorker], size: PoolSize, *, job: str
) -> Iterator[UnitRecord | None]:
    """Do every unit once and yield its record as soon as it is committed, in any order; None when a second has passed.

    Args:
        attempts: what is to do; it also decides what a failure leads to.
        make_worker: picklable; called once in every actor.
        size: the pool; actors for which the cluster has no room join when it has.
        job: ``label`` or ``predict``, for the metrics.

    Raises:
        ZsdError: a worker refused, or too much failed; units committed so far stay committed.
    """
    logging.getLogger("ray").setLevel(logging.ERROR)
    pool = _Pool(make_worker=make_worker, size=size, job=job)
    pool.start()
    waiting = _Waiting(job=job)
    try:
        while attempts:
            pool.hand_out(attempts)
            answers = pool.wait()
            waiting.look(pool.slots)
            yield from [_settle(attempts, answer) for answer in answers] or [None]
    finally:
        pool.close()


def _settle(attempts: Attempts, answer: _Answer) -> UnitRecord | None:
    piece, outcome = answer.piece, answer.outcome
    if outcome.refused is not None:
        raise own(outcome)
    if outcome.storage is not None:
        attempts.storage_failed(piece, outcome.storage)
        say(f"{piece.unit.part}: storage failed: {outcome.storage}: tried again")
    elif outcome.failed is not None:
        attempts.failed(piece, outcome.failed)
    else:
        attempts.succeeded(piece, answer.worker, outcome.record.seconds if outcome.record else 0.0)
    return outcome.record
