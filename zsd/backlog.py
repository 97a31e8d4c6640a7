"""What is still to do, cut into units as workers ask for them: large for the fast, small for the slow and for the end.

Guided self-scheduling (Polychronopoulos & Kuck 1987): nobody gets more than a share of what is left in proportion to
its speed, so that all workers end together; and nobody gets more than some seconds of work, so that little is lost
with a worker that dies. The finest grain is the row group of a corpus shard.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterable

from zsd.units import Unit

TARGET_SECONDS = 10.0
"""Work of one unit: long beside the milliseconds of a hand-over, short to lose and to see progress by."""

END_SHARE = 0.25
"""The most that a worker gets at once of its part of what is left; it may hold two units at a time."""

NEWS = 0.5
"""Weight of a worker's last unit in what is held to be its speed."""


class Backlog:
    """Units in order, handed out in pieces.

    Args:
        units: what is to do, in units as long as can be.
        target_seconds: work of one piece.

    Attributes:
        rows: rows not handed out.
    """

    def __init__(self, units: Iterable[Unit], *, target_seconds: float = TARGET_SECONDS) -> None:
        self._waiting = deque(units)
        self._target = target_seconds
        self._speed: dict[str, float] = {}
        self.rows = sum(unit.rows for unit in self._waiting)

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def take(self, worker: str, workers: Iterable[str]) -> Unit:
        """The next piece for a worker, one row group where no worker's speed is known yet.

        Args:
            worker: who asks.
            workers: all who work, the one who asks among them.

        Raises:
            IndexError: nothing is left.
        """
        head = self._waiting.popleft()
        unit, rest = head.cut(self._groups(head, worker, list(workers)))
        if rest is not None:
            self._waiting.appendleft(rest)
        self.rows -= unit.rows
        return unit

    def done(self, worker: str, unit: Unit, seconds: float) -> None:
        """A worker has done a piece in that many seconds."""
        speed = unit.rows / max(seconds, 1e-6)
        self._speed[worker] = NEWS * speed + (1 - NEWS) * self._speed.get(worker, speed)

    def _groups(self, unit: Unit, worker: str, workers: list[str]) -> int:
        """How many row groups of a unit a worker gets."""
        known = [self._speed[one] for one in workers if one in self._speed]
        if not known or worker not in self._speed:
            return 1
        typical = statistics.median(known)
        together = sum(self._speed.get(one, typical) for one in workers)
        own = self._speed[worker]
        most = min(own * self._target, END_SHARE * self.rows * own / together)
        groups, rows = 1, unit.sizes[0]
        for size in unit.sizes[1:]:
            rows += size
            if rows > most:
                break
            groups += 1
        return groups
