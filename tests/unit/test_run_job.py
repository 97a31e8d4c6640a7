"""What `zsd run` hands to its three jobs, which are stood in for here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from zsd.config import RunConfig
from zsd.distributed import run as room
from zsd.errors import InputError


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


@pytest.mark.parametrize("option", ["test", "gold"])
def test_a_mistake_in_gold_labels_is_found_before_anything_is_labelled(
    tmp_path: Path, asked: dict[str, Any], option: str
) -> None:
    (tmp_path / "corpus.txt").write_text("some text\n")
    (tmp_path / "gold.csv").write_text("text,label\nsome text,c\n")
    given: dict[str, Any] = {option: (str(tmp_path / "gold.csv"),)}
    config = RunConfig(data=(str(tmp_path / "corpus.txt"),), label=("a", "b"), output=str(tmp_path / "out"), **given)
    with pytest.raises(InputError, match=r"gold\.csv: "):
        room.run(config, {})
    (tmp_path / "gold.csv").write_text("body,label\nsome text,a\n")
    flag = {"test": "--text-column", "gold": "--gold-text-column"}[option]
    with pytest.raises(InputError, match=f"name it with {flag}$"):
        room.run(config, {})
    assert asked == {}
