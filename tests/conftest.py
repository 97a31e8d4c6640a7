"""What all tests share: the caches of a session, and how the tests are shared out among processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from zsd.machine import available_cpus

if TYPE_CHECKING:
    from xdist.scheduler import LoadScopeScheduling

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models: threads would only wait for each other
MOST_PROCESSES = 4
UNIT = "tests/unit/"


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """``-n auto``: some processes for whole folders of tests, this one alone for a few named files."""
    processes = min(MOST_PROCESSES, available_cpus())
    return processes if processes > 1 and any(Path(name).is_dir() for name in config.args) else 0


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """One process does all tests that start Ray, in turn and on one cluster; the others do files of unit tests."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFileAndOneForRay(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return nodeid.partition("::")[0] if nodeid.startswith(UNIT) else "ray"

    return ByFileAndOneForRay(config, log)


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
    return tmp_path_factory.mktemp("zsd-cache")


@pytest.fixture
def shared_cache(cache_for_all: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this session's own, kept from test to test: an export is made once."""
    monkeypatch.setenv("ZSD_CACHE", str(cache_for_all))
    return cache_for_all
