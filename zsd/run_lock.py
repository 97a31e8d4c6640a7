"""One run at a time: a lock on a folder that expires, with a token that grows from run to run.

::

    LOCK/00000007.json            ticket 7 on a disk: who holds or held the lock
    LOCK/00000007-OWNER.json      the same on an object store, where several runs may hold out a ticket of one number
    LOCK/asking-OWNER.json        somebody is about to take a ticket

A ticket is written by its owner only, and again every quarter of its expiry. It is alive until it is released, has not
been written for longer than its expiry, or its process is known to be gone. All ages are differences of modification
times that the storage itself gave, so the clocks of the machines do not matter.

On a disk the next number is created with ``O_EXCL``: exactly one run gets it, always. `pyarrow.fs` has no conditional
put, so on an object store runs draw tickets as in Lamport's bakery (Lamport 1974, "A new solution of Dijkstra's
concurrent programming problem"): of those who asked at once the lowest ticket wins, the others leave. With reads and
lists that see every finished write (S3, GCS and Azure Blob promise that) this is exclusive without any assumption on
speed, except that a run which needs more than `ASKING_SECONDS` to take its ticket gives up.

What no lease can promise: a run that sleeps past its expiry may be overtaken and go on for a moment before it notices.
`RunLock.check` is therefore called before anything is promoted, and the token is kept with what was promoted, where a
lower one is refused (Kleppmann 2016, "How to do distributed locking"). Between that check and the one write that
promotes lies an instant that remains open.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from zsd import storage
from zsd.console import duration, say
from zsd.errors import LockError
from zsd.tickets import HELD, RELEASED, RESOLUTION, WAITING, Ticket, read_tickets, this_process, written

ASKING_SECONDS = 60.0
"""Age from which somebody who is about to take a ticket counts as gone."""

KEPT_TICKETS = 20
"""Tickets that are kept, for a look at who ran when; the highest one keeps the count."""

POLL_SECONDS = 0.2


class RunLock:
    """A lock that is held; `hold` makes it.

    Attributes:
        token: larger than that of every run before.
    """

    def __init__(self, folder: str, job: str, expiry: float) -> None:
        self.folder, self.job, self.expiry = folder, job, expiry
        self.owner = uuid.uuid4().hex[:12]
        self.token = 0
        self._place = storage.resolve(folder)
        self._name = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="zsd-run-lock", daemon=True)

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            LockError: another run has it.
        """
        asking = storage.join(self.folder, f"asking-{self.owner}.json")
        storage.write_bytes_atomic(asking, b"{}\n")
        try:
            now = written(asking)
            tickets = read_tickets(self.folder, self.expiry)
            for ticket in tickets:
                if ticket.alive(now):
                    raise self._held_by(ticket, now)
            latest = max(tickets, key=lambda ticket: ticket.token, default=None)
            self.token = latest.token + 1 if latest else 1
            self._draw()
            with self._withdrawing():
                if written(self._file) - now > ASKING_SECONDS - RESOLUTION:
                    raise LockError(f"{self.folder}: took more than {ASKING_SECONDS:.0f}s to take a ticket: run again")
        finally:
            storage.delete_file(asking)
        with self._withdrawing():
            if not self._place.is_local:
                self._wait_turn()
            self.check()
        if latest is not None and latest.state != RELEASED:
            silent = duration(now - latest.written)
            say(f"lock: {latest.who} has died, or been silent for {silent}, longer than its lock lasts: taken over")
        self._thread.start()

    def check(self) -> None:
        """Write the ticket again, and see that nobody has taken the lock over in the meantime.

        Raises:
            LockError: somebody has: this run must not promote anything.
        """
        self._write(HELD)
        self._refuse_overtaken()

    def release(self) -> None:
        """Let the next run in."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._write(RELEASED)
        old = [one.name for one in read_tickets(self.folder, self.expiry) if one.token <= self.token - KEPT_TICKETS]
        for name in (*old, *self._asking(forgotten=True)):
            storage.delete_file(storage.join(self.folder, name))

    def _draw(self) -> None:
        if not self._place.is_local:
            self._name = f"{self.token:08d}-{self.owner}.json"
            self._write(WAITING)
            return
        self._name = f"{self.token:08d}.json"
        try:
            with Path(self._file).open("xb") as file:
                file.write(self._content(HELD))
        except FileExistsError:
            raise LockError(f"{self.folder}: another run has just taken the lock: run again when it is done") from None

    def _wait_turn(self) -> None:
        """On a store: let all who are drawing a ticket finish; of those who hold one out, the lowest wins."""
        while True:
            self._write(WAITING)
            if not self._asking():
                break
            time.sleep(POLL_SECONDS)
        now = written(self._file)
        mine = (self.token, self._name)
        tickets = read_tickets(self.folder, self.expiry)
        rivals = [one for one in tickets if (one.token, one.name) < mine and one.alive(now)]
        if rivals:
            raise self._held_by(rivals[0], now)

    @contextlib.contextmanager
    def _withdrawing(self) -> Iterator[None]:
        """Take the ticket back where the lock is not won."""
        try:
            yield
        except LockError:
            storage.delete_file(self._file)
            raise

    def _asking(self, *, forgotten: bool = False) -> list[str]:
        """Who is about to take a ticket, or has left that said and is gone."""
        now = written(self._file)
        asking = [info for info in storage.infos(self._place) if info.base_name.startswith("asking-")]
        return [one.base_name for one in asking if (now - one.mtime_ns / 1e9 > ASKING_SECONDS) == forgotten]

    def _refuse_overtaken(self) -> None:
        for ticket in read_tickets(self.folder, self.expiry):
            if ticket.token > self.token and ticket.state != WAITING:
                raise LockError(
                    f"{self.folder}: {ticket.who} took the lock over, because this run was silent for longer than "
                    f"--lock-expiry {self.expiry:g}: nothing was promoted: run again"
                )

    def _beat(self) -> None:
        while not self._stop.wait(self.expiry / 4):
            # What fails here is tried again at the next beat, or by `check`, which tells.
            with contextlib.suppress(OSError):
                try:
                    self._refuse_overtaken()
                except LockError:
                    return
                self._write(HELD)

    def _held_by(self, ticket: Ticket, now: float) -> LockError:
        return LockError(
            f"{self.folder}: {ticket.who} holds the lock (last heard of {duration(now - ticket.written)} ago): run "
            f"again when it is done; if it has died, its lock expires after {duration(ticket.expiry)} of silence"
        )

    def _content(self, state: str) -> bytes:
        ticket = {
            "token": self.token,
            "state": state,
            "job": self.job,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "process": this_process(),
            "expiry": self.expiry,
            "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        return (json.dumps(ticket) + "\n").encode()

    @property
    def _file(self) -> str:
        return storage.join(self.folder, self._name)

    def _write(self, state: str) -> None:
        storage.write_bytes_atomic(self._file, self._content(state))


@contextlib.contextmanager
def hold(folder: str, *, job: str, expiry: float) -> Iterator[RunLock]:
    """Hold the lock of a folder while the block runs.

    Args:
        folder: where the tickets lie; made if need be.
        job: what it is held for, as others will read it.
        expiry: seconds of silence after which others may take it over; renewed four times as often.

    Raises:
        LockError: another run holds it.
    """
    lock = RunLock(folder, job, expiry)
    lock.acquire()
    try:
        yield lock
    finally:
        lock.release()
