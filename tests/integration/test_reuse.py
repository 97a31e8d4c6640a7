"""`zsd label --reuse`: a corpus that has grown, class names that were added."""

from pathlib import Path

import numpy as np
import pytest

from tests.integration.conftest import label_config
from zsd.distributed.label import label
from zsd.errors import OutputError
from zsd.shards import Store, matrix
from zsd.soft_labels import soft_labels
from zsd.verify import verify_store

NAMES = ("technology", "sports", "health")


@pytest.fixture(scope="module")
def first(labelled: Path, tmp_path_factory: pytest.TempPathFactory, sample_texts: list[str]) -> Path:
    """60 rows labelled with three classes."""
    folder = tmp_path_factory.mktemp("first")
    write(folder / "corpus.txt", sample_texts[:60])
    label(label_config(folder / "corpus.txt", folder / "out", labels=None, label=NAMES))
    return folder / "out"


def write(file: Path, texts: list[str]) -> None:
    file.write_text("\n".join(texts) + "\n", encoding="utf-8")


def run(tmp_path: Path, texts: list[str], reuse: Path, names: tuple[str, ...], **options: object) -> dict[str, object]:
    write(tmp_path / "corpus.txt", texts)
    config = label_config(
        tmp_path / "corpus.txt", tmp_path / "out", labels=None, label=names, reuse=(str(reuse),), **options
    )
    manifest: dict[str, object] = label(config)
    assert verify_store(str(tmp_path / "out")).problems == []
    assert label(config) == manifest, "a finished job was not left alone"
    return manifest


def same(one: Path, other: Path, columns: list[int], rows: int, *, atol: float = 0.0) -> None:
    """These columns of the first store hold what those of the second do, on the rows that both have."""
    names = ("entailment", "contradiction")
    tables = [Store(str(store)).read(["id", *names]) for store in (one, other)]
    mine, theirs = ({row["id"]: row for row in table.to_pylist()} for table in tables)
    shared = sorted(mine.keys() & theirs.keys())
    assert len(shared) == rows
    for name in names:
        got, expected = (np.array([side[one][name] for one in shared]) for side in (mine, theirs))
        np.testing.assert_allclose(got[:, columns], expected, rtol=0, atol=atol)


def test_only_new_rows_are_run_however_the_corpus_is_ordered(
    first: Path, tmp_path: Path, sample_texts: list[str]
) -> None:
    manifest = run(tmp_path, [*reversed(sample_texts[:62]), "x"], first, NAMES, unit_rows=16)
    assert (manifest["rows"], manifest["pairs"]) == (63, 3 * 3)
    assert manifest["reused"] == {"rows": 60, "partly": 0}
    same(tmp_path / "out", first, [0, 1, 2], 60)


def test_of_a_class_that_is_added_only_its_own_column_is_run(
    first: Path, labelled: Path, tmp_path: Path, sample_texts: list[str]
) -> None:
    names = ("travel", "health", "technology", "sports")
    manifest = run(tmp_path, sample_texts[:60], first, names)
    assert (manifest["rows"], manifest["pairs"]) == (60, 60)
    assert manifest["reused"] == {"rows": 0, "partly": 60}
    same(tmp_path / "out", first, [2, 3, 1], 60)
    same(tmp_path / "out", labelled, [2, 3, 1, 0], 60, atol=1e-4)
    rows = Store(str(tmp_path / "out")).read(["probs", "entailment", "contradiction"])
    expected_NK = soft_labels(matrix(rows["entailment"]), matrix(rows["contradiction"]), multi_label=False)
    np.testing.assert_allclose(matrix(rows["probs"]), expected_NK, atol=1e-6)


def test_another_template_is_another_question(first: Path, tmp_path: Path, sample_texts: list[str]) -> None:
    with pytest.raises(OutputError, match=r"template was 'This text is about \{\}.', now 'About \{\}.': leave it away"):
        run(tmp_path, sample_texts[:20], first, NAMES, template=("About {}.",))
    manifest = run(tmp_path, sample_texts[:20], first, NAMES, template=("About {}.",), reuse_other="recompute")
    assert manifest["pairs"] == 60


def test_of_a_template_that_is_added_only_its_own_pairs_are_run(
    first: Path, tmp_path: Path, sample_texts: list[str]
) -> None:
    both = ("About {}.", "This text is about {}.")
    (tmp_path / "two").mkdir()
    manifest = run(tmp_path / "two", sample_texts[:61], first, NAMES, template=both)
    assert (manifest["rows"], manifest["pairs"]) == (61, 60 * 3 + 6)
    assert manifest["reused"] == {"rows": 0, "partly": 60}
    rows = Store(str(tmp_path / "two" / "out")).read(["id", "entailment", "entailment_by_template"]).sort_by("id")
    each_NTK = matrix(rows["entailment_by_template"]).reshape(61, 2, 3)
    np.testing.assert_allclose(matrix(rows["entailment"]), each_NTK.mean(axis=1), atol=1e-6)
    known = {row["id"]: row["entailment"] for row in Store(str(first)).read(["id", "entailment"]).to_pylist()}
    for one, logits_TK in zip(rows["id"].to_pylist(), each_NTK, strict=True):
        if one in known:
            np.testing.assert_array_equal(logits_TK[1], np.array(known[one], np.float32))

    (tmp_path / "one").mkdir()
    manifest = run(tmp_path / "one", sample_texts[:61], tmp_path / "two" / "out", NAMES, template=both[:1])
    assert (manifest["pairs"], manifest["reused"]) == (0, {"rows": 61, "partly": 0})
    left = Store(str(tmp_path / "one" / "out")).read(["id", "entailment"]).sort_by("id")
    np.testing.assert_array_equal(matrix(left["entailment"]), each_NTK[:, 0])
