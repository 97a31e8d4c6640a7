"""What a person watching a job sees: one line at a time, on standard error, never a redrawn bar."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from zsd.errors import ZsdError
from zsd.redaction import redacted


def say(line: str) -> None:
    """Print one line of progress to standard error."""
    print(f"zsd: {redacted(line)}", file=sys.stderr, flush=True)


def report_error(error: ZsdError, program: str = "zsd") -> int:
    """Print an error as one line, whatever it quotes, to standard error; returns the exit code."""
    print(f"{program}: error: {redacted(' '.join(str(error).split()))}", file=sys.stderr, flush=True)
    return error.exit_code


def duration(seconds: float) -> str:
    """``41s``, ``3m12s`` or ``2h05m``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


class Progress:
    """A line every few seconds: rows done of all, rows/s of this run, time left.

    Args:
        verb: what is being done, the first word of the line.
        total: rows (or what `unit` says) of the whole job.
        done: rows that were done before this run.
        unit: what is counted.
        every: seconds between lines (default: 5 on a terminal, 10 in a log).
        clock: seconds since the epoch.

    Attributes:
        detail: what the line says after the speed; empty unless somebody sets it.
    """

    def __init__(
        self,
        verb: str,
        *,
        total: int,
        done: int = 0,
        unit: str = "rows",
        every: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.verb, self.total, self.done, self.unit, self.clock = verb, total, done, unit, clock
        self.every = every if every is not None else 5.0 if sys.stderr.isatty() else 10.0
        self.before = done
        self.detail = ""
        self.started = self.shown = clock()

    def add(self, rows: int, *, started: float) -> None:
        """Some rows are done; the work on them began at `started` (speed counts from the first of these)."""
        if self.done == self.before:
            self.started = started
        self.started = min(self.started, started)
        self.done += rows
        if self.clock() - self.shown >= self.every or self.done == self.total:
            self.shown = self.clock()
            say(self.line())

    def line(self) -> str:
        """The line as it would be printed now."""
        speed = self.rows_per_second()
        left = f", {duration((self.total - self.done) / speed)} left" if speed and self.done < self.total else ""
        share = 100 * self.done / max(1, self.total)
        return (
            f"{self.verb}: {self.done:,} of {self.total:,} {self.unit} ({share:.0f}%), {speed:,.1f} {self.unit}/s"
            f"{self.detail}{left}"
        )

    def rows_per_second(self) -> float:
        """Rows of this run over the time since its first began."""
        return (self.done - self.before) / max(1e-9, self.clock() - self.started)
