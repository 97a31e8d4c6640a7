"""`zsd label` from end to end without Ray: what a job needs when it is run again."""

import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from tests import here
from tests.corpora import write_corpus
from tests.faults.content import Reference
from zsd.config import LabelConfig
from zsd.distributed.label import UNIT_PAIRS, UNIT_PAIRS_LEAST, default_unit_rows, label
from zsd.errors import CorpusError, InputError
from zsd.verify import verify_store

NAMES = ("technology", "sports")


def config(corpus: Path, output: Path, **changes: Any) -> LabelConfig:
    asked: dict[str, Any] = {
        "data": (str(corpus),),
        "output": str(output),
        "label": NAMES,
        "engine": "torch",
        "unit_rows": 16,
    }
    return LabelConfig(**(asked | changes))


@pytest.fixture
def first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished store of some 200 rows."""
    write_corpus(tmp_path / "a.jsonl", 200)
    with monkeypatch.context() as patch:
        here.install(patch)
        label(config(tmp_path / "a.jsonl", tmp_path / "first"))
    return tmp_path / "first"


def test_one_per_cent_new_rows_and_one_class_more_cost_just_their_own_pairs(
    first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.install(monkeypatch)
    planted = write_corpus(tmp_path / "b.jsonl", 202)  # the same 200 rows, and two more
    grown = label(config(tmp_path / "b.jsonl", tmp_path / "grown", reuse=(str(first),)))
    assert (grown["rows"], grown["pairs"]) == (planted.distinct, 2 * 2)
    three = label(config(tmp_path / "a.jsonl", tmp_path / "three", label=(*NAMES, "health"), reuse=(str(first),)))
    assert three["pairs"] == three["rows"] == planted.distinct - 2
    label(config(tmp_path / "a.jsonl", tmp_path / "fresh", label=(*NAMES, "health")))
    assert Reference(str(tmp_path / "fresh")).differences(str(tmp_path / "three")) == []


def test_a_resumed_job_does_not_need_the_store_whose_rows_it_has_taken(
    first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_corpus(tmp_path / "b.jsonl", 400)
    asked = config(tmp_path / "b.jsonl", tmp_path / "grown", reuse=(str(first),))
    with monkeypatch.context() as patch:
        here.install(patch, killed_after=2)
        with pytest.raises(here.Killed):
            label(asked)
    shutil.rmtree(first)
    here.install(monkeypatch)
    manifest = label(asked)
    assert verify_store(asked.output).problems == []
    assert manifest["reused_from"] == [
        {"store": str(first), "engines": [{"engine": "torch", "precision": "fp32", "rows": manifest["reused"]["rows"]}]}
    ]
    assert label(asked) == manifest
    with pytest.raises(InputError, match="holds no store"):
        label(config(tmp_path / "b.jsonl", tmp_path / "another", reuse=(str(first),)))


def test_a_corpus_without_a_usable_row_that_is_put_right_is_labelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.install(monkeypatch)
    corpus = tmp_path / "a.jsonl"
    corpus.write_text('{"text": ""}\n{"text": " "}\n')
    with pytest.raises(CorpusError, match=r"a\.jsonl: none of the 2 rows can be used"):
        label(config(corpus, tmp_path / "out"))
    assert [one.name for one in (tmp_path / "out").iterdir()] == ["job-label.json"]
    planted = write_corpus(corpus, 20)
    assert label(config(corpus, tmp_path / "out", label=(*NAMES, "health")))["rows"] == planted.distinct


@pytest.mark.parametrize(
    ("layers", "hidden", "hypotheses", "rows"),
    [
        (6, 384, 4, 256),
        (2, 16, 4, 256),
        (6, 768, 4, 64),
        (24, 1024, 4, 16),
        (12, 384, 4, 128),
        (6, 384, 150, 6),
        (24, 1024, 150, 1),
    ],
)
def test_a_larger_teacher_and_more_labels_make_smaller_pieces(
    layers: int, hidden: int, hypotheses: int, rows: int
) -> None:
    config = AutoConfig.for_model("bert", num_hidden_layers=layers, hidden_size=hidden)
    assert default_unit_rows(config, hypotheses) == rows


def test_the_help_names_the_pairs_of_a_piece() -> None:
    (told,) = (one.metadata["help"] for one in fields(LabelConfig) if one.name == "unit_rows")
    assert f"{UNIT_PAIRS:,} pairs of zsd label" in told
    assert f"{UNIT_PAIRS_LEAST} at least" in told
