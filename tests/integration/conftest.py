"""A real Ray cluster for the integration tests of a process: 4 logical CPUs and 2 GPUs on whatever machine this is."""

import contextlib
import os
import random
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pyarrow.csv as pacsv
import pytest
import ray

from tests.s3_server import credentials
from zsd.assets import sample_path
from zsd.config import DistillConfig, LabelConfig
from zsd.distributed.cluster import LOGICAL_GPUS, connect
from zsd.distributed.label import label
from zsd.distributed.train import distill

SIX_UNITS = {"limit": 96, "unit_rows": 16, "cpus_per_actor": 1}


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    os.environ[LOGICAL_GPUS] = "1"
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.update(credentials())  # of the S3 server of the tests: actors have the environment of their node
    ray.init("local", num_cpus=4, num_gpus=2, include_dashboard=False, log_to_driver=False)
    connect(None)  # must find the cluster there and leave it alone
    yield
    ray.shutdown()
    del os.environ[LOGICAL_GPUS]


@pytest.fixture(scope="session")
def sample_texts() -> list[str]:
    return sample_path("corpus.txt").read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="session")
def gold_rows() -> dict[str, str]:
    table = pacsv.read_csv(sample_path("test.csv"))
    return dict(zip(table["text"].to_pylist(), table["label"].to_pylist(), strict=True))


@pytest.fixture(scope="session")
def labelled(cluster: None, tmp_path_factory: pytest.TempPathFactory, sample_texts: list[str]) -> Path:
    """A finished label job on 160 sample texts, with the bundled teacher."""
    folder = tmp_path_factory.mktemp("labelled")
    corpus = folder / "corpus.txt"
    corpus.write_text("\n".join(sample_texts[:160]) + "\n", encoding="utf-8")
    label(label_config(corpus, folder / "out"))
    return folder / "out"


@pytest.fixture(scope="session")
def unit_by_unit(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished label job of six small units, that nothing has disturbed."""
    output = tmp_path_factory.mktemp("unit-by-unit") / "out"
    label(label_config(sample_path("corpus.txt"), output, **SIX_UNITS))
    return output


@pytest.fixture(scope="session")
def distilled(labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished distill job on those."""
    output = tmp_path_factory.mktemp("distilled") / "out"
    distill(DistillConfig(soft_labels=str(labelled), output=str(output)), {"max_steps": 40})
    return output


def label_config(corpus: Path, output: Path, **changes: object) -> LabelConfig:
    """`zsd label` with the bundled teacher in fp32 on one CPU actor of two threads, and any changes."""
    asked: dict[str, object] = {
        "data": (str(corpus),),
        "output": str(output),
        "labels": str(sample_path("labels.txt")),
        "engine": "torch",
        "cpu_actors": 1,
        "gpu_actors": 0,
        "cpus_per_actor": 2,
    }
    return LabelConfig(**(asked | changes))  # type: ignore[arg-type]


def kill_job(driver: subprocess.Popen[bytes]) -> None:
    """Kill a driver that leads a session, and wait for its cluster: an actor may finish what it has before it dies."""
    below = psutil.Process(driver.pid).children(recursive=True)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    _, alive = psutil.wait_procs(below, timeout=240)
    assert not alive


def free_port() -> int:
    """A port that nobody listens on, and which the system gives to nobody who asks for any."""
    dice = random.SystemRandom()
    while True:
        port = dice.randrange(20_000, 32_000)  # Ray's workers have those below, connections those above
        with contextlib.suppress(OSError), socket.socket() as free:
            free.bind(("127.0.0.1", port))
            return port
