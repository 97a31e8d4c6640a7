from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.families import tiny_teacher


@pytest.fixture(scope="session")
def teacher_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Path of a tiny NLI checkpoint of a family, made once a session."""
    made: dict[str, Path] = {}

    def make(family: str = "bert") -> str:
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
