"""The tickets of a run lock (`zsd.run_lock`): what one says, and whether the run behind it may still be going."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zsd import storage

RESOLUTION = 1.0
"""Seconds: what a store's modification times may be rounded to."""

TICKET = re.compile(r"(\d{8})(?:-([0-9a-f]+))?\.json")
HELD, WAITING, RELEASED = "held", "waiting", "released"


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """What is known of one ticket.

    Attributes:
        name: its file name.
        token: its number.
        state: ``waiting``, ``held`` or ``released``.
        written: when it was last written, seconds by the storage's clock.
        expiry: seconds without a write after which it is dead.
        who: what it is for, and which process of which machine holds it.
        process: machine and process as `this_process` names them; None where that cannot be told.
    """

    name: str
    token: int
    state: str
    written: float
    expiry: float
    who: str
    process: str | None

    def alive(self, now: float) -> bool:
        """Whether its run may still be going."""
        gone = self.process is not None and is_gone(self.process)
        return self.state != RELEASED and now - self.written <= self.expiry + RESOLUTION and not gone


def read_tickets(folder: str, expiry: float) -> list[Ticket]:
    """All tickets there are, the lowest first.

    Args:
        folder: where they lie; it may be absent.
        expiry: seconds, of a ticket that was created and not yet written.
    """
    found = []
    for info in storage.infos(storage.resolve(folder)):
        match = TICKET.fullmatch(info.base_name)
        content = _read(storage.join(folder, info.base_name)) if match else None
        if match is None or content is None:
            continue
        ticket = Ticket(
            name=info.base_name,
            token=int(match[1]),
            state=content.get("state", WAITING),
            written=info.mtime_ns / 1e9,
            expiry=content.get("expiry", expiry),
            who=f"{content.get('job', 'a run')} on {content.get('host', '?')}, process {content.get('pid', '?')},",
            process=content.get("process"),
        )
        found.append(ticket)
    return sorted(found, key=lambda ticket: (ticket.token, ticket.name))


def _read(uri: str) -> dict[str, Any] | None:
    """A ticket's content; empty where it was created and not yet written, None where it is gone."""
    try:
        content = json.loads(storage.read_bytes(uri))
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def written(uri: str) -> float:
    """When a file was last written, by the clock of its storage."""
    place = storage.resolve(uri)
    info = storage.persistently(place, lambda: place.fs.get_file_info(place.path))
    return float(info.mtime_ns / 1e9)


def this_process() -> str | None:
    """This boot of this machine, its space of process numbers, and this process; None where Linux is not asked."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        space = Path("/proc/self/ns/pid").readlink()
    except OSError:
        return None
    return f"{boot} {space} {os.getpid()}"


def is_gone(process: str) -> bool:
    """Whether a process of this machine has ended; False for one that cannot be seen from here."""
    here = this_process()
    where, _, pid = process.rpartition(" ")
    if here is None or here.rpartition(" ")[0] != where:
        return False
    try:
        os.kill(int(pid), 0)  # sends nothing; /proc may hide what other users run
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # it is another user's, and there
    return False
