"""What Ray Train is told to run. Ray's controller imports this module too, and trains nothing: nothing heavy here."""

from __future__ import annotations

from typing import Any

import ray


def train_loop(config: dict[str, Any]) -> None:
    """What every Ray Train worker runs.

    Args:
        config: ``task``, a reference to a `TrainTask`; ``threads`` of a worker; ``lines``, where progress lines go.
    """
    from zsd.distributed.train_worker import WorkerTask, train

    train(WorkerTask(task=ray.get(config["task"]), threads=config["threads"], lines=config["lines"]))
