"""What each worker does next, and what a failure leads to: again, one row group at a time, row by row, rejected.

::

    unit fails 3 times -> its row groups one by one -> one fails again -> bisected -> the bad rows are left out
                                                                        no bad row -> once more from the start

A worker that dies counts as a failure of what it was doing, for nothing tells a bad row from a bad node at first sight.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from zsd.backlog import Backlog
from zsd.bisection import Bisection, Range
from zsd.errors import CorpusError, EngineError, StoreError
from zsd.units import Unit

ATTEMPTS = 3
"""Times that a unit is tried before its rows are suspected."""

STORAGE_ATTEMPTS = 3
"""Times that reading or writing a unit is tried; `zsd.filesystems` is patient below that, for a minute or so."""

HUNTS = 2
"""Times that a row group's rows are searched before the job gives up on it."""

FIRST_FAILURES = 20
"""Failures a worker, with no success at all, after which the fault is not in the rows: to find one bad row among 256
takes thirteen at the worst."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """What a worker is asked to do.

    Args:
        unit: which rows.
        probe: only try these rows of it, and commit nothing; None: do the unit and commit it.
        skip: rows of the unit to leave out, and why.
    """

    unit: Unit
    probe: Range | None = None
    skip: tuple[tuple[int, str], ...] = ()


class Attempts:
    """The state of a job's units: waiting, running, failed, under suspicion.

    Args:
        units: what is to do.
        most_rejected: rows that may be rejected here before the job stops.

    Attributes:
        running: pieces that are with a worker.
        rejected: by unit: the rows that cannot be done, and why.
        failures: failures seen, of whatever kind.
    """

    def __init__(self, units: Iterable[Unit], *, most_rejected: int) -> None:
        self._backlog = Backlog(units)
        self._most_rejected = most_rejected
        self._again: deque[Unit] = deque()
        self._failed: Counter[Unit] = Counter()
        self._storage: Counter[Unit] = Counter()
        self._hunts: dict[Unit, Bisection] = {}
        self._hunted: Counter[Unit] = Counter()
        self._probing: set[Unit] = set()
        self._succeeded = False
        self._workers = 1
        self.running: set[Piece] = set()
        self.rejected: dict[Unit, dict[int, str]] = {}
        self.failures = 0

    def __bool__(self) -> bool:
        """Whether anything is left to do or to wait for."""
        return bool(self._backlog or self._again or self._hunts or self.running)

    @property
    def hunting(self) -> bool:
        """Whether rows of some unit are under suspicion."""
        return bool(self._hunts)

    def next(self, worker: str, workers: Collection[str]) -> Piece | None:
        """What a worker, one of those, shall do; None where nothing can be handed out now."""
        self._workers = max(self._workers, len(workers))
        piece = self._next(worker, workers)
        if piece is not None:
            self.running.add(piece)
        return piece

    def _next(self, worker: str, workers: Collection[str]) -> Piece | None:
        for unit, hunt in self._hunts.items():
            if unit not in self._probing:
                self._probing.add(unit)
                return Piece(unit=unit, probe=hunt.next(), skip=self._skip(unit))
        if self._again:
            unit = self._again.popleft()
            return Piece(unit=unit, skip=self._skip(unit))
        return Piece(unit=self._backlog.take(worker, workers)) if self._backlog else None

    def _skip(self, unit: Unit) -> tuple[tuple[int, str], ...]:
        return tuple(sorted(self.rejected.get(unit, {}).items()))

    def succeeded(self, piece: Piece, worker: str, seconds: float) -> None:
        """A worker did a piece in that many seconds."""
        self.running.remove(piece)
        self._succeeded = True
        if piece.probe is not None:
            self._report(piece.unit, None)
        else:
            self._backlog.done(worker, piece.unit, seconds)

    def failed(self, piece: Piece, error: str) -> None:
        """The model or the worker failed on a piece.

        Raises:
            EngineError: it is not the rows: nothing at all works, or a row group fails of which every row works.
            CorpusError: too many rows fail.
        """
        self.running.remove(piece)
        self.failures += 1
        if not self._succeeded and self.failures >= FIRST_FAILURES * self._workers:
            raise EngineError(
                f"nothing works: {self.failures} attempts on different rows failed, the last with: {error}"
            )
        unit = piece.unit
        if piece.probe is not None:
            self._report(unit, error)
            return
        self._failed[unit] += 1
        if self._failed[unit] < ATTEMPTS:
            self._again.append(unit)
        elif len(unit.sizes) > 1:
            for single in unit.single():
                self._failed[single] = ATTEMPTS - 1
                self._again.append(single)
        elif self._hunted[unit] < HUNTS:
            self._hunted[unit] += 1
            self._hunts[unit] = Bisection(unit.rows)
        else:
            raise EngineError(
                f"{unit.shard}: row group {unit.first} keeps failing and no row of it does so by itself: {error}"
            )

    def storage_failed(self, piece: Piece, error: str) -> None:
        """A piece's rows could not be read, or its output not be written.

        Raises:
            StoreError: that has happened too often.
        """
        self.running.remove(piece)
        self.failures += 1
        self._storage[piece.unit] += 1
        if self._storage[piece.unit] >= STORAGE_ATTEMPTS:
            raise StoreError(
                f"{piece.unit.part}: storage failed {STORAGE_ATTEMPTS} times, the last with: {error}: what is done is "
                "kept, run the same command again when the storage works"
            )
        if piece.probe is None:
            self._again.append(piece.unit)
        else:
            self._probing.discard(piece.unit)

    def _report(self, unit: Unit, error: str | None) -> None:
        """Take note of a probe; at the end of the hunt the unit is done without its bad rows."""
        hunt = self._hunts[unit]
        self._probing.discard(unit)
        hunt.report(error)
        found = sum(map(len, self.rejected.values())) + len(hunt.bad)
        if found > self._most_rejected:
            raise CorpusError(
                f"{found:,} rows make the teacher fail, more than --max-rejected allows; one of them, in {unit.shard}, "
                f"with: {next(iter(hunt.bad.values()), error)}: what is done is kept; correct the rows or raise "
                "--max-rejected"
            )
        if hunt.next() is None:
            del self._hunts[unit]
            if hunt.bad:
                self.rejected[unit] = self.rejected.get(unit, {}) | hunt.bad
            self._failed[unit] = 0
            self._again.append(unit)
