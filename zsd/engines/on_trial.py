"""Which candidate of ``--engine auto`` is on trial, kept in a file: if that kills the process, the next one knows.

``OUTPUT/engines/trial-NODE-DEVICE-THREADS.json`` is there only while trials run. What it names as on trial is accused
by an actor of the same run of the job alone: when everything was killed, the candidate was not to blame.
"""

from __future__ import annotations

from zsd import storage
from zsd.shards import read_json, write_json

Candidate = tuple[str, str]
"""Engine and precision."""


class OnTrial:
    """The record of one node's trials; one process at a time may use it.

    Args:
        file: path or URI of the record.
        run: names this run of the job.

    Attributes:
        crashed: candidates that killed their process.
    """

    def __init__(self, file: str, run: str) -> None:
        self._file, self._run = file, run
        before = read_json(file) if storage.exists(file) else {}
        found = [*before.get("crashed", []), *([before["trying"]] if before.get("run") == run else [])]
        self.crashed: tuple[Candidate, ...] = tuple((engine, precision) for engine, precision in found)

    def begin(self, candidate: Candidate) -> None:
        """From now on this one would be to blame."""
        write_json(self._file, {"run": self._run, "trying": candidate, "crashed": self.crashed})

    def over(self) -> None:
        """All trials have ended, and the process lives."""
        storage.delete_file(self._file)
