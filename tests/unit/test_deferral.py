from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zsd.confidence import differs
from zsd.deferral import (
    NEVER,
    Corpus,
    Deferral,
    agreement_bound,
    deferred,
    fit_deferral,
    missed,
    most_differing,
    shortlisted,
)

# Legend: N rows, K labels.

Probs = np.ndarray[Any, np.dtype[np.float32]]


def dirichlet(seed: int, rows: int, labels: int = 4) -> Probs:
    return np.random.default_rng(seed).dirichlet(np.ones(labels), size=rows).astype(np.float32)


def pair(confidence_N: Any, wrong_N: Any) -> tuple[Probs, Probs]:
    """A student of these confidences, and a teacher that differs from it on these rows; K = 2."""
    sure_N = np.asarray(confidence_N, dtype=np.float32)
    student_NK = np.stack([sure_N, 1 - sure_N], axis=1)
    first_N = ~np.asarray(wrong_N, dtype=bool)
    return student_NK, np.stack([first_N, ~first_N], axis=1).astype(np.float32)


def fit(student_NK: Probs, teacher_NK: Probs, **changes: Any) -> Deferral:
    asked = {"multi_label": False, "min_agreement": 0.97, "alpha": 0.1} | changes
    return fit_deferral(student_NK, teacher_NK, **asked)


def test_of_a_student_that_is_its_teacher_nothing_is_deferred() -> None:
    probs_NK = dirichlet(0, 200)
    result = fit(probs_NK, probs_NK)
    assert result.heldout_deferred == 0.0
    assert not deferred(dirichlet(1, 500), result.threshold, multi_label=False).any()
    assert result.agreement_bound == pytest.approx(0.1 ** (1 / 200))
    assert result.student_agreement == result.heldout_agreement == 1.0


def test_of_a_student_that_guesses_all_but_the_share_that_may_differ_is_deferred() -> None:
    guessing = fit(dirichlet(0, 500), dirichlet(1, 500))
    assert guessing.heldout_deferred > 1 - 0.03 / 0.6  # of four classes it misses three
    wrong = fit(*pair(np.linspace(0.6, 1.0, 500), np.ones(500)), min_agreement=0.999)
    assert wrong.threshold == NEVER
    assert deferred(np.eye(4, dtype=np.float32), wrong.threshold, multi_label=False).all()
    assert (wrong.heldout_deferred, wrong.heldout_agreement, wrong.agreement_bound) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("rows", [0, 1, 75])
def test_too_few_rows_prove_nothing_even_where_all_agree(rows: int) -> None:
    probs_NK = dirichlet(0, rows)
    assert fit(probs_NK, probs_NK).threshold == NEVER
    assert fit(dirichlet(0, 76), dirichlet(0, 76)).threshold == 0.0  # 0.97 ** 76 < 0.1


def test_an_agreement_of_one_is_never_shown_by_a_sample() -> None:
    probs_NK = dirichlet(0, 1000)
    assert fit(probs_NK, probs_NK, min_agreement=1.0).threshold == NEVER


def test_rows_of_one_confidence_are_answered_together_or_not_at_all() -> None:
    sure_N = np.repeat([0.9, 0.8], 200)
    wrong_N = np.arange(400) >= 380  # the last 20 of those at 0.8
    result = fit(*pair(sure_N, wrong_N))
    assert result.threshold == pytest.approx(0.9)
    assert result.heldout_deferred == 0.5
    assert result.heldout_agreement == 1.0


@pytest.mark.parametrize(("rows", "differing"), [(100, 0), (300, 4), (2000, 50), (5, 5), (1, 0)])
def test_the_bound_is_where_so_few_differing_rows_become_unlikely(rows: int, differing: int) -> None:
    bound = agreement_bound(rows, differing, 0.1)
    draws = np.random.default_rng(0).binomial(rows, 1 - bound, size=200_000)
    assert (draws <= differing).mean() == pytest.approx(0.1 if bound else 1.0, abs=0.005)


@given(rows=st.integers(0, 120), min_agreement=st.floats(0.5, 1.0), alpha=st.floats(0.01, 0.5))
@settings(max_examples=30, deadline=None)
def test_the_most_differing_rows_are_the_last_whose_bound_holds(rows: int, min_agreement: float, alpha: float) -> None:
    holds = [e for e in range(rows) if agreement_bound(rows, e, alpha) >= min_agreement + 1e-9]
    most = most_differing(rows, min_agreement, alpha)
    assert most >= max(holds, default=-1)
    assert most < 0 or agreement_bound(rows, most, alpha) >= min_agreement - 1e-9


def test_the_promise_is_kept_as_often_as_it_says() -> None:
    """Rows of sureness c ~ U(0, 1) are wrong with probability (1 - c) / 2: answering from t on risks (1 - t)^2 / 4."""
    alpha, min_agreement, rows, broken, answered = 0.1, 0.95, 400, 0, []
    seeds = 800
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        sure_N = rng.random(rows)
        student_NK, teacher_NK = pair(0.5 + sure_N / 2, rng.random(rows) < (1 - sure_N) / 2)
        threshold = fit(student_NK, teacher_NK, min_agreement=min_agreement, alpha=alpha).threshold
        share = np.clip(1 - (threshold - 0.5) * 2, 0, 1)
        broken += share**2 / 4 > 1 - min_agreement
        answered.append(share)
    assert broken / seeds <= alpha + 2 * np.sqrt(alpha * (1 - alpha) / seeds)
    assert broken / seeds > alpha / 4  # and is not bought by deferring far more than it takes:
    assert np.mean(answered) > 0.8 * np.sqrt(4 * (1 - min_agreement))


@pytest.mark.parametrize(("rows", "known", "proof"), [(1200, 600, 600), (1200, 1000, 400), (3000, 500, 300)])
def test_of_a_corpus_the_promise_is_kept_as_often_as_it_says(rows: int, known: int, proof: int) -> None:
    """One corpus, whose known rows are drawn anew each time: what differs among the others, of all rows."""
    alpha, min_agreement, broken, differing, seeds = 0.1, 0.95, 0, [], 600
    rng = np.random.default_rng(0)
    sure_N = rng.random(rows)
    student_NK, teacher_NK = pair(0.5 + sure_N / 2, rng.random(rows) < (1 - sure_N) / 2)
    wrong_N = differs(student_NK, teacher_NK, multi_label=False)
    asked = {"min_agreement": min_agreement, "alpha": alpha, "corpus": Corpus(rows=rows, known=known)}
    for _ in range(seeds):
        drawn = rng.permutation(rows)
        fitted = fit(student_NK[drawn[:proof]], teacher_NK[drawn[:proof]], **asked)
        answered_N = ~deferred(student_NK[drawn[known:]], fitted.threshold, multi_label=False)
        differing.append((wrong_N[drawn[known:]] & answered_N).sum() / rows)
        broken += differing[-1] > 1 - min_agreement
        assert fitted.agreement_bound >= min_agreement
    assert broken / seeds <= alpha + 2 * np.sqrt(alpha * (1 - alpha) / seeds)
    possible = min(1 - min_agreement, wrong_N.mean() * (rows - known) / rows)
    assert np.mean(differing) > 0.6 * possible


@given(
    rows=st.integers(1, 200), others=st.integers(0, 300), alpha=st.floats(0.01, 0.5), thousandths=st.integers(500, 1000)
)
@settings(max_examples=40, deadline=None)
def test_of_a_corpus_the_most_differing_rows_are_the_last_whose_bound_holds(
    rows: int, others: int, alpha: float, thousandths: int
) -> None:
    share = thousandths / 1000
    corpus = Corpus(rows=rows + others + 7, known=rows + 7)
    holds = [e for e in range(rows + 1) if agreement_bound(rows, e, alpha, corpus) >= share - 1e-9]
    assert most_differing(rows, share, alpha, corpus) == max(holds, default=-1)
    assert holds == list(range(len(holds)))


@given(seed=st.integers(0, 2**31), rows=st.integers(0, 300), noise=st.floats(0.0, 1.0))
@settings(max_examples=60, deadline=None)
def test_asking_for_more_never_defers_less(seed: int, rows: int, noise: float) -> None:
    student_NK = dirichlet(seed, rows)
    teacher_NK = (1 - noise) * student_NK + noise * dirichlet(seed + 1, rows)
    by_agreement = [fit(student_NK, teacher_NK, min_agreement=a).threshold for a in (0.5, 0.8, 0.9, 0.97, 1.0)]
    assert by_agreement == sorted(by_agreement)
    by_alpha = [fit(student_NK, teacher_NK, alpha=a).threshold for a in (0.4, 0.2, 0.1, 0.01)]
    assert by_alpha == sorted(by_alpha)


@given(seed=st.integers(0, 2**31), rows=st.integers(0, 300), multi_label=st.booleans())
@settings(max_examples=60, deadline=None)
def test_what_is_said_of_the_held_out_rows_is_so(seed: int, rows: int, multi_label: bool) -> None:
    student_NK, other_NK = dirichlet(seed, rows), dirichlet(seed + 1, rows)
    teacher_NK = 0.9 * student_NK + 0.1 * other_NK
    result = fit(student_NK, teacher_NK, multi_label=multi_label, min_agreement=0.9)
    asked_N = deferred(student_NK, result.threshold, multi_label=multi_label)
    combined_NK = np.where(asked_N[:, None], teacher_NK, student_NK)
    same_N = ~differs(combined_NK, teacher_NK, multi_label=multi_label)
    if rows:
        assert result.heldout_deferred == pytest.approx(asked_N.mean())
        assert result.heldout_agreement == pytest.approx(same_N.mean())
    assert result.agreement_bound >= 0.9 - 1e-9
    assert Deferral.from_dict(json.loads(json.dumps(result.to_dict()))) == result


def test_a_shortlist_holds_the_best_classes() -> None:
    probs_NK = np.array([[0.1, 0.6, 0.3], [0.5, 0.2, 0.3]], dtype=np.float32)
    assert shortlisted(probs_NK, 2).tolist() == [[False, True, True], [True, False, True]]
    teacher_NK = np.array([[0.9, 0.1, 0.0], [0.0, 0.1, 0.9]], dtype=np.float32)
    assert missed(probs_NK, teacher_NK, 2).tolist() == [True, False]
    assert not missed(probs_NK, teacher_NK, None).any()


@given(seed=st.integers(0, 2**31), rows=st.integers(1, 300), noise=st.floats(0.0, 0.6), size=st.integers(2, 4))
@settings(max_examples=60, deadline=None)
def test_with_a_shortlist_what_is_said_of_the_held_out_rows_is_so(
    seed: int, rows: int, noise: float, size: int
) -> None:
    student_NK = dirichlet(seed, rows)
    teacher_NK = (1 - noise) * student_NK + noise * dirichlet(seed + 1, rows)
    result = fit(student_NK, teacher_NK, min_agreement=0.9, shortlist=size)
    asked_N = deferred(student_NK, result.threshold, multi_label=False)
    asked_NK = shortlisted(student_NK, result.shortlist or 4)
    combined_NK = np.where(asked_N[:, None], np.where(asked_NK, teacher_NK, -1), student_NK)
    same_N = combined_NK.argmax(axis=1) == teacher_NK.argmax(axis=1)
    assert result.heldout_agreement == pytest.approx(same_N.mean())
    assert result.agreement_bound >= 0.9 - 1e-9
    assert result.shortlist in (size, None)
    plain = fit(student_NK, teacher_NK, min_agreement=0.9)
    assert result.threshold >= plain.threshold  # what the shortlist misses, the student may not


def test_a_shortlist_that_misses_too_much_is_given_up() -> None:
    student_NK, teacher_NK = dirichlet(0, 500), dirichlet(1, 500)
    result = fit(student_NK, teacher_NK, shortlist=2)
    assert result == fit(student_NK, teacher_NK)
    assert result.shortlist is None
