"""What runs on each node, and why: written by the first actor that knows, read by the others, the driver and people.

``OUTPUT/engines/NODE-DEVICE-THREADS.json`` holds the engine, its buckets and the trials of ``--engine auto``. Of the
actors of one node with the same device and threads, one runs the trials, alone; the others wait for it and take its
choice, and so does a job that is resumed on that node, unless the machine or a library has changed.
"""

from __future__ import annotations

import fcntl
import hashlib
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from zsd import storage
from zsd.cache import cache_directory
from zsd.engines.base import Placement
from zsd.engines.trial import Trial
from zsd.machine import describe_machine
from zsd.shards import UnitRecord, read_json, write_json
from zsd.teachers.scoring import Scorer

FOLDER = "engines"


def choice_name(placement: Placement) -> str:
    """File name, in `FOLDER`, of what is chosen for actors of this placement on this node."""
    return f"{platform.node()}-{placement.device}-{placement.threads}.json"


def read_choice(output: str, name: str, asked: dict[str, Any]) -> dict[str, Any] | None:
    """What was chosen here before; None where nothing was, or for another machine, other libraries or other wishes."""
    file = storage.join(output, FOLDER, name)
    if not storage.exists(file):
        return None
    content = read_json(file)
    now = {"machine": describe_machine(), "asked": asked}
    return content if {key: content.get(key) for key in now} == now else None


def write_choice(output: str, name: str, asked: dict[str, Any], scorer: Scorer, trials: list[Trial]) -> None:
    """Keep which engine runs here, and what was measured, where anything was."""
    content = {
        "node": platform.node(),
        "machine": describe_machine(),
        "asked": asked,
        "engine": scorer.engine.name,
        "precision": scorer.engine.precision,
        "fingerprint": scorer.engine.fingerprint,
        "buckets": scorer.buckets,
        "trials": [asdict(trial) for trial in trials],
    }
    write_json(storage.join(output, FOLDER, name), content)


def read_choices(output: str, records: Sequence[UnitRecord]) -> dict[str, dict[str, Any]]:
    """The choices that records name, by file name; one whose file is gone is left out."""
    names = sorted({record.choice for record in records if record.choice})
    files = {name: storage.join(output, FOLDER, name) for name in names}
    return {name: read_json(file) for name, file in files.items() if storage.exists(file)}


@contextmanager
def one_at_a_time(output: str, name: str) -> Iterator[None]:
    """Wait until no other process of this node is inside for the same job and file; a process that dies leaves."""
    folder = cache_directory() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.blake2b(f"{output} {name}".encode(), digest_size=16).hexdigest()
    with (folder / digest).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def choice_lines(choice: dict[str, Any]) -> list[str]:
    """What `write_choice` kept as lines for a person: one for the node, one for each trial."""
    buckets = choice["buckets"]
    shapes = f", pairs padded to {', '.join(map(str, buckets))} tokens" if buckets else ""
    lines = [f"{choice['node']}: runs {choice['engine']} {choice['precision']}{shapes}"]
    for trial in choice["trials"]:
        name = f"{trial['engine']} {trial['precision']}"
        told = f"{trial['rows_per_second']:8.1f} rows/s  agreement {trial['agreement']:.3f}" if trial["rows"] else ""
        loaded = f"loaded in {trial['loading_seconds']:5.1f} s" if trial["loading_seconds"] else ""
        lines.append(f"  {name:<17} {told:<32}  {loaded:<17}  {trial['verdict']}")
    return lines
