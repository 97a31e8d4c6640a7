"""What `zsd run` hands to its three jobs, which are stood in for here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from zsd.config import RunConfig
from zsd.distributed import run as room


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What each job was asked."""
    seen: dict[str, Any] = {}
    for name in ("label", "distill", "benchmark"):
        monkeypatch.setattr(room, name, lambda config, *_, name=name: seen.setdefault(name, config))
    return seen


def test_all_three_jobs_work_in_one_directory_that_may_be_a_file_uri(tmp_path: Path, asked: dict[str, Any]) -> None:
    room.run(RunConfig(output=(tmp_path / "out").as_uri()), {})
    output = str(tmp_path / "out")
    assert [asked[name].output for name in ("label", "distill", "benchmark")] == [output] * 3
    assert (asked["distill"].soft_labels, asked["benchmark"].model) == (output, (output,))


def test_without_a_corpus_it_is_the_bundled_example(tmp_path: Path, asked: dict[str, Any]) -> None:
    room.run(RunConfig(output=str(tmp_path / "out")), {})
    assert [Path(one).name for one in asked["label"].data] == ["corpus.txt"]
    assert asked["distill"].test == asked["benchmark"].data
    assert Path(asked["benchmark"].data[0]).name == "test.csv"
