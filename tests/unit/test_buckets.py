from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zsd.buckets import COMPILE_TOKENS, MOST_BUCKETS, MULTIPLE, SHORTEST, IntArray, LengthSample

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=25).map(lambda values: np.array(values, dtype=np.int64))


def padded_tokens(lengths: IntArray, buckets: tuple[int, ...]) -> int:
    return int(np.array(buckets)[np.searchsorted(buckets, lengths)].sum())


@settings(max_examples=150, deadline=None)
@given(
    lengths=LENGTHS, most=st.integers(1, 4), limit=st.sampled_from([60, 61, 64]), job=st.sampled_from([None, 20, 9000])
)
def test_no_other_choice_costs_less(lengths: IntArray, most: int, limit: int, job: int | None) -> None:
    chosen = LengthSample.of(lengths, max_length=limit, job_pairs=job).buckets(most)
    longest = min(limit, max(SHORTEST, -(-int(lengths.max()) // MULTIPLE) * MULTIPLE))
    best = tuple(one for one in chosen if one <= longest)
    each = COMPILE_TOKENS * len(lengths) / job if job else 0.0
    below = range(SHORTEST, longest, MULTIPLE)
    costs = [
        padded_tokens(lengths, (*others, longest)) + each * (count + 1)
        for count in range(min(most, len(below) + 1))
        for others in itertools.combinations(below, count)
    ]
    assert len(best) <= most
    assert padded_tokens(lengths, best) + each * len(best) == pytest.approx(min(costs))


@given(lengths=LENGTHS, most=st.integers(1, 20), limit=st.integers(60, 600))
def test_every_length_the_model_takes_has_a_bucket_not_far_above_it(lengths: IntArray, most: int, limit: int) -> None:
    chosen = LengthSample.of(lengths, max_length=limit).buckets(most)
    assert chosen[-1] == limit and chosen == tuple(sorted(set(chosen)))
    assert all(one % MULTIPLE == 0 and one >= SHORTEST for one in chosen[:-1])
    longest = int(lengths.max())
    assert sum(one < longest for one in chosen) < min(most, MOST_BUCKETS)
    beyond = [one for one in chosen if one >= longest]
    assert all(after <= before * 1.5 + MULTIPLE for before, after in itertools.pairwise(beyond))


def test_the_choice_depends_on_the_lengths_alone_and_travels_to_actors() -> None:
    lengths = np.random.default_rng(0).integers(8, 300, size=2000)
    sample = LengthSample.of(lengths, max_length=512, job_pairs=100_000)
    assert LengthSample.of(np.sort(lengths), max_length=512, job_pairs=100_000) == sample
    assert pickle.loads(pickle.dumps(sample)).buckets() == sample.buckets()


def test_a_small_job_compiles_few_lengths_and_an_engine_may_want_fewer() -> None:
    lengths = np.random.default_rng(0).integers(20, 100, size=2000)
    counts = [len(LengthSample.of(lengths, max_length=100, job_pairs=job).buckets()) for job in (500, 5000, 5_000_000)]
    assert counts[0] < counts[1] < counts[2] == MOST_BUCKETS
    assert len(LengthSample.of(lengths, max_length=100).buckets(3)) == 3


@pytest.mark.parametrize(("lengths", "most"), [([], 3), ([65], 3), ([10], 0)])
def test_what_has_no_answer_is_a_mistake(lengths: list[int], most: int) -> None:
    with pytest.raises(ValueError, match=r"tokens|bucket"):
        LengthSample.of(np.array(lengths, dtype=np.int64), max_length=64).buckets(most)
