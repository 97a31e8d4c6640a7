"""Actors that begin at the same moment; a module of its own, for actors import what they call."""

import os
import time
from pathlib import Path


def wait_for_all(folder: Path, actors: int) -> None:
    """In an actor: wait until so many are there; else the first to load may have done the work of all."""
    folder.mkdir(exist_ok=True)
    (folder / str(os.getpid())).touch()
    deadline = time.monotonic() + 240
    while len(list(folder.iterdir())) < actors:
        assert time.monotonic() < deadline, "the other actors do not load"
        time.sleep(0.02)
