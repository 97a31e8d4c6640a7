from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zsd.selective import POINTS, risk_coverage

# Legend: N rows.


def test_a_curve_worked_by_hand() -> None:
    confidence_N = np.array([0.6, 0.9, 0.8, 0.7], dtype=np.float32)
    result = risk_coverage(confidence_N, np.array([False, True, True, False]))
    assert [point["coverage"] for point in result["points"]] == [0.25, 0.5, 0.75, 1.0]
    assert [point["accuracy"] for point in result["points"]] == pytest.approx([1, 1, 2 / 3, 1 / 2])
    assert [point["threshold"] for point in result["points"]] == pytest.approx([0.9, 0.8, 0.7, 0.6])
    assert result["area"] == pytest.approx((0 + 0 + 1 / 3 + 1 / 2) / 4)


@given(seed=st.integers(0, 2**31), rows=st.integers(1, 300), levels=st.integers(1, 50))
@settings(max_examples=50, deadline=None)
def test_a_curve_ends_at_the_accuracy_of_all_rows_and_does_not_depend_on_their_order(
    seed: int, rows: int, levels: int
) -> None:
    rng = np.random.default_rng(seed)
    sure_N, right_N = (rng.integers(levels, size=rows) / levels).astype(np.float32), rng.random(rows) < 0.7
    result = risk_coverage(sure_N, right_N)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert len(result["points"]) <= POINTS
    assert result["points"][-1]["coverage"] == 1.0
    assert result["points"][-1]["accuracy"] == pytest.approx(right_N.mean())
    for point in result["points"]:
        inside = sure_N >= np.float32(point["threshold"])
        assert point["coverage"] == pytest.approx(inside.mean())
        assert point["accuracy"] == pytest.approx(right_N[inside].mean())
    order = rng.permutation(rows)
    assert risk_coverage(sure_N[order], right_N[order])["area"] == pytest.approx(result["area"])


def test_the_area_is_least_where_the_surest_rows_are_right_and_the_error_rate_where_sureness_says_nothing() -> None:
    right_N = np.arange(1000) < 800
    falling = np.linspace(1, 0, 1000, dtype=np.float32)
    areas = [risk_coverage(sure_N, right_N)["area"] for sure_N in (falling, np.full(1000, 0.5, np.float32), -falling)]
    assert areas == sorted(areas)
    assert areas[1] == pytest.approx(0.2)
    assert areas[0] < 0.03


def test_no_rows_make_no_curve() -> None:
    assert risk_coverage(np.empty(0, np.float32), np.empty(0, bool)) == {"area": 0.0, "points": []}
