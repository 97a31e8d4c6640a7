"""Joining or starting a Ray cluster, and what an actor finds out about the place it was put."""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from zsd.console import say
from zsd.engines.base import Placement
from zsd.errors import ConfigError, EngineError, ZsdError, in_one_line
from zsd.machine import available_cpus
from zsd.redaction import redacted

LOGICAL_GPUS = "ZSD_LOGICAL_GPUS"
"""Environment variable: 1 lets GPU actors run on the processor, to exercise the GPU path where Ray's GPUs are only
logical. Without it a GPU actor that finds no CUDA device is an error."""

NO_CPU_SECONDS = 30.0
"""Seconds after which a line says that a cluster without any node for work is waited for."""

JOB_VARIABLES = (
    *(LOGICAL_GPUS, "ZSD_CACHE", "HF_HUB_OFFLINE", "HF_HOME", "TENSORBOARD_LOGGING_DIR"),
    *("WANDB_PROJECT", "WANDB_ENTITY", "WANDB_NAME", "WANDB_RUN_GROUP", "WANDB_TAGS", "WANDB_MODE", "WANDB_BASE_URL"),
    *("WANDB_LOG_MODEL", "WANDB_WATCH", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID"),
    *("MLFLOW_TAGS", "MLFLOW_NESTED_RUN", "MLFLOW_FLATTEN_PARAMS", "MLFLOW_MAX_LOG_PARAMS"),
    *("HF_MLFLOW_LOG_ARTIFACTS",),
)
"""What workers are told of this process's environment. Ray shows it in its dashboard and logs: a value that holds a
secret is left out, and no key, password or token belongs here. The machines of the workers must have those."""


def connect(address: str | None) -> None:
    """Join the cluster at an address, or the one this job was submitted to, or start one on this machine.

    Does nothing where this process is connected already.

    Raises:
        ConfigError: there is no cluster at the address.
    """
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    variables = job_variables() | {"TOKENIZERS_PARALLELISM": "false", "NM_DISABLE_ANALYTICS": "True"}
    variables = {name: value for name, value in variables.items() if name not in _submitted_variables()}
    address = address or os.environ.get("RAY_ADDRESS")
    local: dict[str, Any] = {} if address else {"include_dashboard": False, "num_cpus": available_cpus()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with _native_stderr_silenced():
                ray.init(
                    address=address or "local",  # and not another cluster that runs on this machine
                    logging_level=logging.ERROR,
                    log_to_driver=False,
                    runtime_env={"env_vars": variables},
                    **local,
                )
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = in_one_line(error)
            if not address:
                raise EngineError(f"Ray cannot start on this machine: {reason}") from None
            raise ConfigError(
                f"no Ray cluster at {address!r} ({reason}): check --ray-address or $RAY_ADDRESS"
            ) from None
    logging.getLogger("ray").setLevel(logging.ERROR)
    _silence_raylet()


def job_variables() -> dict[str, str]:
    """Those of `JOB_VARIABLES` that are set and hold no secret."""
    found = {name: os.environ[name] for name in JOB_VARIABLES if name in os.environ}
    return {name: value for name, value in found.items() if redacted(value) == value}


def _submitted_variables() -> frozenset[str]:
    """Environment variables that the job was submitted with: its workers have them, and Ray refuses to hear twice."""
    job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or "{}")
    return frozenset((job.get("runtime_env") or {}).get("env_vars") or ())


def _silence_raylet() -> None:
    """Drop what raylets publish of every process that ends, a thousand characters on standard output each time.

    Ray has no switch for it; `zsd.distributed.pool` says in a line which actor died, and why.
    """
    from ray._private import worker

    shown = worker.print_to_stdstream

    def print_others(data: dict[str, Any], *rest: Any, **named: Any) -> None:
        if data.get("pid") != "raylet":
            shown(data, *rest, **named)

    worker.print_to_stdstream = print_others


@contextmanager
def _native_stderr_silenced() -> Iterator[None]:
    """Drop what Ray's native code writes to standard error while it starts; Python errors are raised as ever."""
    sys.stderr.flush()
    kept = os.dup(2)
    with Path(os.devnull).open("w") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def placement_here() -> Placement:
    """Device and threads of the actor this runs in: the only place where that is decided.

    Raises:
        EngineError: Ray gave this actor a GPU and torch sees none.
    """
    context = ray.get_runtime_context()
    cpus = max(1, int(context.get_assigned_resources().get("CPU", 1)))
    if not context.get_accelerator_ids().get("GPU"):
        return Placement(device="cpu", threads=cpus)
    import torch

    if torch.cuda.is_available():
        return Placement(device="cuda", threads=cpus)
    if os.environ.get(LOGICAL_GPUS) == "1":
        return Placement(device="cpu", threads=cpus)
    raise EngineError(
        "Ray gave this actor a GPU but torch sees no CUDA device on the node: install a CUDA build of torch there, "
        "or use --gpu-actors 0"
    )


def actor_kind() -> str:
    """``gpu`` or ``cpu``: what Ray gave this actor, whatever it runs on."""
    return "gpu" if ray.get_runtime_context().get_accelerator_ids().get("GPU") else "cpu"


def run_tasks(function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    """`map` with one Ray task for each item; results in order.

    Raises:
        ZsdError: the first that a task raised, as it was raised.
    """

    def call(item: Any) -> Any:  # Ray takes plain functions only, and this one may be a partial
        return function(item)

    task = ray.remote(call)
    results = [task.remote(item) for item in items]
    while results and not ray.wait(results, num_returns=1, timeout=NO_CPU_SECONDS)[0]:
        if ray.cluster_resources().get("CPU", 0) < 1:
            say("the cluster has no CPU yet: waiting for its autoscaler, or for somebody, to add a node")
    try:
        return list(ray.get(results))
    except ray.exceptions.RayTaskError as error:
        raise own_error(error) from None


def own_error(error: BaseException) -> BaseException:
    """The `ZsdError` inside what Ray wraps around a remote failure; the failure itself where there is none."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ZsdError) and not isinstance(seen, ray.exceptions.RayTaskError):
            return seen
        cause = getattr(seen, "cause", None)
        seen = cause if isinstance(cause, BaseException) else seen.__cause__
    return error
