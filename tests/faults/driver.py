"""A `zsd label` or `zsd nightly` process with the stand-in teacher, to be killed and run again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests import standin

LABELS = ("technology", "sports", "health")
WAIT_SECONDS = 600.0


@dataclass(kw_only=True)
class Driver:
    """One job: its command, and the process that runs it, if any.

    Args:
        data: the corpus.
        output: the job's directory, a path or a URI.
        folder: where its log and its journal go.
        address: of the Ray cluster.
        pace: pairs/s of an actor of each kind.
        flags: more of the command.
        module: what runs the command, and the first words it gets.
    """

    data: str
    output: str
    folder: Path
    address: str
    pace: str
    flags: tuple[str, ...] = ()
    module: tuple[str, ...] = ("tests.standin", "label")
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def journal(self) -> Path:
        """Which units actors began and ended."""
        return self.folder / "journal"

    @property
    def parts(self) -> Path:
        """Folder of the shards, where the output is a path."""
        return Path(self.output) / "soft_labels"

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Run the command, for the first time or again."""
        assert not self.running
        self.folder.mkdir(parents=True, exist_ok=True)
        labels = [flag for name in LABELS for flag in ("--label", name)]
        command = [sys.executable, "-m", *self.module, "--data", self.data, "--output", self.output]
        command += [*labels, "--engine", "torch", "--cpus-per-actor", "1", "--ray-address", self.address, *self.flags]
        variables = {standin.PACE: self.pace, standin.JOURNAL: str(self.journal)}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, env={**os.environ, **variables}, stdout=log, stderr=log, start_new_session=True
            )

    def finish(self) -> int:
        """Wait for the process; its exit code."""
        assert self.process is not None
        return self.process.wait(WAIT_SECONDS)

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def groups(self, what: str) -> Counter[tuple[str, int]]:
        """How often each row group was begun, or ended."""
        lines = self.journal.read_text().splitlines() if self.journal.exists() else []
        fields = [line.split("\t") for line in lines]
        return Counter(
            (shard, group)
            for noted, shard, first, stop, _ in fields
            if noted == what
            for group in range(int(first), int(stop))
        )

    def wait_until(self, reached: Callable[[], bool]) -> bool:
        """Wait until something is so; whether it came to that before the process ended.

        Raises:
            TimeoutError: neither.
        """
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            if reached():
                return True
            if not self.running:
                return False
            time.sleep(0.05)
        raise TimeoutError(f"nothing happens: see {self.folder / 'log'}")

    def wait_until_ended(self, groups: float) -> bool:
        """Wait until that many row groups are committed; whether it came to that before the process ended."""
        return self.wait_until(lambda: len(self.groups(standin.ENDED)) >= groups)

    def log(self) -> str:
        """What all its processes said."""
        return (self.folder / "log").read_text(errors="replace")
