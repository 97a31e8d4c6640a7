"""Jobs submitted to two nodes that cluster/local.sh starts, of which one is killed at work: as on one machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.integration.conftest import free_port
from zsd import storage
from zsd.assets import sample_path
from zsd.registry import Registry
from zsd.shards import Store, matrix, read_json
from zsd.students import load_student

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "cluster" / "local.sh"
CORPUS = str(sample_path("corpus.txt"))
LABELS = str(sample_path("labels.txt"))
WAIT_SECONDS = 600.0
"""After which a command, or a job, is taken for one that hangs."""


@dataclass
class Cluster:
    """Two nodes, and the environment that means them."""

    env: dict[str, str]
    folder: Path

    def script(self, command: str) -> str:
        return self.run(str(SCRIPT), command)

    def run(self, *words: str) -> str:
        """What a command says that succeeds."""
        done = subprocess.run(words, env=self.env, cwd=ROOT, capture_output=True, text=True, timeout=WAIT_SECONDS)
        assert done.returncode == 0, f"{words}: {done.stdout[-3000:]} {done.stderr[-3000:]}"
        return done.stdout + done.stderr

    def submit(self, name: str, *words: str) -> None:
        """``ray job submit``, as the README has it, without waiting."""
        runtime = self.folder / "runtime_env.yaml"
        content = yaml.safe_load((ROOT / "jobs" / "runtime_env.yaml").read_text(encoding="utf-8"))
        content["env_vars"] |= {"ZSD_CACHE": str(self.folder / "cache"), "HF_HUB_OFFLINE": "1"}
        runtime.write_text(yaml.safe_dump(content), encoding="utf-8")
        flags = ("--no-wait", "--submission-id", name, "--runtime-env", str(runtime))
        self.run("ray", "job", "submit", *flags, "--", "python", f"jobs/{name}.py", *words)

    def finish(self, name: str, *, kill_when: Callable[[], bool], result: Path) -> str:
        """Kill a node once a condition holds, and wait for the job, which must succeed; returns its log."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not kill_when():
            assert time.monotonic() < deadline, self.run("ray", "job", "logs", name)[-5000:]
            time.sleep(0.1)
        self.script("kill")
        assert not result.exists(), "the job was over before the node was dead"
        deadline, status = time.monotonic() + WAIT_SECONDS, ""
        while not any(f"'{name}' {end}" in status for end in ("succeeded", "failed", "was stopped")):
            assert time.monotonic() < deadline, status
            time.sleep(2)
            status = self.run("ray", "job", "status", name)
        log = self.run("ray", "job", "logs", name)
        assert f"'{name}' succeeded" in status, f"{status}\n{log[-5000:]}"
        return log


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="zsd"))  # short: Ray's socket names are cut at 107 characters
    own = {"ZSD_CLUSTER": str(folder), "ZSD_CLUSTER_PORT": str(free_port()), "ZSD_CLUSTER_DASHBOARD": str(free_port())}
    base = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "ZSD_"))}
    env = base | own | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{base['PATH']}", "PYTHONPATH": str(ROOT)}
    cluster = Cluster(env, folder)
    try:
        cluster.script("start")
        exports = dict(word.split("=", 1) for word in cluster.script("env").removeprefix("export ").split())
        cluster.env = env | exports
        yield cluster
    finally:
        cluster.script("stop")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same jobs without a cluster of their own to join: what the results must be."""
    output = tmp_path_factory.mktemp("jobs") / "here"
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    for words in (label_words(output), distill_words(output)):
        subprocess.run([sys.executable, "-m", "zsd.cli", *words], env=env, cwd=ROOT, check=True, timeout=WAIT_SECONDS)
    return output


def label_words(output: Path) -> list[str]:
    job = ["label", "--data", CORPUS, "--labels", LABELS, "--output", str(output), "--engine", "torch"]
    return [*job, "--cpus-per-actor", "1", "--unit-rows", "8"]


def distill_words(output: Path) -> list[str]:
    job = ["distill", "--soft-labels", str(output), "--output", str(output)]
    return [*job, "--max_steps", "120", "--save_steps", "20"]


def units(output: Path) -> int:
    return len(storage.list_names(output / "soft_labels", suffix=".parquet"))


def has_checkpoint(output: Path) -> bool:
    return any((output / "checkpoints").rglob("checkpoint_*"))


def assert_same_labels(one: Path, other: Path) -> None:
    columns = ["id", "text", "label", "probs", "entailment"]
    first, second = (Store(str(uri)).read(columns).sort_by("id") for uri in (one, other))
    assert first.select(["id", "text", "label"]).equals(second.select(["id", "text", "label"]))
    np.testing.assert_allclose(matrix(first["entailment"]), matrix(second["entailment"]), atol=1e-4)
    assert read_json(str(other / "manifest.json"))["rejected"] == 0


def assert_same_student(one: str, other: str) -> None:
    texts = sample_path("corpus.txt").read_text(encoding="utf-8").splitlines()
    first, second = (load_student(folder).predict(texts) for folder in (one, other))
    assert (first.argmax(axis=1) == second.argmax(axis=1)).mean() > 0.95


def test_jobs_on_two_nodes_of_which_one_dies(here: Path, two_nodes: Cluster) -> None:
    output = here.parent / "there"
    two_nodes.submit("label", *label_words(output)[1:], "--cpu-actors", "4")
    log = two_nodes.finish("label", kill_when=lambda: units(output) >= 1, result=output / "manifest.json")
    assert f"label: {Store(str(here)).manifest['rows']} rows" in log
    assert "finished" in two_nodes.run(sys.executable, "-m", "zsd.cli", "status", str(output))
    assert_same_labels(here, output)

    two_nodes.script("add")
    two_nodes.submit("distill", *distill_words(output)[1:], "--num-workers", "2", "--min-workers", "1")  # one a node
    log = two_nodes.finish("distill", kill_when=lambda: has_checkpoint(output), result=output / "student" / "zsd.json")
    assert "distill: done" in log
    assert "Traceback" not in log
    assert_same_student(str(here), str(output))


def test_a_night_on_two_nodes_of_which_one_dies(here: Path, two_nodes: Cluster) -> None:
    output = here.parent / "nights"
    night, registry = output / "nights" / "one", Registry(str(output / "registry"))
    two_nodes.script("add")
    words = [*label_words(output)[1:], "--cpu-actors", "4", "--max_steps", "120", "--save_steps", "20"]
    two_nodes.submit("nightly", *words, "--night", "one")
    log = two_nodes.finish("nightly", kill_when=lambda: units(night) >= 1, result=night / "manifest.json")
    assert "Traceback" not in log
    assert_same_labels(here, night)
    assert registry.versions() == ["0001-one"]
    assert_same_student(str(here), registry.student("0001-one"))
