"""The contestants' processes while they last, and who dropped out of them.

Legend: R rows a contestant did, K labels.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from zsd.benchmark.contestants import Contestant, Measurement, Process
from zsd.console import say
from zsd.errors import EngineError
from zsd.machine import available_memory_mb

FloatArray = npt.NDArray[np.float32]


@dataclass(kw_only=True)
class Entry:
    """A contestant in the race, and what it has shown so far.

    Attributes:
        texts: the rows it is timed on: all that are to be timed, or as many as it managed in the warm-up.
        runs: its timed runs.
        probs: [R, K] of the first R rows.
    """

    process: Process
    texts: list[str]
    runs: list[Measurement] = field(default_factory=list)
    probs: FloatArray = field(default_factory=lambda: np.empty((0, 0), dtype=np.float32))

    @property
    def contestant(self) -> Contestant:
        """Who it is."""
        return self.process.contestant

    @property
    def speed(self) -> float:
        """Median rows/s."""
        return statistics.median(run.rows_per_second for run in self.runs)


class Race:
    """The contestants' processes, and who dropped out of them."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.left_out: list[dict[str, str]] = []

    def enter(self, contestant: Contestant, texts: list[str]) -> None:
        """Load a contestant.

        Raises:
            EngineError: the race cannot do without it and it cannot run here.
        """
        say(f"benchmark: loading {contestant.name}")
        try:
            _check_memory(self.entries)
            self.entries.append(Entry(process=Process(contestant), texts=texts))
        except EngineError as error:
            self._leave_out(contestant, error)

    def measure(self, entry: Entry, texts: Sequence[str], *, least: float, most: float) -> Measurement | None:
        """One timed run; None where the contestant drops out in it.

        Raises:
            EngineError: the race cannot do without it.
        """
        try:
            return entry.process.measure(texts, least_seconds=least, most_seconds=most)
        except EngineError as error:
            self._leave_out(entry.contestant, error)
            self.entries.remove(entry)
            entry.process.close()
            return None

    def close(self) -> None:
        """End all processes."""
        for entry in self.entries:
            entry.process.close()

    def _leave_out(self, contestant: Contestant, error: EngineError) -> None:
        if contestant.kind == "pipeline" or is_reference(contestant) or is_sure_student(contestant):
            raise error
        say(f"benchmark: {contestant.name} is left out: {error}")
        self.left_out.append({"name": contestant.name, "reason": str(error)})


def is_reference(contestant: Contestant) -> bool:
    """Whether this is the teacher as torch computes it in fp32, with which all others are compared."""
    return (contestant.kind, contestant.engine, contestant.precision) == ("teacher", "torch", "fp32")


def is_sure_student(contestant: Contestant) -> bool:
    """Whether this is a student in the one form that runs everywhere."""
    everywhere = contestant.engine in ("torch", "scikit-learn") and contestant.precision == "fp32"
    return contestant.kind == "student" and everywhere


def _check_memory(entries: Sequence[Entry]) -> None:
    """All processes stay loaded; one more must fit beside them."""
    most = max((entry.process.loaded["peak_memory_mb"] or 0.0 for entry in entries), default=0.0)
    free = available_memory_mb()
    if free is not None and free < most:
        raise EngineError(f"memory is short: {free:,.0f} MiB are left and a contestant takes {most:,.0f}")
