"""`zsd label --reuse`: a corpus that has grown, class names that were added."""

from pathlib import Path

import numpy as np
import pytest

from tests.integration.conftest import label_config
from zsd.distributed.label import label
from zsd.errors import OutputError
from zsd.shards import Store, matrix
from zsd.verify import verify_store

NAMES = ("technology", "sports", "health")


@pytest.fixture(scope="module")
def first(cluster: None, tmp_path_factory: pytest.TempPathFactory, sample_texts: list[str]) -> Path:
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


def same(one: Path, other: Path, columns: list[int], rows: int) -> None:
    """Both stores hold the same logits for these columns of the second, on the rows that both have."""
    tables = [Store(str(store)).read(["id", "entailment", "contradiction"]) for store in (one, other)]
    mine, theirs = ({row["id"]: row for row in table.to_pylist()} for table in tables)
    shared = sorted(mine.keys() & theirs.keys())
    assert len(shared) == rows
    for name in ("entailment", "contradiction"):
        got, expected = (np.array([side[one][name] for one in shared]) for side in (mine, theirs))
        np.testing.assert_array_equal(got[:, columns], expected)


def test_only_new_rows_are_run_however_the_corpus_is_ordered(
    first: Path, tmp_path: Path, sample_texts: list[str]
) -> None:
    manifest = run(tmp_path, [*reversed(sample_texts[:62]), "x"], first, NAMES, unit_rows=16)
    assert (manifest["rows"], manifest["pairs"]) == (63, 3 * 3)
    assert manifest["reused"] == {"rows": 60, "partly": 0}
    same(tmp_path / "out", first, [0, 1, 2], 60)


def test_of_a_class_that_is_added_only_its_own_column_is_run(
    first: Path, tmp_path: Path, sample_texts: list[str]
) -> None:
    names = ("travel", "health", "technology", "sports")
    manifest = run(tmp_path, sample_texts[:60], first, names)
    assert (manifest["rows"], manifest["pairs"]) == (60, 60)
    assert manifest["reused"] == {"rows": 0, "partly": 60}
    same(tmp_path / "out", first, [2, 3, 1], 60)
    write(tmp_path / "corpus.txt", sample_texts[:60])
    label(label_config(tmp_path / "corpus.txt", tmp_path / "fresh", labels=None, label=names))
    one, other = (Store(str(tmp_path / name)).read(["id", "probs"]).sort_by("id") for name in ("out", "fresh"))
    np.testing.assert_allclose(matrix(one["probs"]), matrix(other["probs"]), atol=1e-5)


def test_another_template_is_another_question(first: Path, tmp_path: Path, sample_texts: list[str]) -> None:
    with pytest.raises(OutputError, match=r"template was 'This text is about \{\}.', now 'About \{\}.': leave it away"):
        run(tmp_path, sample_texts[:20], first, NAMES, template="About {}.")
    manifest = run(tmp_path, sample_texts[:20], first, NAMES, template="About {}.", reuse_other="recompute")
    assert manifest["pairs"] == 60
