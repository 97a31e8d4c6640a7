"""How far an ingest is, for who watches: its tasks, wherever they run, leave numbers in the spill folder."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator

import pyarrow as pa

from zsd import storage
from zsd.console import say

READ, SIFTED = "progress-read-", "progress-sifted-"
"""Rows that the first pass has read, and rows that the second pass has kept after it looked for duplicates."""

EVERY_SECONDS = 10.0
WRITE_SECONDS = 5.0


class Tally:
    """Rows that one task has done, in a file of its own that a retry writes anew.

    Args:
        directory: the spill folder.
        name: `READ` or `SIFTED` and a number.
    """

    def __init__(self, directory: str, name: str) -> None:
        self._file = storage.join(directory, name)
        self._rows = 0
        self._written = time.monotonic()

    def add(self, rows: int) -> None:
        """So many more; written now and then."""
        self._rows += rows
        if time.monotonic() - self._written >= WRITE_SECONDS:
            self._written = time.monotonic()
            with contextlib.suppress(OSError):  # it is only for who looks; the work goes on
                storage.write_bytes_atomic(self._file, str(self._rows).encode())

    def passed(self, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """The same tables, their rows counted."""
        for table in tables:
            self.add(table.num_rows)
            yield table


def line(directory: str, seconds: float) -> str | None:
    """What the tasks have told so far, after that many seconds; None where they have told nothing."""
    read, sifted = (_sum(directory, kind) for kind in (READ, SIFTED))
    if not read:
        return None
    looked = f", {sifted:,} of them sifted" if sifted else ""
    return f"corpus: {read:,} rows read{looked}, {read / seconds:,.0f} rows/s"


def _sum(directory: str, kind: str) -> int:
    return sum(int(storage.read_bytes(storage.join(directory, name))) for name in storage.list_names(directory, kind))


@contextlib.contextmanager
def watched(directory: str, *, every: float = EVERY_SECONDS) -> Iterator[None]:
    """While the block runs, say every few seconds how far its tasks are."""
    over = threading.Event()
    began = time.monotonic()

    def look() -> None:
        while not over.wait(every):
            with contextlib.suppress(OSError):
                told = line(directory, time.monotonic() - began)
                if told:
                    say(told)

    watcher = threading.Thread(target=look, name="zsd-ingest-progress", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
