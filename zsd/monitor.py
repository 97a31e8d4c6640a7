"""How a store job is doing: lines for who watches it, `status.json` for who asks later (``zsd status DIR``)."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from zsd import storage
from zsd.console import Progress, duration, say
from zsd.errors import InputError
from zsd.shards import UnitRecord, read_json, write_json
from zsd.tickets import is_gone, this_process

STATUS = "status.json"
BEAT_SECONDS = 10.0
"""Seconds between two writes of the status file."""

SILENCE_SECONDS = 60.0
"""Seconds without a write after which a running job is taken for dead."""


@dataclass(kw_only=True)
class _Kind:
    """What the actors of one kind did in this run: rows, and the seconds since their first unit began."""

    rows: int = 0
    started: float = 0.0


class Monitor:
    """Counts the records of a running job, prints a line now and then and keeps `status.json` fresh.

    Args:
        output: the job's directory.
        job: ``label`` or ``predict``.
        total: rows of the whole job.
        done: rows that were done before this run.
        clock: seconds since the epoch.
    """

    def __init__(self, output: str, job: str, *, total: int, done: int, clock: Callable[[], float] = time.time) -> None:
        self.file = storage.join(output, STATUS)
        self.job, self.clock = job, clock
        self.progress = Progress(job, total=total, done=done, clock=clock)
        self.kinds: dict[str, _Kind] = {}
        self.rejected = 0
        self.written = 0.0

    def add(self, record: UnitRecord) -> None:
        """A unit was committed."""
        kind = self.kinds.setdefault(record.worker.split()[0], _Kind(started=record.started))
        kind.rows += record.rows
        kind.started = min(kind.started, record.started)
        self.rejected += record.rejected
        self.progress.detail = self._detail()
        self.progress.add(record.rows + record.rejected, started=record.started)
        self.beat()

    def beat(self) -> None:
        """Say that the job lives, if that was not said just now."""
        if self.clock() - self.written >= BEAT_SECONDS:
            self.end("running")

    def end(self, state: str, error: str | None = None) -> None:
        """Write what is known now, with the state ``running``, ``merging``, ``finished`` or ``failed``."""
        self.written = self.clock()
        progress = self.progress
        speed = progress.rows_per_second()
        content = {
            "job": self.job,
            "state": state,
            "error": error,
            "updated": round(self.written, 3),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "process": this_process(),
            "rows": progress.done,
            "total": progress.total,
            "rejected": self.rejected,
            "rows_per_second": round(speed, 2),
            "seconds_left": round((progress.total - progress.done) / speed, 1) if speed else None,
            "actors": {
                name: {"rows": kind.rows, "rows_per_second": self._speed(kind)} for name, kind in self._sorted()
            },
        }
        try:
            write_json(self.file, content)
        except OSError as error:  # it is only for who looks; the work goes on
            say(f"{self.file}: cannot be written: {storage.first_line(error)}: the job goes on")

    def _sorted(self) -> list[tuple[str, _Kind]]:
        return sorted(self.kinds.items())

    def _speed(self, kind: _Kind) -> float:
        return round(kind.rows / max(1e-9, self.clock() - kind.started), 1)

    def _detail(self) -> str:
        """What goes into the progress line beside the sum: each kind of actor's speed and share, rejected rows."""
        told = ""
        if len(self.kinds) > 1:
            rows = max(1, sum(kind.rows for kind in self.kinds.values()))
            shares = [
                f"{name} {self._speed(kind):,} rows/s {100 * kind.rows / rows:.0f}%" for name, kind in self._sorted()
            ]
            told = f" ({', '.join(shares)})"
        return told + (f", {self.rejected:,} rejected" if self.rejected else "")


def job_status(uri: str, *, now: float | None = None) -> dict[str, Any]:
    """The last status of the job in a directory; ``state`` becomes ``dead`` where a running one has fallen silent.

    A process of this machine that has ended is dead at once, also one that was merging: merging says nothing meanwhile.

    Raises:
        InputError: no store job has run there.
        StoreError: the file is damaged.
    """
    file = storage.join(uri, STATUS)
    if not storage.exists(file):
        raise InputError(f"{uri}: no zsd label or zsd predict has run here: give the --output directory of one")
    status = read_json(file)
    status["silent_seconds"] = round((time.time() if now is None else now) - status["updated"], 1)
    process = status.get("process")
    ended = status["state"] in ("running", "merging") and process is not None and is_gone(process)
    if ended or (status["state"] == "running" and status["silent_seconds"] > SILENCE_SECONDS):
        status["state"] = "dead"
    return status


def status_text(status: dict[str, Any]) -> str:
    """A status as a few lines for a terminal."""
    share = 100 * status["rows"] / max(1, status["total"])
    state = {
        "running": "running",
        "merging": f"all rows are done, their files are being merged, for {duration(status['silent_seconds'])} now",
        "finished": "finished",
        "failed": f"failed: {status['error']}",
        "dead": f"no sign of life for {duration(status['silent_seconds'])} (process {status['pid']} on "
        f"{status['host']}): run the same command again, it goes on from here",
    }[status["state"]]
    left = ""
    if status["state"] == "running" and status["seconds_left"]:
        left = f", {duration(status['seconds_left'])} left"
    lines = [
        f"{status['job']}: {state}",
        f"  {status['rows']:,} of {status['total']:,} rows ({share:.0f}%), {status['rows_per_second']:,} rows/s{left}, "
        f"{status['rejected']:,} rejected while running",
    ]
    lines += [
        f"  {name} actors: {kind['rows']:,} rows in this run, {kind['rows_per_second']:,} rows/s"
        for name, kind in status["actors"].items()
    ]
    return "\n".join(lines)
