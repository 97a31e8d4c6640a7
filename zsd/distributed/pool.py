"""Pieces of work over a pool of actors, CPU and GPU at the same time, each given the next as soon as it is free.

The actors are Ray's, the order is ours (`zsd.attempts`): an operator of Ray Data retries a block whose actor died for
ever, and cannot cut the next block to the speed of who asks for it.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import ray
from ray.util.metrics import Counter

from zsd import errors
from zsd.attempts import Attempts, Piece
from zsd.console import say
from zsd.distributed.cluster import PoolSize, actor_kind, placement_here
from zsd.engines.base import Placement
from zsd.errors import EngineError, ZsdError
from zsd.shards import UnitRecord
from zsd.storage import first_line
from zsd.unit_rows import Skip
from zsd.units import Unit

LOAD_ATTEMPTS = 3
"""Times in a row that an actor of a kind may die while it loads the model."""

IN_FLIGHT = 2
"""Pieces with an actor at a time: while one is in the engine, another thread reads and tokenizes the next. Where rows
are under suspicion it is one: of two that an actor dies with, nobody could say which was to blame."""

WAIT_SECONDS = 1.0
NO_ACTOR_SECONDS = 60.0
"""Seconds without any actor after which a line says what is waited for."""


class UnitWorker(Protocol):
    """Reads a unit, runs the model, commits the shard. `IN_FLIGHT` threads may call it at the same time."""

    def __call__(self, unit: Unit, *, worker: str, skip: Skip = ()) -> UnitRecord:
        """Do a unit but for some of its rows; `worker` says who did it."""
        ...

    def probe(self, unit: Unit, *, start: int, stop: int, skip: Skip = ()) -> None:
        """Run the model on some rows of a unit, and commit nothing."""
        ...


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a piece, as it travels from actor to driver.

    Attributes:
        record: of a unit that was committed.
        refused: name of the `ZsdError` that ends the job, and its message.
        failed: why the model could not do these rows.
        storage: why they could not be read or written.
    """

    record: UnitRecord | None = None
    refused: tuple[str, str] | None = None
    failed: str | None = None
    storage: str | None = None


class _UnitActor:
    """Ray's side of a `UnitWorker`: tells it where it is, hands it pieces, sends back what came of them.

    A refusal (`ZsdError`) travels as data, from the constructor too: Ray would turn it into a page of text.
    """

    def __init__(self, make: Callable[[Placement], UnitWorker], job: str) -> None:
        _quiet()
        kind = actor_kind()
        self.name = f"{kind} {socket.gethostname()} {os.getpid()}"
        self.refusal: Outcome | None = None
        self.counters = _Counters(job, kind)
        try:
            self.worker = make(placement_here())
        except ZsdError as error:
            self.refusal = Outcome(refused=(type(error).__name__, str(error)))
        except Exception as error:  # whatever a library raises while it loads a model
            told = f"the {kind} actor cannot load the model: {type(error).__name__}: {first_line(error)}"
            self.refusal = Outcome(refused=("EngineError", told))

    def ready(self) -> tuple[str, Outcome | None]:
        """Who this is, and why it cannot work."""
        return self.name, self.refusal

    def run(self, piece: Piece) -> Outcome:
        """Do a piece."""
        try:
            if piece.probe is not None:
                start, stop = piece.probe
                self.worker.probe(piece.unit, start=start, stop=stop, skip=piece.skip)
                return Outcome()
            record = self.worker(piece.unit, worker=self.name, skip=piece.skip)
        except EngineError as error:  # these rows, perhaps: a logit that is not finite
            return Outcome(failed=str(error))
        except ZsdError as error:
            return Outcome(refused=(type(error).__name__, str(error)))
        except OSError as error:
            return Outcome(storage=first_line(error))
        except Exception as error:  # whatever a model or a tokenizer raises on rows it does not master
            return Outcome(failed=f"{type(error).__name__}: {first_line(error)}")
        self.counters.add(record)
        return Outcome(record=record)


class _Counters:
    """What this actor did, as Ray metrics: rows, pairs, tokens, rejected rows."""

    def __init__(self, job: str, kind: str) -> None:
        self._tags = {"job": job, "actor": kind}
        keys = ("job", "actor", "engine")
        about = {
            "rows": "rows committed",
            "pairs": "premise/hypothesis pairs run",
            "tokens": "tokens run, padding not counted",
            "rejected": "rows that the model failed on",
        }
        self._counters = {name: Counter(f"zsd_{name}", text, tag_keys=keys) for name, text in about.items()}

    def add(self, record: UnitRecord) -> None:
        for name, counter in self._counters.items():
            if getattr(record, name):
                counter.inc(getattr(record, name), {**self._tags, "engine": f"{record.engine} {record.precision}"})


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
        handle = ray.remote(_UnitActor).options(**options).remote(self.make_worker, self.job)
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
            return self._replace(slot, error)
        if slot.name is not None:
            return [_Answer(piece=slot.pieces.pop(one), worker=slot.name, outcome=said)]
        slot.name, refusal = said
        self.died_loading[slot.kind] = 0
        if refusal is not None:
            raise own(refusal)
        return []

    def _replace(self, slot: _Slot, error: BaseException) -> list[_Answer]:
        """Start another actor for one that died; what it was doing has failed."""
        ray.kill(slot.handle)
        self.slots[self.slots.index(slot)] = self._start(slot.kind)
        if slot.name is not None:
            died = Outcome(failed=f"the {slot.kind} actor died, perhaps for memory ({type(error).__name__})")
            return [_Answer(piece=piece, worker=slot.name, outcome=died) for piece in slot.pieces.values()]
        self.died_loading[slot.kind] = self.died_loading.get(slot.kind, 0) + 1
        if self.died_loading[slot.kind] >= LOAD_ATTEMPTS:
            raise EngineError(
                f"a {slot.kind} actor died {LOAD_ATTEMPTS} times while it loaded the model, perhaps for memory: use "
                "fewer actors, or a smaller model"
            )
        return []

    def close(self) -> None:
        """End the actors; what they have committed stays."""
        for slot in self.slots:
            ray.kill(slot.handle)


def own(refused: Outcome) -> ZsdError:
    """The error that an outcome carries."""
    assert refused.refused is not None
    name, message = refused.refused
    error: ZsdError = getattr(errors, name)(message)
    return error


def run_units(
    attempts: Attempts, make_worker: Callable[[Placement], UnitWorker], size: PoolSize, *, job: str
) -> Iterator[UnitRecord | None]:
    """Do every unit once and yield its record as soon as it is committed, in any order; None when a second has passed.

    Args:
        attempts: what is to do; it also decides what a failure leads to.
        make_worker: picklable; called once in every actor.
        size: the pool; it must fit the cluster.
        job: ``label`` or ``predict``, for the metrics.

    Raises:
        ZsdError: a worker refused, or too much failed; units committed so far stay committed.
    """
    logging.getLogger("ray").setLevel(logging.ERROR)
    pool = _Pool(make_worker=make_worker, size=size, job=job)
    pool.start()
    started, told = time.monotonic(), False
    try:
        while attempts:
            pool.hand_out(attempts)
            answers = pool.wait()
            if not told and time.monotonic() - started > NO_ACTOR_SECONDS and not any(s.name for s in pool.slots):
                say(f"{job}: waiting for the cluster to start an actor, or for one to load the model")
                told = True
            yield from [_settle(attempts, answer) for answer in answers] or [None]
    finally:
        pool.close()


def _settle(attempts: Attempts, answer: _Answer) -> UnitRecord | None:
    piece, outcome = answer.piece, answer.outcome
    if outcome.refused is not None:
        raise own(outcome)
    if outcome.storage is not None:
        attempts.storage_failed(piece, outcome.storage)
    elif outcome.failed is not None:
        attempts.failed(piece, outcome.failed)
    else:
        attempts.succeeded(piece, answer.worker, outcome.record.seconds if outcome.record else 0.0)
    return outcome.record


def _quiet() -> None:
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
