"""The fault campaign: label jobs are killed and their stores damaged, at random, and must come to the same bytes.

    python -m tests.faults.campaign --seed 0 --kills 20 --storage-faults 6

Every job is `zsd label` with the stand-in teacher (`tests.standin`) on a local cluster of two nodes, an actor on each.
A kill hits, in the middle of labelling: an actor; the raylet of a node (which comes back seconds later); the driver;
or everything, all nodes and the driver. After it the job goes on or is run again, and what it has committed is compared
with an uninterrupted job's rows; at its end all outputs are, byte for byte. A storage fault hits a finished store
(`tests.faults.damage`), which ``zsd verify --repair`` and a rerun must restore, or the S3 server that a job writes to.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import shutil
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.corpora import Planted, write_corpus
from tests.faults.content import Reference
from tests.faults.damage import DAMAGE
from tests.faults.driver import Driver
from tests.faults.nodes import Nodes, kill
from tests.s3_server import Server, credentials, s3_server
from tests.standin import BEGUN, ENDED
from zsd.verify import repair_store, verify_store

KILLS = ("actor", "raylet of a node", "driver", "everything")
S3_FAULTS = ("S3: requests fail", "S3: outage")
ENDS_DRIVER = ("driver", "everything")
MOST_DONE = 0.75
"""Share of a job from which on it is left to finish."""

UNIT_ROWS = 16
PACE = "cpu=400"
"""Pairs/s of an actor: the default corpus is some 20 seconds of labelling for two of them."""


@dataclass(kw_only=True)
class Fault:
    """One kind of fault, and what it cost.

    Attributes:
        times: how often it was injected.
        reruns: how often the label command was run again because of it.
        again: row groups begun that had been begun before.
        groups: row groups of the jobs that it hit.
    """

    times: int = 0
    reruns: int = 0
    again: int = 0
    groups: int = 0


@dataclass(kw_only=True)
class Campaign:
    """Faults, one after another.

    Args:
        folder: scratch.
        seed: of all dice.
        rows: of the corpus.
    """

    folder: Path
    seed: int
    rows: int
    faults: dict[str, Fault] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.corpus = self.folder / "corpus.jsonl"
        self.planted: Planted = write_corpus(self.corpus, self.rows, seed=self.seed)
        self.nodes = Nodes([{}, {}], credentials())
        self.numbers = itertools.count()
        self.last = Fault()
        self.counted: dict[str, int] = {}

    def run(self, *, kills: int, storage_faults: int) -> None:
        """The whole of it.

        Raises:
            AssertionError: something was lost, doubled or changed.
        """
        whole = self._driver("uninterrupted")
        began = time.monotonic()
        self._run_again(whole)
        say(f"uninterrupted: {self.planted.distinct:,} rows in {time.monotonic() - began:.0f} s")
        self.reference = Reference(whole.output)
        self.groups = len(whole.groups(ENDED))
        order = [KILLS[n % len(KILLS)] for n in range(kills)]
        self.dice.shuffle(order)
        self._kills(order)
        kinds = [*DAMAGE, *S3_FAULTS]
        with s3_server() as server:
            server.make_bucket("faults")
            for n in range(storage_faults):
                kind = kinds[n % len(kinds)]
                self._on_s3(kind, server) if kind in S3_FAULTS else self._damaged(kind, whole)

    def _driver(self, name: str, **changes: Any) -> Driver:
        folder = self.folder / f"{next(self.numbers):02d}-{name}"
        asked = {"output": str(folder / "out"), **changes}
        return Driver(
            data=str(self.corpus),
            folder=folder,
            address=self.nodes.address,
            pace=PACE,
            flags=("--unit-rows", str(UNIT_ROWS), "--target-file-rows", str(self.rows // 6)),
            **asked,
        )

    def _run_again(self, job: Driver) -> None:
        job.start()
        assert job.finish() == 0, f"the job failed: {job.log()[-2000:]}"

    def _kills(self, order: list[str]) -> None:
        """One kill after another, in the middle of labelling; a job that is nearly done makes room for the next."""
        job: Driver | None = None
        for kind in order:
            while job is None or not self._reach_next(job):
                if job is not None:
                    self._finish(job)
                job = self._driver("killed")
                job.start()
            self._attribute(job)
            self.last = self.faults.setdefault(kind, Fault())
            self._kill(kind, job)
            rows = self.reference.check_unfinished(job.parts)
            say(f"killed: {kind}; {rows:,} of {self.planted.distinct:,} rows are committed")
            self._recover(kind, job)
            self.last.times += 1
            self.last.groups += self.groups
        if job is not None:
            self._finish(job)

    def _attribute(self, job: Driver) -> None:
        """Row groups begun again since the last kill of this job were its doing."""
        again = _again(job)
        self.last.again += again - self.counted.get(job.output, 0)
        self.counted[job.output] = again

    def _reach_next(self, job: Driver) -> bool:
        """Wait until some more of the job is done, and whether that leaves enough of it to be killed in."""
        goal = len(job.groups(ENDED)) + self.dice.uniform(0.02, 0.2) * self.groups
        if goal > MOST_DONE * self.groups or not job.wait_until_ended(goal):
            return False
        time.sleep(self.dice.uniform(0, 0.5))
        return job.running and len(job.groups(ENDED)) < MOST_DONE * self.groups

    def _finish(self, job: Driver) -> None:
        assert job.finish() == 0, f"the job failed: {job.log()[-2000:]}"
        self._attribute(job)
        self._check(job)

    def _kill(self, kind: str, job: Driver) -> None:
        if kind == "actor":
            job.wait_until(lambda: bool(self.nodes.actors()))
            kill(self.dice.choice(self.nodes.actors()))
        elif kind == "raylet of a node":
            self.nodes.kill_raylet()
        elif kind == "driver":
            job.kill()
        else:
            self.nodes.kill_everything()
            job.kill()

    def _recover(self, kind: str, job: Driver) -> None:
        """Start what is to be started again, sooner or later, and wait until something more is done."""
        if kind == "raylet of a node":
            time.sleep(self.dice.uniform(0, 3))
            self.nodes.add_node()
        elif kind == "driver":
            time.sleep(self.dice.uniform(0, 2))
        elif kind == "everything":
            self.nodes.start()
            job.address = self.nodes.address
        if not job.running and kind in ENDS_DRIVER:
            job.start()
            self.last.reruns += 1
        done = sum(job.groups(ENDED).values())
        going_on = job.wait_until(lambda: sum(job.groups(ENDED).values()) > done)
        assert going_on or job.finish() == 0, f"the job failed: {job.log()[-2000:]}"

    def _damaged(self, kind: str, whole: Driver) -> None:
        """A finished store, damaged, found out, repaired and run again."""
        fault = self.faults.setdefault(kind, Fault())
        job = self._driver("damaged")
        shutil.copytree(whole.output, job.output)
        hit = DAMAGE[kind](sorted(job.parts.glob("part-*")), self.dice)
        found = verify_store(job.output)
        assert any(hit.name in problem for problem in found.problems), f"{kind} of {hit.name}: {found.problems}"
        repair_store(found)
        self._run_again(job)
        self._count(fault, job, again=sum(job.groups(BEGUN).values()))
        say(f"{kind}: found, put aside, {sum(job.groups(BEGUN).values())} row groups made again")

    def _on_s3(self, kind: str, server: Server) -> None:
        """A job on a store of which requests fail; or all do for a while, which ends the job, and it is run again."""
        fault = self.faults.setdefault(kind, Fault())
        job = self._driver("s3", output=server.uri(f"faults/{next(self.numbers)}"))
        server.faults(fail=0.1, slow=0.05)
        if kind == "S3: outage":
            server.faults()
            job.start()
            job.wait_until_ended(self.dice.uniform(0.2, 0.6) * self.groups)
            server.faults(fail=1.0)
            code = job.finish()
            assert code == 1, f"exit code {code}: {job.log()[-2000:]}"
            assert "Traceback" not in job.log(), job.log()
            server.faults()
        self._run_again(job)
        hit = server.faults()
        assert hit or kind == "S3: outage", "no request failed"
        self._count(fault, job, again=_again(job))
        say(f"{kind}: {hit} requests failed or dawdled in the last run")

    def _count(self, fault: Fault, job: Driver, *, again: int) -> None:
        fault.times += 1
        fault.reruns += 1
        fault.again += again
        fault.groups += self.groups
        self._check(job)

    def _check(self, job: Driver) -> None:
        """The job's store is sound and the same as the uninterrupted one's."""
        assert verify_store(job.output).problems == []
        assert self.reference.differences(job.output) == [], job.output

    def table(self) -> str:
        """All faults and their sum."""
        total = Fault(**{name: sum(getattr(one, name) for one in self.faults.values()) for name in asdict(Fault())})
        lines = [f"{'fault':<20} {'times':>6} {'reruns':>7} {'row groups made again':>22} {'of':>6}"]
        lines += [
            f"{name:<20} {one.times:>6} {one.reruns:>7} {one.again:>22} {one.groups:>6}"
            for name, one in {**self.faults, "all": total}.items()
        ]
        return "\n".join(lines)


def _again(job: Driver) -> int:
    """Row groups begun more than once, each time beyond the first counted."""
    return sum(times - 1 for times in job.groups(BEGUN).values())


def say(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--storage-faults", type=int, default=6, help="7: also an S3 outage, which takes minutes")
    parser.add_argument("--rows", type=int, default=2700)
    parser.add_argument("--json", metavar="FILE", help="write the table's figures there")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="zsd-faults-") as folder:
        campaign = Campaign(folder=Path(folder), seed=asked.seed, rows=asked.rows)
        try:
            campaign.run(kills=asked.kills, storage_faults=asked.storage_faults)
        finally:
            campaign.nodes.close()
            say(campaign.table())
    say("every store is byte for byte the uninterrupted one's content")
    if asked.json:
        Path(asked.json).write_text(json.dumps({name: asdict(one) for name, one in campaign.faults.items()}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
