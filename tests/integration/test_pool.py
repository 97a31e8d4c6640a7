"""The pool of actors on a real Ray cluster, with workers that are slow, raise and die on demand."""

import json
import os
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.together import wait_for_all
from tests.unit.store import labelled, record
from zsd.attempts import Attempts
from zsd.corpus import Shard
from zsd.distributed import pool
from zsd.distributed.pool import run_units
from zsd.distributed.sizing import PoolSize
from zsd.engines.base import Placement
from zsd.errors import CorpusError, EngineError, TeacherError
from zsd.shards import UnitRecord, commit_unit
from zsd.storage import list_names
from zsd.unit_rows import Skip, probed_rows, unit_rows
from zsd.units import Coverage, Unit, coverage

SHARD = Shard(name="shard-00000.parquet", rows=96, row_groups=(8,) * 12)
UNIT = Unit(shard=SHARD.name, first=0, sizes=SHARD.row_groups)


class Worker:
    """Commits what it reads; a text says what happens when it is run."""

    def __init__(self, root: str, speeds: dict[str, float]) -> None:
        self.root, self.speeds = root, speeds

    def __call__(self, unit: Unit, *, worker: str, skip: Skip = ()) -> UnitRecord:
        started = time.time()
        table = pa.concat_tables(unit_rows(f"{self.root}/corpus", f"{self.root}/rejected", unit, skip))
        self.run(table["text"].to_pylist())
        if self.speeds:
            time.sleep(unit.rows / self.speeds[worker.split()[0]])
        done = record(
            unit, rows=table.num_rows, rejected=len(skip), worker=worker, started=started, seconds=time.time() - started
        )
        return commit_unit(f"{self.root}/soft_labels", labelled(table["id"].to_pylist()), done)

    def probe(self, unit: Unit, *, start: int, stop: int, skip: Skip = ()) -> None:
        self.run(probed_rows(f"{self.root}/corpus", unit, start=start, stop=stop, skip=skip)["text"].to_pylist())

    def run(self, texts: list[str]) -> None:
        if "die" in texts:
            os._exit(1)
        if "raise" in texts:
            raise KeyError("labels")


def corpus(root: Path, strange: dict[int, str], shard: Shard = SHARD) -> None:
    (root / "corpus").mkdir()
    rows = range(shard.rows)
    table = pa.table({"id": [f"id-{n}" for n in rows], "text": [strange.get(n, f"text {n}") for n in rows]})
    pq.write_table(table, root / "corpus" / shard.name, row_group_size=shard.row_groups[0])


def run(root: Path, *, most_rejected: int = 10, size: PoolSize | None = None) -> list[UnitRecord]:
    size = size or PoolSize(cpu_actors=2, gpu_actors=0, cpus_per_actor=1)
    attempts = Attempts([UNIT], most_rejected=most_rejected)
    worker = str(root)
    found = run_units(attempts, lambda placement: Worker(worker, {}), size, job="label")
    return [one for one in found if one is not None]


def committed(root: Path, found: Coverage) -> list[str]:
    return [one for part in found.parts for one in pq.read_table(root / "soft_labels" / part.name)["id"].to_pylist()]


def test_rows_that_raise_or_kill_are_rejected_and_all_others_committed_once(cluster: None, tmp_path: Path) -> None:
    corpus(tmp_path, {3: "raise", 50: "die", 51: "raise"})
    records = run(tmp_path)
    found = coverage([SHARD], list_names(tmp_path / "soft_labels"))
    assert not found.missing
    assert not found.foreign
    # in the parts that count: an actor may commit a unit and die of another before it says so; then it is done again
    assert sorted(committed(tmp_path, found)) == sorted(f"id-{n}" for n in range(96) if n not in (3, 50, 51))
    assert sum(one.rejected for one in records) == 3
    rejected = {row["row"]: row for row in pq.read_table(tmp_path / "rejected").to_pylist()}
    assert set(rejected) == {3, 50, 51}
    assert rejected[3]["reason"] == "KeyError: 'labels'"
    assert "actor died" in rejected[50]["reason"]


def test_too_many_bad_rows_end_the_job_with_what_is_done_kept(cluster: None, tmp_path: Path) -> None:
    corpus(tmp_path, dict.fromkeys((80, 81, 90), "raise"))
    with pytest.raises(CorpusError, match="3 rows make the teacher fail"):
        run(tmp_path, most_rejected=2)
    found = coverage([SHARD], list_names(tmp_path / "soft_labels"))
    assert len(committed(tmp_path, found)) >= 32  # of 80 before the first bad one: some may have been at work


class Refuses:
    def __call__(self, placement: Placement) -> Worker:
        raise TeacherError("teacher 'x' is no NLI model")


class DiesLoading:
    def __call__(self, placement: Placement) -> Worker:
        os._exit(1)


def test_what_an_actor_refuses_is_one_error_and_dying_while_loading_is_not_for_ever(
    cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "LOAD_ATTEMPTS", 2)
    size = PoolSize(cpu_actors=1, gpu_actors=0, cpus_per_actor=1)
    with pytest.raises(TeacherError, match="no NLI model"):
        list(run_units(Attempts([UNIT], most_rejected=0), Refuses(), size, job="label"))
    with pytest.raises(EngineError, match="died 2 times while it loaded the model"):
        list(run_units(Attempts([UNIT], most_rejected=0), DiesLoading(), size, job="label"))


class AtOnce:
    """Makes workers none of which begins before all actors are there."""

    def __init__(self, root: Path, speeds: dict[str, float], actors: int) -> None:
        self.root, self.speeds, self.actors = root, speeds, actors

    def __call__(self, placement: Placement) -> Worker:
        wait_for_all(self.root / "there", self.actors)
        return Worker(str(self.root), self.speeds)


def test_gpu_actors_five_times_as_fast_do_five_times_the_work(cluster: None, tmp_path: Path) -> None:
    shard = Shard(name="shard-00000.parquet", rows=4800, row_groups=(8,) * 600)
    corpus(tmp_path, {}, shard)
    whole = Unit(shard=shard.name, first=0, sizes=shard.row_groups)
    speeds = {"cpu": 50.0, "gpu": 250.0}
    size = PoolSize(cpu_actors=2, gpu_actors=2, cpus_per_actor=1)
    found = run_units(Attempts([whole], most_rejected=0), AtOnce(tmp_path, speeds, size.actors), size, job="label")
    records = [one for one in found if one is not None]
    rows = {kind: sum(r.rows for r in records if r.worker.startswith(kind)) for kind in speeds}
    assert rows["cpu"] + rows["gpu"] == 4800
    print(json.dumps(rows), len(records))
    assert 2.5 < rows["gpu"] / rows["cpu"] < 10  # a loaded machine takes from the fast ones; shared evenly it is 1
