"""How many actors or training workers of which size a job gets, from what the nodes of the cluster have."""

from __future__ import annotations

import os
from dataclasses import dataclass

import ray
from ray.util.placement_group import placement_group, remove_placement_group

from zsd.console import say
from zsd.distributed.cluster import LOGICAL_GPUS, NO_CPU_SECONDS
from zsd.errors import ConfigError

MOST_TRAIN_THREADS = 8
"""Processor threads of a training worker at most."""


@dataclass(frozen=True, kw_only=True)
class PoolSize:
    """How many actors of each kind, and processor threads of a CPU actor."""

    cpu_actors: int
    gpu_actors: int
    cpus_per_actor: int

    @property
    def actors(self) -> int:
        """All of them."""
        return self.cpu_actors + self.gpu_actors


def pool_size(
    *, cpu_actors: int | None, gpu_actors: int | None, cpus_per_actor: int | None, units: int, may_grow: bool = False
) -> PoolSize:
    """Fill in what was not asked for from what the cluster has; never more actors than units.

    GPU actors where the cluster has GPUs, CPU actors where it has none, both where both are asked for. A GPU actor
    also takes one CPU, to tokenize.

    Args:
        cpu_actors: how many; None: what fits.
        gpu_actors: how many; None: what fits.
        cpus_per_actor: processor threads of a CPU actor; None: up to 4.
        units: pieces that the work can be cut into.
        may_grow: nodes may join the cluster (an autoscaler, or somebody, starts them): more than it has now may be
            asked for, and the actors without a place wait for one.

    Raises:
        ConfigError: more was asked for than the cluster has, or nothing in particular where it has no CPU.
    """
    nodes = _nodes()
    cpus, gpus = (sum(column) for column in zip((0, 0), *nodes, strict=True))
    node_cpus = max((cpus for cpus, _ in nodes), default=0)
    threads = cpus_per_actor or max(1, min(4, node_cpus))
    wanted_gpu = min(gpus, cpus) if gpu_actors is None else gpu_actors
    default_cpu = 0 if wanted_gpu or not cpus else max(1, sum(cpus // threads for cpus, _ in nodes))
    wanted_cpu = default_cpu if cpu_actors is None else cpu_actors
    if not wanted_gpu + wanted_cpu:
        raise ConfigError(
            "no node of the cluster has a CPU yet: say how many actors its autoscaler shall make room for, with "
            "--cpu-actors N --cpus-per-actor M or --gpu-actors N"
        )
    lacking = wanted_gpu > gpus or wanted_gpu + wanted_cpu * threads > cpus or threads > node_cpus
    if lacking and not may_grow:
        raise ConfigError(
            f"{wanted_cpu} CPU actors of {threads} CPUs and {wanted_gpu} GPU actors of 1 GPU and 1 CPU were asked for, "
            f"the cluster has {cpus} CPUs and {gpus} GPUs: lower --cpu-actors, --cpus-per-actor or --gpu-actors"
        )
    gpu = min(wanted_gpu, units)
    return PoolSize(cpu_actors=min(wanted_cpu, units - gpu), gpu_actors=gpu, cpus_per_actor=threads)


def train_resources(workers: int, *, may_grow: bool = False) -> tuple[bool, int]:
    """Whether training workers get a GPU each, and how many CPUs.

    Args:
        workers: how many.
        may_grow: nodes may join the cluster: a CPU for each worker is waited for. What the nodes that come have besides
            is used; GPUs are not asked for.

    Raises:
        ConfigError: there are more workers than CPUs, or no CPU at all.
    """
    use_gpu, threads = _fitting(workers)
    if not threads and may_grow:
        _wait_for_cpus(workers)
        use_gpu, threads = _fitting(workers)
    if not threads:
        total = sum(cpus for cpus, _ in _nodes())
        if not total:
            raise ConfigError(
                "no node of the cluster has a CPU yet: say how many training workers its autoscaler shall make room "
                "for, with --num-workers N"
            )
        raise ConfigError(f"--num-workers {workers}: the cluster has only {total} CPUs: ask for no more workers")
    return use_gpu, threads


def _fitting(workers: int) -> tuple[bool, int]:
    """Whether there is a GPU for each training worker, and how many CPUs: 0 where not even one."""
    nodes = _nodes()
    use_gpu = sum(gpus for _, gpus in nodes) >= workers and os.environ.get(LOGICAL_GPUS) != "1"

    def places(threads: int) -> int:
        return sum(min(cpus // threads, gpus if use_gpu else workers) for cpus, gpus in nodes)

    return use_gpu, max((one for one in range(1, MOST_TRAIN_THREADS + 1) if places(one) >= workers), default=0)


def _wait_for_cpus(workers: int) -> None:
    """Until the cluster has a free CPU for each worker: pending places are the demand that autoscalers act on."""
    places = placement_group([{"CPU": 1}] * workers)
    try:
        while not places.wait(NO_CPU_SECONDS):
            total = sum(cpus for cpus, _ in _nodes())
            say(
                f"the cluster has {total} CPUs for {workers} training worker(s): waiting for its autoscaler, or for "
                "somebody, to add a node"
            )
    finally:
        remove_placement_group(places)


def _nodes() -> list[tuple[int, int]]:
    """CPUs and GPUs of every node that is alive."""
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [(int(has.get("CPU", 0)), int(has.get("GPU", 0))) for has in alive]


def may_grow(address: str | None) -> bool:
    """Whether nodes may join the cluster of a job: not the one that the job started for itself."""
    return bool(address or os.environ.get("RAY_ADDRESS"))
