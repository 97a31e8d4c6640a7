from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zsd.thresholds import choose_thresholds

# Legend: N rows, K labels.


def f1(target_N: Any, said_N: Any) -> float:
    return float(2 * (target_N & said_N).sum() / max(1, target_N.sum() + said_N.sum()))


@given(seed=st.integers(0, 2**31), rows=st.integers(1, 60), levels=st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_no_other_threshold_has_a_better_f1(seed: int, rows: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    probs_NK = (rng.integers(levels, size=(rows, 1)) / levels).astype(np.float32)
    target_NK = rng.random((rows, 1)) < 0.4
    chosen = choose_thresholds(target_NK, probs_NK)[0]
    if not target_NK.any():
        assert chosen == 0.5
        return
    best = max(f1(target_NK, probs_NK >= other) for other in probs_NK[:, 0])
    assert f1(target_NK, probs_NK >= chosen) == pytest.approx(best)


def test_each_class_has_its_own_and_a_class_that_is_never_true_keeps_one_half() -> None:
    probs_NK = np.array([[0.2, 0.9, 0.6], [0.1, 0.8, 0.7], [0.05, 0.1, 0.2]], dtype=np.float32)
    target_NK = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=bool)
    np.testing.assert_allclose(choose_thresholds(target_NK, probs_NK), [0.075, 0.85, 0.5])


def test_a_class_that_one_half_decides_best_keeps_it() -> None:
    probs_NK = np.array([[0.9], [0.8], [0.3], [0.1]], dtype=np.float32)
    assert choose_thresholds(np.array([[1], [1], [0], [0]], dtype=bool), probs_NK).tolist() == [0.5]
