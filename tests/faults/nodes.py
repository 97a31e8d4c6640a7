"""Ray nodes as processes of this one, to be killed: one at a time, some of its workers, or all at once.

Every kill is SIGKILL, and only processes below our own are ever hit: other clusters of the machine are left alone, and
cannot join this one by mistake (its address file lies in a folder of its own).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

ROOT = str(Path(__file__).parents[2])
ACTOR_TITLE = "ray::UnitActor"
NODE = {"num_cpus": 1, "object_store_memory": 150 << 20, "include_dashboard": False}


class Nodes:
    """A cluster on this machine; start it before anything else of this process uses Ray.

    Args:
        nodes: resources of each node, the head first.
        environment: variables that all processes of the cluster get.
    """

    def __init__(self, nodes: list[dict[str, Any]], environment: Mapping[str, str]) -> None:
        self._wanted = nodes
        self._folder = Path(tempfile.mkdtemp(prefix="r"))  # short: a socket's path may have 107 characters
        os.environ |= {
            "RAY_TMPDIR": str(self._folder),
            "RAY_USAGE_STATS_ENABLED": "0",
            "PYTHONPATH": ROOT,
            **environment,
        }
        self._cluster: Any = None
        self.start()

    @property
    def address(self) -> str:
        """For RAY_ADDRESS."""
        return str(self._cluster.address)

    def start(self) -> None:
        """All nodes, after `kill_everything` or at first."""
        from ray.cluster_utils import Cluster

        head, *others = self._wanted
        self._cluster = Cluster(initialize_head=True, head_node_args={**NODE, **head})
        for node in others:
            self._cluster.add_node(**{**NODE, **node})

    def actors(self) -> list[psutil.Process]:
        """The processes of the pool's actors, on all nodes."""
        return [process for node in self._nodes() for process in actors_below(raylet_of(node))]

    def kill_raylet(self) -> None:
        """Kill the raylet of the last node; its workers die of that. `add_node` makes good for it."""
        (node,) = self._cluster.worker_nodes
        workers = raylet_of(node).children(recursive=True)
        node.kill_raylet()
        self._cluster.remove_node(node, allow_graceful=False)
        _, left = psutil.wait_procs(workers, timeout=120)
        assert not left, f"workers outlived their raylet: {left}"

    def add_node(self, **resources: Any) -> None:
        """One more node; the last one once more where nothing is said of it."""
        self._cluster.add_node(**{**NODE, **(resources or self._wanted[-1])})

    def kill_everything(self) -> None:
        """Kill all processes of all nodes at the same moment."""
        below = [process for node in self._nodes() for process in below_node(node)]
        for process in below:
            kill(process)
        psutil.wait_procs(below, timeout=30)
        self._cluster = None

    def close(self) -> None:
        """Leave nothing behind."""
        if self._cluster is not None:
            self.kill_everything()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _nodes(self) -> list[Any]:
        return [self._cluster.head_node, *self._cluster.worker_nodes]


def raylet_of(node: Any) -> psutil.Process:
    """The raylet of one of Ray's nodes that this process started."""
    return psutil.Process(node.all_processes["raylet"][0].process.pid)


def below_node(node: Any) -> list[psutil.Process]:
    """All processes of a node, its workers first."""
    own = [psutil.Process(info.process.pid) for infos in node.all_processes.values() for info in infos]
    return [child for one in own for child in one.children(recursive=True)] + own


def actors_below(raylet: psutil.Process) -> list[psutil.Process]:
    """The pool's actors of one node."""
    return [process for process in raylet.children(recursive=True) if _title(process).startswith(ACTOR_TITLE)]


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def kill(process: psutil.Process) -> None:
    """SIGKILL, whether it lives or not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()
