from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zsd.inference import FloatArray
from zsd.row_weights import MOST_COPIES, class_copies, loss_weights, plan_epoch

# Legend: N rows, K labels.

PROBS_NK = np.array([[0.9, 0.1, 0.0], [0.5, 0.4, 0.1], [0.34, 0.33, 0.33]], dtype=np.float32)


def test_the_surer_the_teacher_the_more_a_row_weighs() -> None:
    np.testing.assert_allclose(loss_weights(PROBS_NK, "confidence", multi_label=False), [0.9, 0.5, 0.34], rtol=1e-6)
    np.testing.assert_allclose(loss_weights(PROBS_NK, "margin", multi_label=False), [0.8, 0.1, 0.01], rtol=1e-4)
    assert (loss_weights(PROBS_NK, "none", multi_label=False) == 1).all()
    yes_no_NK = np.array([[1.0, 0.0], [0.5, 0.5]], dtype=np.float32)
    np.testing.assert_allclose(loss_weights(yes_no_NK, "confidence", multi_label=True), [1.0, 0.5])
    np.testing.assert_allclose(loss_weights(yes_no_NK, "margin", multi_label=True), [1.0, 0.01])


@given(seed=st.integers(0, 99), labels=st.integers(2, 6))
@settings(max_examples=40, deadline=None)
def test_full_balance_makes_classes_come_equally_often(seed: int, labels: int) -> None:
    generator = np.random.default_rng(seed)
    classes_N = generator.choice(labels, size=500, p=generator.dirichlet(np.full(labels, 3.0)))
    copies_N = class_copies(classes_N, labels, 1.0)
    assert copies_N.mean() == pytest.approx(1, rel=1e-4)
    counts_K = np.bincount(classes_N, minlength=labels)
    common = (counts_K > 0) & (500 / (labels * np.maximum(counts_K, 1)) < MOST_COPIES)
    drawn_K = np.bincount(classes_N, weights=copies_N, minlength=labels)[common]
    np.testing.assert_allclose(drawn_K, drawn_K[0], rtol=1e-3)
    np.testing.assert_array_equal(class_copies(classes_N, labels, 0.0), 1)


def plan(**changes: object) -> tuple[FloatArray, FloatArray | None]:
    asked: dict[str, object] = {
        "keep_N": np.ones(3, dtype=np.bool_),
        "gold_N": np.zeros(3, dtype=np.bool_),
        "weight": "none",
        "balance": 0.0,
        "gold_weight": 5.0,
        "multi_label": False,
    }
    return plan_epoch([PROBS_NK[:1], PROBS_NK[1:]], **(asked | changes))  # type: ignore[arg-type]


def test_where_nothing_is_asked_for_every_row_comes_once() -> None:
    weights_N, copies_N = plan()
    assert (weights_N == 1).all()
    assert copies_N is None


def test_reviewed_rows_come_more_often_and_dropped_ones_never() -> None:
    weights_N, copies_N = plan(
        gold_N=np.array([False, True, False]), keep_N=np.array([True, True, False]), weight="confidence"
    )
    assert copies_N is not None
    assert copies_N.tolist() == [1, 5, 0]
    assert np.average(weights_N, weights=copies_N) == pytest.approx(1)
    assert weights_N[0] > weights_N[1] > weights_N[2]


def test_classes_are_balanced_among_the_rows_that_are_kept() -> None:
    _, copies_N = plan(balance=1.0, keep_N=np.array([True, True, False]))
    assert copies_N is not None
    assert copies_N[2] == 0
    assert copies_N[:2].mean() == pytest.approx(1)
