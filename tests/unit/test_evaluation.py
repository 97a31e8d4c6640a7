from __future__ import annotations

import json
import warnings
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zsd.errors import InputError
from zsd.evaluation import agreement, calibration, classification_metrics, kl_divergence, parse_gold

# Legend: N rows, K labels.

NAMES = ["world", "sports", "business"]


def random_probs(seed: int, n: int, k: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).dirichlet(np.ones(k), size=n).astype(np.float32)


def quietly(*args: Any) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics = classification_metrics(*args)
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    return metrics


def test_the_figures_of_a_small_example_worked_by_hand() -> None:
    gold_N = np.array([0, 0, 1, 2])
    probs_NK = np.array([[0.9, 0.05, 0.05], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.1, 0.3, 0.6]], dtype=np.float32)
    metrics = quietly(gold_N, probs_NK, NAMES)
    assert metrics["rows"] == 4
    assert metrics["accuracy"] == 0.75
    assert metrics["confusion"] == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert metrics["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert metrics["per_class"]["world"] == {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "support": 2}
    # Four rows alone in their bins: |1 - 0.9|, |0 - 0.7|, |1 - 0.8|, |1 - 0.6|.
    assert metrics["expected_calibration_error"] == pytest.approx((0.1 + 0.7 + 0.2 + 0.4) / 4, abs=1e-6)


def test_a_class_that_never_occurs_neither_crashes_nor_warns_nor_lowers_macro_f1() -> None:
    gold_N = np.array([0, 1])
    probs_NK = np.eye(3, dtype=np.float32)[:2]
    metrics = quietly(gold_N, probs_NK, NAMES)
    assert metrics["macro_f1"] == 1.0
    assert metrics["per_class"]["business"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}
    gold_NK = np.array([[1, 0, 0], [1, 1, 0]])
    multi = quietly(gold_NK, gold_NK.astype(np.float32), NAMES)
    assert multi["macro_f1"] == multi["micro_f1"] == multi["subset_accuracy"] == 1.0
    assert multi["mean_average_precision"] == 1.0
    assert multi["per_class"]["business"]["average_precision"] is None
    nothing = quietly(np.zeros((2, 3), dtype=np.int64), np.zeros((2, 3), dtype=np.float32), NAMES)
    assert nothing["mean_average_precision"] is None
    assert nothing["subset_accuracy"] == 1.0


def test_classes_named_like_a_report_row_are_kept_apart() -> None:
    metrics = quietly(np.array([0, 1]), np.eye(2, dtype=np.float32), ["accuracy", "macro avg"])
    assert metrics["accuracy"] == 1.0
    assert metrics["per_class"]["accuracy"]["support"] == 1


def test_multi_label_figures_at_one_half() -> None:
    gold_NK = np.array([[1, 0], [1, 1], [0, 1]])
    probs_NK = np.array([[0.9, 0.6], [0.4, 0.7], [0.1, 0.8]], dtype=np.float32)
    metrics = quietly(gold_NK, probs_NK, NAMES[:2])
    # world: 1 hit, 1 miss; sports: 2 hits, 1 false alarm.
    assert metrics["micro_f1"] == pytest.approx(2 * 3 / (2 * 3 + 1 + 1))
    assert metrics["macro_f1"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert metrics["subset_accuracy"] == pytest.approx(1 / 3)
    assert metrics["mean_average_precision"] == 1.0


@given(seed=st.integers(0, 2**31), n=st.integers(1, 200), k=st.integers(2, 6))
@settings(max_examples=30, deadline=None)
def test_calibration_bins_hold_every_row_once_and_explain_the_error(seed: int, n: int, k: int) -> None:
    probs_NK = random_probs(seed, n, k)
    correct_N = np.random.default_rng(seed).random(n) < 0.5
    confidence_N = probs_NK.max(axis=1)
    result = calibration(confidence_N, correct_N)
    bins = result["calibration_bins"]
    assert len(bins) == 15
    assert sum(b["count"] for b in bins) == n
    full = [b for b in bins if b["count"]]
    assert all(b["lower"] - 1e-6 <= b["confidence"] <= b["upper"] + 1e-6 for b in full)
    error = sum(b["count"] * abs(b["accuracy"] - b["confidence"]) for b in full) / n
    assert result["expected_calibration_error"] == pytest.approx(error)


def test_a_model_that_is_right_as_often_as_it_says_has_no_calibration_error() -> None:
    sure = calibration(np.ones(5, dtype=np.float32), np.ones(5, dtype=np.bool_))
    assert sure["expected_calibration_error"] == 0.0
    half = calibration(np.full(10, 0.5, dtype=np.float32), np.arange(10) % 2 == 0)
    assert half["expected_calibration_error"] == 0.0
    zero = calibration(np.zeros(4, dtype=np.float32), np.zeros(4, dtype=np.bool_))
    assert zero["expected_calibration_error"] == 0.0
    assert zero["calibration_bins"][0]["count"] == 4


@given(seed=st.integers(0, 2**31), n=st.integers(1, 20), k=st.integers(2, 6), multi_label=st.booleans())
@settings(max_examples=40, deadline=None)
def test_kl_is_zero_between_equals_and_positive_otherwise(seed: int, n: int, k: int, multi_label: bool) -> None:
    p_NK, q_NK = random_probs(seed, n, k), random_probs(seed + 1, n, k)
    assert kl_divergence(p_NK, p_NK, multi_label=multi_label) == pytest.approx(0.0, abs=1e-9)
    assert kl_divergence(p_NK, q_NK, multi_label=multi_label) > 0.0
    assert agreement(p_NK, p_NK, multi_label=multi_label) == 1.0


def test_kl_in_nats_and_finite_where_the_student_says_never() -> None:
    p_NK = np.array([[1.0, 0.0]], dtype=np.float32)
    assert kl_divergence(p_NK, np.array([[0.5, 0.5]], dtype=np.float32)) == pytest.approx(np.log(2))
    assert kl_divergence(p_NK, p_NK, multi_label=True) == 0.0
    assert 10.0 < kl_divergence(p_NK, p_NK[:, ::-1]) < 20.0


def test_agreement_counts_top_1_or_single_decisions() -> None:
    a_NK = np.array([[0.9, 0.6], [0.2, 0.1]], dtype=np.float32)
    b_NK = np.array([[0.8, 0.4], [0.1, 0.3]], dtype=np.float32)
    assert agreement(a_NK, b_NK) == 0.5
    assert agreement(a_NK, b_NK, multi_label=True) == 0.75


def test_gold_labels_by_name_by_index_and_from_an_arrow_column() -> None:
    assert parse_gold(["sports", "world"], NAMES, multi_label=False).tolist() == [1, 0]
    assert parse_gold([1, np.int64(0)], NAMES, multi_label=False).tolist() == [1, 0]
    column = pa.chunked_array([["business"], ["world"]])
    assert parse_gold(column, NAMES, multi_label=False).tolist() == [2, 0]
    lists = pa.array([["sports", "world"], [], ["business"]])
    assert parse_gold(lists, NAMES, multi_label=True).tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]


def test_integers_are_names_where_the_class_names_are_integers() -> None:
    stars = ["1", "2", "3", "4", "5"]
    assert parse_gold([1, 5], stars, multi_label=False).tolist() == [0, 4]
    with pytest.raises(InputError, match="gold label 0 in row 0"):
        parse_gold([0], stars, multi_label=False)


@pytest.mark.parametrize(
    ("values", "multi_label", "message"),
    [
        (["world", "Sports"], False, r"'Sports' in row 1 is none of the classes: 'world', 'sports', 'business'"),
        (["world", None], False, "row 1 is missing"),
        ([0, 3], False, "gold label 3 in row 1"),
        ([-1], False, "gold label -1 in row 0"),
        ([True], False, "gold label True in row 0"),
        ([1.0], False, r"gold label 1\.0 in row 0"),
        ([["world"]], False, r"gold label \['world'\] in row 0"),
        (["world"], True, "'world' in row 0 is not a list"),
        ([["world"], None], True, "None in row 1 is not a list"),
        ([["world", None]], True, "row 0 is missing"),
        ([[0, 1, 1]], True, "names a class twice"),
    ],
)
def test_bad_gold_labels_are_refused_by_value_and_row(values: list[Any], multi_label: bool, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        parse_gold(values, NAMES, multi_label=multi_label)
    assert "\n" not in str(caught.value)
