from __future__ import annotations

import numpy as np
import pytest

from tests.families import tiny_tokenizer
from zsd.batching import PairSet, pair_layout
from zsd.engines.trial import BoolArray, disagreement, outcome, rows_in_bins
from zsd.teachers.scoring import Scores

# Legend: N rows, B bins.


def test_a_multi_label_row_agrees_only_with_all_its_classes() -> None:
    scores = Scores(
        raw_entailment=np.array([[1.0, 1.0], [1.0, -1.0]], np.float32),
        raw_contradiction=np.zeros((2, 2), np.float32),
        pairs=4,
        tokens=0,
        padding_waste=0.0,
        truncated=0,
        windowed=0,
        windows=0,
    )
    assert outcome(scores, multi_label=True).tolist() == [[True, True], [True, False]]
    assert outcome(scores, multi_label=False).tolist() == [[True, False], [True, False]]


@pytest.mark.parametrize("windows", [False, True])
def test_a_row_is_in_the_bins_of_all_its_pairs(windows: bool) -> None:
    tokenizer = tiny_tokenizer("bert")
    texts, hypotheses = ["a goal", "shares fell " * 9, "a goal " * 90], ["It is.", "This text is about sports."]
    pairs = PairSet.build(tokenizer, pair_layout(tokenizer), texts, hypotheses, max_length=64, windows=windows)
    bins = (16, 24, 40, 64)
    inside_NB = rows_in_bins(pairs, bins)
    assert inside_NB.shape == (3, 4)
    for n in range(3):
        rows = np.repeat(pairs.rows, 2) == n
        expected = {next(b for b, longest in enumerate(bins) if length <= longest) for length in pairs.lengths[rows]}
        assert set(np.flatnonzero(inside_NB[n])) == expected


def same(rows: int, *off: int) -> BoolArray:
    return ~np.isin(np.arange(rows), off)


def test_no_bin_may_hide_behind_the_average() -> None:
    everywhere = np.ones((300, 1), dtype=bool)
    last_two = np.zeros((300, 2), dtype=bool)
    last_two[:298, 0] = last_two[298:, 1] = True
    assert disagreement(same(300, 298, 299), everywhere, (64,), least=0.99) is None
    assert "up to 64 tokens" in str(disagreement(same(300, 298, 299), last_two, (32, 64), least=0.99))
    assert disagreement(same(300, 0, 1), last_two, (32, 64), least=0.99) is None
    assert disagreement(same(300, 0, 299), last_two, (32, 64), least=0.99) is None


@pytest.mark.parametrize(("off", "least"), [(3, 0.99), (0, 1.0)])
def test_as_many_rows_may_differ_as_the_share_says_and_no_more(off: int, least: float) -> None:
    inside_NB = np.ones((300, 1), dtype=bool)
    assert disagreement(same(300, *range(off)), inside_NB, (64,), least=least) is None
    assert disagreement(same(300, *range(off + 1)), inside_NB, (64,), least=least) == "too low agreement"
