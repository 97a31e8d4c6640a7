from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zsd.planning import Batch, padding_waste, plan_batches

LENGTHS = st.lists(st.integers(1, 200), max_size=120).map(lambda values: np.array(values, dtype=np.int64))


@given(lengths=LENGTHS, budget=st.integers(1, 2000), bucketed=st.booleans())
def test_every_pair_stands_in_one_batch_that_holds_it(lengths: Any, budget: int, bucketed: bool) -> None:
    buckets = (16, 40, 64, 200) if bucketed else None
    batches = plan_batches(lengths, token_budget=budget, buckets=buckets)
    seen = Counter(int(pair) for batch in batches for pair in batch.pairs)
    assert seen == Counter(range(len(lengths)))
    assert all(lengths[batch.pairs].max() <= batch.length for batch in batches)
    assert all(batch.rows * batch.length <= budget or batch.rows == 1 for batch in batches)
    assert [b.length for b in batches] == sorted((b.length for b in batches), reverse=True)
    in_order = [int(lengths[pair]) for batch in batches for pair in batch.pairs]
    assert in_order == sorted(in_order, reverse=True)
    if buckets:
        assert {batch.length for batch in batches} <= set(buckets)
        assert all(batch.rows == max(1, budget // batch.length) for batch in batches)
        assert all(len(batch.pairs) == batch.rows for batch in batches[:-1])
    else:
        assert all(len(batch.pairs) == batch.rows and batch.length % 8 == 0 for batch in batches)


@given(lengths=LENGTHS, budget=st.integers(1, 2000), bucketed=st.booleans(), lanes=st.integers(1, 5))
def test_a_batch_has_no_more_than_a_lanes_share(lengths: Any, budget: int, bucketed: bool, lanes: int) -> None:
    buckets = (16, 40, 64, 200) if bucketed else None
    batches = plan_batches(lengths, token_budget=budget, buckets=buckets, lanes=lanes)
    assert sorted(int(pair) for batch in batches for pair in batch.pairs) == list(range(len(lengths)))
    if bucketed:  # shapes stay what they are, however many lanes
        alone = plan_batches(lengths, token_budget=budget, buckets=buckets)
        assert [(batch.rows, batch.length) for batch in batches] == [(batch.rows, batch.length) for batch in alone]
    else:
        computed = sum(batch.rows * batch.length for batch in batches)
        assert all(batch.rows == 1 or (batch.rows * batch.length - 1) * lanes <= computed for batch in batches)


def test_one_lane_takes_all_that_the_budget_lets_it() -> None:
    (batch,) = plan_batches(np.array([512, 8, 8, 8]), token_budget=65536)
    assert (batch.rows, batch.length) == (4, 512)


def test_no_length_makes_no_batch() -> None:
    assert plan_batches(np.array([], dtype=np.int64), token_budget=64) == []


def test_rounding_up_stops_at_the_models_own_limit() -> None:
    (batch,) = plan_batches(np.array([57, 61]), token_budget=1000, max_length=61)
    assert batch.length == 61


def test_a_pair_longer_than_the_longest_bucket_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="65 tokens does not fit the longest bucket, 64"):
        plan_batches(np.array([3, 65]), token_budget=100, buckets=(16, 64))


def test_padding_waste_is_the_share_of_computed_tokens_that_are_not_real() -> None:
    lengths = np.array([10, 6, 4])
    batches = [
        Batch(pairs=np.array([0, 1]), rows=2, length=12),
        Batch(pairs=np.array([2]), rows=2, length=8),
    ]
    assert padding_waste(lengths, batches) == pytest.approx(1 - 20 / 40)
    assert padding_waste(np.array([], dtype=np.int64), []) == 0.0
