from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from transformers import AutoTokenizer

from zsd.assets import bundled_teacher_path
from zsd.corpus.normalize import text_ids
from zsd.shards import vectors
from zsd.soft_labels import Recipe, soft_labels
from zsd.training_data import heldout_mask, split_labels
from zsd.training_rows import (
    HELDOUT,
    TRAIN,
    TrainingRows,
    gold_table,
    side_files,
    training_table,
    write_arrow,
    write_sides,
)

# Legend: N rows, K labels.

K = 3


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(bundled_teacher_path())


def stored(texts: list[str], seed: int = 0) -> pa.Table:
    logits_NK = np.random.default_rng(seed).normal(size=(len(texts), K)).astype(np.float32)
    ids = [f"row-{seed}-{n}" for n in range(len(texts))]
    return pa.table({"id": ids, "text": texts, "entailment": vectors(logits_NK), "contradiction": vectors(-logits_NK)})


def key(text: str) -> str:
    return str(text_ids(pa.array([text], pa.large_string()))[0])


def made(rows: pa.Table, tokenizer: Any, **changes: Any) -> pa.Table:
    recipe = Recipe(method="batch", multi_label=False, temperature=2.0, prior=(0.5, 0.3, 0.2))
    asked = {"recipe": recipe, "tokenizer": tokenizer, "max_length": 24, "gold": {}, "excluded": frozenset()}
    return training_table(rows, **(asked | changes))


def labels_of(rows: TrainingRows) -> Any:
    return split_labels(np.stack([rows[n]["labels"] for n in range(len(rows))]))


def test_every_row_is_on_one_side_with_its_own_tokens_and_the_labels_of_the_recipe(
    tokenizer: Any, tmp_path: Path
) -> None:
    folder = str(tmp_path)
    parts = [stored([f"text {n} of {seed} " + "word " * (n % 40) for n in range(90)], seed) for seed in range(3)]
    for part, rows in enumerate(parts):
        write_sides(made(rows, tokenizer), folder, part, heldout_fraction=0.2)
    whole = pa.concat_tables(parts)
    held_N = heldout_mask(whole["id"].to_pylist(), 0.2)
    recipe = Recipe(method="batch", multi_label=False, temperature=2.0, prior=(0.5, 0.3, 0.2))
    entailment_NK = np.array(whole["entailment"].to_pylist(), dtype=np.float32)
    expected_NK = recipe.probs(entailment_NK, entailment_NK)
    for side, rows_N in ((TRAIN, np.flatnonzero(~held_N)), (HELDOUT, np.flatnonzero(held_N))):
        dataset = TrainingRows(folder, side_files(folder, side))
        assert len(dataset) == len(rows_N) > 0
        for n, row in enumerate(rows_N):
            ids = tokenizer(whole["text"][int(row)].as_py(), truncation=True, max_length=24)["input_ids"]
            assert dataset[n]["input_ids"].tolist() == ids
            assert dataset.lengths[n] == len(ids)
        probs_NK, weights_N, gold_N = labels_of(dataset)
        np.testing.assert_allclose(probs_NK, expected_NK[rows_N], rtol=1e-6)
        assert (weights_N == 1).all()
        assert not gold_N.any()
        assert dataset.tokens[0].dtype == np.uint16


def test_reviewed_labels_replace_the_teachers_and_test_rows_are_left_out(tokenizer: Any, tmp_path: Path) -> None:
    texts = [f"text {n}" for n in range(20)]
    gold = {key("text 3"): (0.0, 1.0, 0.0), key("text 5"): (1.0, 0.0, 0.0), key("not in the store"): (0.0, 0.0, 1.0)}
    table = made(stored(texts), tokenizer, gold=gold, excluded=frozenset({key("text 5"), key("text 7")}))
    assert len(table) == 18
    kept = [n for n in range(20) if n not in (5, 7)]
    assert table["id"].to_pylist() == [f"row-0-{n}" for n in kept]
    plain = made(stored(texts), tokenizer)["probs"].to_pylist()
    for row, n in enumerate(kept):
        assert table["gold"][row].as_py() == (n == 3)
        assert table["probs"][row].as_py() == ([0, 1, 0] if n == 3 else plain[n])
    extra = gold_table(gold, ["not in the store"], tokenizer=tokenizer, max_length=24)
    assert extra["probs"].to_pylist() == [[0, 0, 1]]
    assert extra["gold"].to_pylist() == [True]
    assert extra["id"].to_pylist() == [key("not in the store")]


def test_labels_of_a_round_stand_in_for_the_first_ones(tokenizer: Any, tmp_path: Path) -> None:
    rows, labels = str(tmp_path / "rows"), str(tmp_path / "labels")
    write_sides(made(stored([f"text {n}" for n in range(30)]), tokenizer), rows, 0, heldout_fraction=0.3)
    names = side_files(rows, TRAIN)
    n = len(TrainingRows(rows, names))
    new_NK = np.full((n, K), 1 / K, dtype=np.float32)
    keep_N = np.arange(n) % 2 == 0
    write_arrow(str(tmp_path / "labels" / names[0]), pa.table({"probs": vectors(new_NK), "keep": pa.array(keep_N)}))
    dataset = TrainingRows(rows, names, labels)
    np.testing.assert_array_equal(labels_of(dataset)[0], new_NK)
    np.testing.assert_array_equal(dataset.keep, keep_N)


def test_a_side_without_rows_is_an_empty_file(tokenizer: Any, tmp_path: Path) -> None:
    folder = str(tmp_path)
    write_sides(made(stored(["one", "two"]), tokenizer), folder, 0, heldout_fraction=1e-9)
    write_sides(made(stored(["three"], 1), tokenizer), folder, 1, heldout_fraction=1 - 1e-9)
    assert len(TrainingRows(folder, side_files(folder, TRAIN))) == 2
    assert len(TrainingRows(folder, side_files(folder, HELDOUT))) == 1
    assert len(TrainingRows(folder, [])) == 0


def test_rows_are_mapped_and_not_copied(tokenizer: Any, tmp_path: Path) -> None:
    folder = str(tmp_path)
    write_sides(made(stored([f"text {n}" for n in range(50)]), tokenizer), folder, 0, heldout_fraction=0.1)
    before = pa.total_allocated_bytes()
    dataset = TrainingRows(folder, side_files(folder, TRAIN))
    assert pa.total_allocated_bytes() == before
    assert not any(array.flags.owndata for array in (*dataset.tokens, *dataset.offsets, *dataset.probs))


def test_a_recipe_of_no_change_gives_the_labels_of_zsd_label(tokenizer: Any) -> None:
    rows = stored(["a", "b", "c"])
    plain = made(rows, tokenizer, recipe=Recipe(method="none", multi_label=False))
    logits_NK = np.array(rows["entailment"].to_pylist(), dtype=np.float32)
    expected_NK = soft_labels(logits_NK, logits_NK, multi_label=False)
    np.testing.assert_allclose(np.array(plain["probs"].to_pylist()), expected_NK, rtol=1e-6)
