"""A short fault campaign; the long one is a command (`tests.faults.campaign`), and ``-m slow`` runs it too."""

import random
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from tests import here, standin
from tests.corpora import write_corpus
from tests.faults.content import Reference
from tests.faults.damage import DAMAGE
from tests.faults.driver import LABELS, Driver
from tests.faults.nodes import actors_below, kill, raylet_of
from zsd import teacher_plan
from zsd.config import LabelConfig
from zsd.distributed import label as label_module
from zsd.verify import repair_store, verify_store


def test_killed_and_damaged_jobs_come_to_the_bytes_of_one_that_nothing_befell(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = random.Random(0)
    planted = write_corpus(tmp_path / "corpus.jsonl", 800, bad=0.05, duplicates=0.05)
    monkeypatch.setattr(teacher_plan, "LabelTask", standin.task_maker())

    def config(name: str) -> LabelConfig:
        return LabelConfig(
            data=(str(tmp_path / "corpus.jsonl"),),
            output=str(tmp_path / name),
            label=LABELS,
            engine="torch",
            unit_rows=16,
            target_file_rows=200,
            cpu_actors=2,
            gpu_actors=0,
            cpus_per_actor=1,
        )

    with monkeypatch.context() as without_ray:
        here.install(without_ray)
        manifest = label_module.label(config("whole"))
    assert (manifest["rows"], manifest["duplicates"], manifest["rejected"]) == (
        planted.distinct,
        planted.duplicates,
        planted.bad,
    )
    reference = Reference(str(tmp_path / "whole"))

    flags = ("--unit-rows", "16", "--target-file-rows", "200", "--cpu-actors", "2", "--gpu-actors", "0")
    job = Driver(
        data=str(tmp_path / "corpus.jsonl"),
        output=str(tmp_path / "killed"),
        folder=tmp_path / "job",
        address=ray.get_runtime_context().gcs_address,
        pace="cpu=75",  # some 16 s of labelling for two actors: there is time to kill them in the middle
        flags=flags,
    )
    job.start()
    assert job.wait_until_ended(4), job.log()
    kill(dice.choice(actors_below(raylet_of(ray._private.worker._global_node))))
    done = len(job.groups(standin.ENDED))
    assert job.wait_until(lambda: "died" in job.log() and len(job.groups(standin.ENDED)) >= done + 4), job.log()
    job.kill()
    assert 0 < reference.check_unfinished(job.parts) < planted.distinct
    label_module.label(config("killed"))
    assert verify_store(job.output).problems == []
    assert reference.differences(job.output) == []
    assert "(raylet)" not in job.log()

    for name in ("truncated shard", "duplicated shard"):
        hit = DAMAGE[name](sorted(job.parts.glob("part-*")), dice)
        found = verify_store(job.output)
        assert any(hit.name in problem for problem in found.problems)
        repair_store(found)
        with monkeypatch.context() as without_ray:
            here.install(without_ray)
            label_module.label(config("killed"))
        assert reference.differences(job.output) == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_whole_campaign() -> None:
    subprocess.run([sys.executable, "-m", "tests.faults.campaign", "--seed", "1"], check=True)


@pytest.mark.slow
def test_a_job_waits_for_nodes_that_are_not_there_yet() -> None:
    subprocess.run([sys.executable, "-m", "tests.faults.late_nodes"], check=True)
