from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.families import LINES
from zsd.compile.nli_pairs import TokenizedPairs, cross_pairs, homogeneous_batches, read_pairs
from zsd.errors import CorpusError
from zsd.teachers.nli import load_teacher


def test_pairs_are_read_and_other_columns_left_alone(tmp_path: Path) -> None:
    table = pa.table({"label": [1, 2], "hypothesis": ["c", "d"], "premise": ["a", "b"]})
    pq.write_table(table, tmp_path / "pairs.parquet")
    assert read_pairs(tmp_path / "pairs.parquet") == [("a", "c"), ("b", "d")]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"premise": ["a"]}, "no column 'hypothesis'"),
        ({"premise": ["a"], "hypothesis": [1]}, "column 'hypothesis' must hold text"),
        ({"premise": ["a", None], "hypothesis": ["b", "c"]}, "column 'premise' must hold text"),
    ],
)
def test_bad_columns_are_named(tmp_path: Path, columns: dict[str, list[object]], message: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "pairs.parquet")
    with pytest.raises(CorpusError, match=message):
        read_pairs(tmp_path / "pairs.parquet")


def test_a_file_that_is_no_parquet_or_not_there_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "pairs.parquet").write_text("premise,hypothesis\n")
    with pytest.raises(CorpusError, match="cannot be read as parquet"):
        read_pairs(tmp_path / "pairs.parquet")
    with pytest.raises(CorpusError, match="cannot be read as parquet"):
        read_pairs(tmp_path / "nothing.parquet")


@given(st.integers(1, 20), st.integers(1, 6), st.integers(1, 150), st.integers(0, 3))
def test_crossed_pairs_are_distinct_and_use_every_row_alike(rows: int, labels: int, most: int, seed: int) -> None:
    premises, hypotheses = [f"row {n}" for n in range(rows)], [f"label {k}" for k in range(labels)]
    pairs = cross_pairs(premises, hypotheses, most=most, seed=seed)
    assert len(pairs) == len(set(pairs)) == min(most, rows * labels)
    used = Counter(premise for premise, _ in pairs)
    assert max(used.values()) - min(used.get(premise, 0) for premise in premises) <= 1
    assert pairs == cross_pairs(premises, hypotheses, most=most, seed=seed)


@given(st.lists(st.integers(1, 100), min_size=1, max_size=60), st.integers(1, 9), st.integers(1, 30))
def test_each_pass_gives_every_pair_once_in_batches_of_like_length(lengths: list[int], batch: int, count: int) -> None:
    planned = homogeneous_batches(np.array(lengths), batch=batch, batches=count, seed=1)
    a_pass = -(-len(lengths) // batch)
    assert len(planned) == count
    assert all(1 <= len(pairs) <= batch for pairs in planned)
    for start in range(0, count - a_pass + 1, a_pass):
        one_pass = np.concatenate(planned[start : start + a_pass])
        assert sorted(one_pass) == list(range(len(lengths)))
        spans = sorted((min(at), max(at)) for at in ([lengths[p] for p in pairs] for pairs in planned[start:][:a_pass]))
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))


def test_a_batch_is_what_the_tokenizer_makes_and_leaves_the_tokenizer_as_it_was(
    teacher_of: Callable[..., str],
) -> None:
    tokenizer = load_teacher(teacher_of("bert")).tokenizer
    pairs = [(line, "This text is about sports.") for line in LINES]
    built = TokenizedPairs.build(tokenizer, pairs, max_length=24)
    batch = built.batch(np.array([2, 0]), ["input_ids", "token_type_ids", "attention_mask"], max_length=24)
    expected = tokenizer(
        [LINES[2], LINES[0]],
        ["This text is about sports."] * 2,
        truncation="longest_first",
        max_length=24,
        padding="max_length",
        return_tensors="pt",
    )
    for name, tensor in batch.items():
        assert tensor.tolist() == expected[name].tolist(), name
    fresh = load_teacher(teacher_of("bert")).tokenizer
    TokenizedPairs.build(fresh, pairs, max_length=24)
    assert fresh.backend_tokenizer.truncation is None
    assert fresh.backend_tokenizer.padding is None
