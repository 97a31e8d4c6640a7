"""A teacher that costs nothing: all of `zsd label` as it is, with arithmetic in place of the model.

    python -m tests.standin label --data corpus.jsonl --labels labels.txt --output out

takes the flags of `zsd`. Texts are read, tokenized, paired, batched, committed and merged for real; only the engine is
a hash of a pair's tokens, the same for every batch and machine. Three variables of the environment:

ZSD_STANDIN_PACE     ``cpu=400,gpu=2000``: pairs/s of an actor of each kind (it sleeps); default: as fast as it goes
ZSD_STANDIN_JOURNAL  a file to which every actor appends a line for each unit that it begins and ends
ZSD_STANDIN_MEMORY   a folder where driver and actors keep their peak resident memory, in MiB, each in its own file

Legend: B pairs in a batch, L tokens, C NLI classes.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from zsd.engines import registry
from zsd.engines.base import FloatArray, IntArray, Placement
from zsd.engines.lanes import Lanes
from zsd.labelling import LabelTask, LabelWorker
from zsd.machine import peak_memory_mb
from zsd.shards import UnitRecord
from zsd.teachers.nli import NLITeacher
from zsd.unit_rows import Skip
from zsd.units import Unit

PACE, JOURNAL, MEMORY = "ZSD_STANDIN_PACE", "ZSD_STANDIN_JOURNAL", "ZSD_STANDIN_MEMORY"
BEGUN, ENDED = "begun", "ended"


class StandInEngine:
    """An engine of arithmetic; see `zsd.engines.base.Engine`."""

    name = "torch"
    buckets: tuple[int, ...] | None = None
    most_buckets = 1
    pads = True
    lanes = Lanes(1)
    token_budget = 8192
    fingerprint = "stand-in"
    pairs_per_second: float | None = None

    def __init__(self, teacher: NLITeacher, placement: Placement, precision: str = "fp32") -> None:
        self.precision, self.threads, self.classes = precision, placement.threads, teacher.classes.count

    def logits(self, inputs: Mapping[str, IntArray]) -> FloatArray:
        ids_BL = inputs["input_ids"] * inputs["attention_mask"]
        weights_L = np.arange(1, ids_BL.shape[1] + 1) * 7919 % 1009
        hash_B1 = (ids_BL @ weights_L)[:, None]
        if self.pairs_per_second is not None:
            time.sleep(len(ids_BL) / self.pairs_per_second)
        logits_BC: FloatArray = ((hash_B1 * np.arange(31, 31 + self.classes) % 10_007) / 1250.0 - 4).astype(np.float32)
        return logits_BC

    def close(self) -> None:
        """Nothing to free."""


@dataclass(frozen=True, kw_only=True)
class StandInTask(LabelTask):
    """A `LabelTask` that puts the stand-in where torch is, in the actor that it is unpickled in."""

    pace: tuple[tuple[str, float], ...] = ()
    journal: str = ""
    memory: str = ""

    def __call__(self, placement: Placement) -> Any:
        entry = registry.Registered(
            module="tests.standin", class_name="StandInEngine", precisions={"cpu": ("fp32", "bf16"), "cuda": ("fp32",)}
        )
        registry.ENGINES = {**registry.ENGINES, "torch": entry}
        StandInEngine.pairs_per_second = self._pairs_per_second()
        return _Watched(super().__call__(placement), self.journal, self.memory)

    def _pairs_per_second(self) -> float | None:
        from zsd.distributed.cluster import actor_kind

        return dict(self.pace)[actor_kind()] if self.pace else None


@dataclass(frozen=True)
class _Watched:
    """A worker that leaves a trace."""

    worker: LabelWorker
    journal: str
    memory: str

    def __call__(self, unit: Unit, *, worker: str, skip: Skip = ()) -> UnitRecord:
        self._note(BEGUN, unit, worker)
        record = self.worker(unit, worker=worker, skip=skip)
        self._note(ENDED, unit, worker)
        if self.memory:
            Path(self.memory, worker.replace(" ", "-")).write_text(str(peak_memory_mb()))
        return record

    def probe(self, unit: Unit, *, start: int, stop: int, skip: Skip = ()) -> None:
        self.worker.probe(unit, start=start, stop=stop, skip=skip)

    def _note(self, what: str, unit: Unit, worker: str) -> None:
        if self.journal:
            with Path(self.journal).open("a") as file:  # one short write: lines of several processes do not mix
                file.write(f"{what}\t{unit.shard}\t{unit.first}\t{unit.stop}\t{worker}\n")


def task_maker(*, pace: Mapping[str, float] | None = None, journal: str = "", memory: str = "") -> Any:
    """What to put in the place of `zsd.teacher_plan.LabelTask` in this process."""
    return partial(StandInTask, pace=tuple((pace or {}).items()), journal=journal, memory=memory)


def main(arguments: Sequence[str]) -> int:
    """`zsd` with the stand-in."""
    from zsd import cli, teacher_plan

    given = [one.partition("=") for one in os.environ.get(PACE, "").split(",") if one]
    pace = {kind: float(speed) for kind, _, speed in given}
    task = task_maker(pace=pace, journal=os.environ.get(JOURNAL, ""), memory=os.environ.get(MEMORY, ""))
    setattr(teacher_plan, LabelTask.__name__, task)
    code = cli.main(list(arguments))
    if os.environ.get(MEMORY):
        Path(os.environ[MEMORY], "driver").write_text(str(peak_memory_mb()))
    return code


if __name__ == "__main__":
    from tests import standin  # the module that actors import, not this one, which is called __main__

    sys.exit(standin.main(sys.argv[1:]))
