"""How many actors and workers fit: nodes as Ray reports them, no cluster needed."""

import json
from typing import Any

import pytest
import ray

from zsd.distributed import cluster, sizing
from zsd.distributed.cluster import NO_CPU_SECONDS, _submitted_variables
from zsd.distributed.sizing import pool_size, train_resources
from zsd.errors import ConfigError, EngineError


def nodes(monkeypatch: pytest.MonkeyPatch, *sizes: tuple[int, int]) -> None:
    reported = [{"Alive": True, "Resources": {"CPU": float(cpus), "GPU": float(gpus)}} for cpus, gpus in sizes]
    dead = {"Alive": False, "Resources": {"CPU": 64.0}}
    monkeypatch.setattr(ray, "nodes", lambda: [*reported, dead])


def test_a_training_worker_fits_one_node(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes(monkeypatch, (2, 0), (2, 0))
    assert train_resources(1) == (False, 2)
    assert train_resources(2) == (False, 2)
    assert train_resources(3) == (False, 1)
    with pytest.raises(ConfigError, match="only 4 CPUs"):
        train_resources(5)
    nodes(monkeypatch, (5, 0), (5, 0))
    assert train_resources(3) == (False, 2)


def test_training_waits_for_nodes_where_some_may_join(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes(monkeypatch, (0, 0))
    events: list[object] = []

    class Places:
        def wait(self, seconds: float) -> bool:
            events.append(seconds)
            if len(events) == 3:
                nodes(monkeypatch, (0, 0), (6, 0))
            return len(events) == 3

    def ask(bundles: list[dict[str, int]]) -> Places:
        events.append(bundles)
        return Places()

    monkeypatch.setattr(sizing, "placement_group", ask)
    monkeypatch.setattr(sizing, "remove_placement_group", lambda places: events.append("removed"))
    assert train_resources(2, may_grow=True) == (False, 3)
    assert events == [[{"CPU": 1}] * 2, NO_CPU_SECONDS, NO_CPU_SECONDS, "removed"]
    assert "the cluster has 0 CPUs for 2 training worker(s): waiting for its autoscaler" in capsys.readouterr().err
    assert train_resources(2, may_grow=True) == (False, 3)
    assert events[-1] == "removed"
    nodes(monkeypatch, (0, 0))
    with pytest.raises(ConfigError, match=r"no node of the cluster has a CPU yet: .* with --num-workers N"):
        train_resources(1)


def test_training_uses_gpus_where_there_is_one_for_each_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZSD_LOGICAL_GPUS", raising=False)
    nodes(monkeypatch, (8, 1), (8, 1))
    assert train_resources(2) == (True, 8)
    assert train_resources(3)[0] is False


def test_actors_fill_nodes_not_totals(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes(monkeypatch, (6, 0), (6, 0))
    size = pool_size(cpu_actors=None, gpu_actors=None, cpus_per_actor=None, units=100)
    assert (size.cpu_actors, size.gpu_actors, size.cpus_per_actor) == (2, 0, 4)
    assert pool_size(cpu_actors=None, gpu_actors=None, cpus_per_actor=None, units=1).actors == 1


def test_gpu_actors_only_unless_both_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes(monkeypatch, (4, 8))
    size = pool_size(cpu_actors=None, gpu_actors=None, cpus_per_actor=None, units=100)
    assert (size.cpu_actors, size.gpu_actors) == (0, 4)
    both = pool_size(cpu_actors=2, gpu_actors=2, cpus_per_actor=1, units=100)
    assert (both.cpu_actors, both.gpu_actors) == (2, 2)
    with pytest.raises(ConfigError, match="4 CPUs and 8 GPUs"):
        pool_size(cpu_actors=3, gpu_actors=2, cpus_per_actor=1, units=100)


def test_a_cluster_that_may_grow_is_asked_for_what_it_does_not_have_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    for now in ((), ((0, 0),), ((2, 0),)):
        nodes(monkeypatch, *now)
        size = pool_size(cpu_actors=3, gpu_actors=1, cpus_per_actor=2, units=100, may_grow=True)
        assert (size.cpu_actors, size.gpu_actors, size.cpus_per_actor) == (3, 1, 2)
        with pytest.raises(ConfigError, match="3 CPU actors of 2 CPUs and 1 GPU actors"):
            pool_size(cpu_actors=3, gpu_actors=1, cpus_per_actor=2, units=100)


def test_nothing_is_guessed_where_there_is_no_node_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes(monkeypatch, (0, 0))
    with pytest.raises(ConfigError, match="no node of the cluster has a CPU yet"):
        pool_size(cpu_actors=None, gpu_actors=None, cpus_per_actor=None, units=100, may_grow=True)


def test_workers_are_told_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in cluster.JOB_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_API_KEY", "k")
    monkeypatch.setenv("WANDB_PROJECT", "p")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:pass@host")
    assert cluster.job_variables() == {"WANDB_PROJECT": "p"}


def test_what_a_job_was_submitted_with_is_not_told_to_ray_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    assert _submitted_variables() == frozenset()
    for runtime, names in (({"env_vars": {"ZSD_CACHE": "/c"}}, {"ZSD_CACHE"}), ({}, set()), (None, set())):
        monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({"runtime_env": runtime, "metadata": {}}))
        assert _submitted_variables() == names


@pytest.mark.parametrize("address", [None, ""])
def test_a_cluster_that_cannot_start_here_is_not_one_at_an_address(
    address: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**options: Any) -> None:
        raise RuntimeError("no room in /dev/shm")

    if address is None:
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
    else:
        monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", fail)
    with pytest.raises(EngineError, match="Ray cannot start on this machine: no room in /dev/shm"):
        cluster.connect(None)


def test_a_job_without_an_address_joins_no_other_cluster_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **options: asked.append(options))
    monkeypatch.setattr(cluster, "_silence_raylet", lambda: None)
    cluster.connect(None)
    cluster.connect("10.0.0.1:6379")
    assert [one["address"] for one in asked] == ["local", "10.0.0.1:6379"]
    assert ["num_cpus" in one for one in asked] == [True, False]
