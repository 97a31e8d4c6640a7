"""What all tests share: the caches of a session, and how the tests are shared out among processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from zsd.machine import available_cpus

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models: threads would only wait for each other
MOST_PROCESSES = 4
SLOW_SECONDS = 1800
"""After which a slow test is taken for one that hangs."""

# The same examples on every run, however slow the machine is: a verdict is about the commit and nothing else.
settings.register_profile("zsd", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("zsd")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests may take longer than others before they are stopped."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_SECONDS))


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """``-n auto``: some processes for folders of tests, a file at a time; this one alone for files that are named."""
    processes = min(MOST_PROCESSES, available_cpus())
    return processes if processes > 1 and any(Path(name).is_dir() for name in config.args) else 0


@pytest.fixture(scope="session")
def teacher_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Path of a tiny NLI checkpoint of a family, made once a session."""
    made: dict[str, Path] = {}

    def make(family: str = "bert") -> str:
        from tests.families import tiny_teacher  # imports torch, which the process that shares out has no use for

        if family not in made:
            made[family] = tiny_teacher(tmp_path_factory.mktemp(family), family)
        return str(made[family])

    return make


@pytest.fixture(scope="session")
def cache_for_all(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.getbasetemp()
    return (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "zsd-cache"


@pytest.fixture
def shared_cache(cache_for_all: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this session's own, kept from test to test and shared by its processes: an export is made once."""
    monkeypatch.setenv("ZSD_CACHE", str(cache_for_all))
    return cache_for_all
