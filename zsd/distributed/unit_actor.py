"""What runs in an actor of the pool: a worker that does pieces of work, and what came of each as data."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ray.util.metrics import Counter

from zsd.attempts import Piece
from zsd.distributed.cluster import actor_kind, placement_here
from zsd.engines.base import Placement
from zsd.errors import EngineError, StoreError, ZsdError
from zsd.shards import UnitRecord
from zsd.storage import first_line
from zsd.unit_rows import Skip
from zsd.units import Unit


class UnitWorker(Protocol):
    """Reads a unit, runs the model, commits the shard. Several threads may call it at the same time."""

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
        broken: whether it could not do rows either that it did before: then it is to blame and not these.
        storage: why they could not be read or written.
    """

    record: UnitRecord | None = None
    refused: tuple[str, str] | None = None
    failed: str | None = None
    broken: bool = False
    storage: str | None = None


class UnitActor:
    """Ray's side of a `UnitWorker`: tells it where it is, hands it pieces, sends back what came of them.

    A refusal (`ZsdError`) travels as data, from the constructor too: Ray would turn it into a page of text.
    """

    def __init__(self, make: Callable[[Placement], UnitWorker], job: str) -> None:
        _quiet()
        kind = actor_kind()
        self.name = f"{kind} {socket.gethostname()} {os.getpid()}"
        self.refusal: Outcome | None = None
        self.known_good: Unit | None = None
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
            return Outcome(failed=str(error), broken=self._broken())
        except ZsdError as error:
            return Outcome(refused=(type(error).__name__, str(error)))
        except OSError as error:
            return Outcome(storage=first_line(error))
        except Exception as error:  # whatever a model or a tokenizer raises on rows it does not master
            return Outcome(failed=f"{type(error).__name__}: {first_line(error)}", broken=self._broken())
        if not piece.skip:
            self.known_good = piece.unit
        self.counters.add(record)
        return Outcome(record=record)

    def _broken(self) -> bool:
        """Whether the model fails now on a row that it has done: a GPU that is lost fails on every row."""
        if self.known_good is None:
            return False
        try:
            self.worker.probe(self.known_good, start=0, stop=1)
        except (StoreError, OSError):  # of reading the row: it says nothing of the model
            return False
        except Exception:  # as in `run`
            return True
        return False


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


def _quiet() -> None:
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
