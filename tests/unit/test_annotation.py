from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zsd.annotation import (
    Plan,
    Sample,
    make_plan,
    next_trained,
    outlook,
    proof_rows,
    sample_mask,
)
from zsd.deferral import Corpus, most_differing
from zsd.errors import ConfigError

# Legend: N rows, K labels.

IDS = [f"row-{n}" for n in range(20_000)]


def plan(corpus_rows: int, judging_rows: int | None = None, first_rows: int | None = None) -> Plan:
    return make_plan(corpus_rows, min_agreement=0.97, alpha=0.1, judging_rows=judging_rows, first_rows=first_rows)


def sample(made: Plan, trained: int, share: float) -> Sample:
    """A sample whose student defers this share, without a shortlist."""
    rows = made.heldout_rows + trained
    return Sample(rows=rows, trained=trained, deferred=share, cost=share, shortlist=None, agreement=0.9)


def test_a_larger_sample_holds_the_smaller_and_is_as_large_as_asked() -> None:
    small_N, large_N = sample_mask(IDS, 0.02), sample_mask(IDS, 0.3)
    assert not (small_N & ~large_N).any()
    assert small_N.sum() == pytest.approx(0.02 * len(IDS), rel=0.2)
    assert large_N.sum() == pytest.approx(0.3 * len(IDS), rel=0.05)
    assert sample_mask(IDS, 1.0).all()
    assert not sample_mask(IDS, 0.0).any()


@given(corpus_rows=st.integers(1_000, 10_000_000))
@settings(max_examples=20, deadline=None)
def test_a_plan_fits_into_the_corpus_and_can_prove_something(corpus_rows: int) -> None:
    made = plan(corpus_rows)
    assert made.heldout_rows + made.first <= corpus_rows
    assert 0 < made.proof < made.heldout < 0.5
    risks = [made.risk(rows) for rows in (0, made.heldout_rows, corpus_rows // 2, corpus_rows)]
    assert 0 < risks[0] < 0.03
    assert risks == sorted(risks)
    assert risks[-1] > 0.99
    corpus = Corpus(rows=corpus_rows, known=0)
    most = most_differing(round(made.proof * corpus_rows), 0.97, 0.1, corpus)
    assert most == round(risks[0] * made.proof * corpus_rows)


def test_a_larger_corpus_is_proven_on_more_rows_of_it_but_a_smaller_part() -> None:
    sizes = [proof_rows(rows, min_agreement=0.97, alpha=0.1) for rows in (10_000, 100_000, 1_000_000)]
    assert sizes == sorted(sizes)
    shares = [rows / whole for rows, whole in zip(sizes, (10_000, 100_000, 1_000_000), strict=True)]
    assert shares == sorted(shares, reverse=True)


def test_what_cannot_save_or_prove_anything_is_refused() -> None:
    with pytest.raises(ConfigError, match="too small to sample"):
        plan(500)
    with pytest.raises(ConfigError, match="give 76 or more"):
        plan(50_000, judging_rows=75)
    assert plan(50_000, judging_rows=76).risk(0) == 0.0


@given(
    corpus_rows=st.integers(2_000, 1_000_000),
    at_thousand=st.floats(0.02, 1.0),
    exponent=st.floats(0.05, 1.5),
    growth=st.sampled_from([1.5, 2.0, 4.0]),
)
@settings(max_examples=25, deadline=None)
def test_samples_grow_until_more_would_cost_more(
    corpus_rows: int, at_thousand: float, exponent: float, growth: float
) -> None:
    """With deferral falling as a power of the rows, the sample that is kept is nearly the cheapest of all there are."""
    made = plan(corpus_rows)

    def taken(trained: int) -> Sample:
        share = min(1.0, at_thousand * (trained / 1000) ** -exponent)
        return sample(made, trained, share)

    samples = [taken(made.first)]
    while (trained := next_trained(samples, made, growth)) is not None:
        assert trained > samples[-1].trained
        samples.append(taken(trained))
        assert len(samples) < 40
    totals = [sample.total(made) for sample in samples]
    assert all(sample.rows <= corpus_rows for sample in samples)
    assert totals[-1] <= 1.5 * min(totals)
    cheaper = taken(min(round(samples[-1].trained * growth), corpus_rows - made.heldout_rows))
    assert totals[-1] <= max(2.0, growth) * cheaper.total(made)


def test_a_student_that_no_longer_improves_is_the_last() -> None:
    made = plan(27_861)
    first = sample(made, 529, 0.4)
    following = next_trained([first], made, 2.0)
    assert following == 1058
    second = sample(made, 1058, 0.4)
    assert next_trained([first, second], made, 2.0) is None
    perfect = sample(made, 529, 0.0)
    assert next_trained([perfect], made, 2.0) is None


def test_the_outlook_of_a_perfect_student_and_of_one_that_guesses() -> None:
    rng = np.random.default_rng(0)
    teacher_NK = rng.dirichlet(np.ones(4), size=2000).astype(np.float32)
    other_NK = rng.dirichlet(np.ones(4), size=2000).astype(np.float32)
    perfect, close, guessing = (
        outlook(student_NK, teacher_NK, multi_label=False, risk=0.02)
        for student_NK in (teacher_NK, 0.9 * teacher_NK + 0.1 * other_NK, other_NK)
    )
    assert (perfect.deferred, perfect.cost, perfect.agreement) == (0.0, 0.0, 1.0)
    assert 0.0 < close.deferred < guessing.deferred
    assert close.shortlist == 2  # the second class is the next best
    assert close.cost == pytest.approx(close.deferred / 2)
    assert guessing.shortlist is None
    assert guessing.agreement == pytest.approx(0.25, abs=0.05)
    assert guessing.cost > 0.95
    mixed = outlook(0.9 * teacher_NK + 0.1 * other_NK, teacher_NK, multi_label=False, risk=0.02, some_classes=False)
    assert (mixed.shortlist, mixed.cost) == (None, mixed.deferred)
    several = outlook(0.9 * teacher_NK + 0.1 * other_NK, teacher_NK, multi_label=True, risk=0.02)
    assert several.shortlist is None
