from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from zsd.drift import compare
from zsd.evaluation import classification_metrics
from zsd.gate import Bounds, Verdict, judge

NAMES = ("a", "b", "c")
BOUNDS = {
    "max_regression": 0.02,
    "min_score": None,
    "class_floor": 0.3,
    "max_class_drop": 0.1,
    "class_rows": 5,
    "max_ece": None,
    "max_ece_rise": 0.05,
    "max_balance_drift": 0.25,
}


def metrics(wrong: int, *, confidence: float = 0.9, victims: tuple[int, ...] = (0, 1, 2)) -> dict[str, Any]:
    """Figures on 300 rows, 100 of each class, of which some of these classes get the next class."""
    gold = np.repeat(np.arange(3), 100)
    predicted = gold.copy()
    chosen = np.concatenate([np.flatnonzero(gold == k)[: wrong // len(victims)] for k in victims])
    predicted[chosen] = (gold[chosen] + 1) % 3
    probs_NK = np.full((300, 3), (1 - confidence) / 2, dtype=np.float32)
    probs_NK[np.arange(300), predicted] = confidence
    return classification_metrics(gold, probs_NK, NAMES)


def verdict(candidate: dict[str, Any], production: dict[str, Any] | None, drift: Any = None, **bounds: Any) -> Verdict:
    return judge(candidate, production, drift, Bounds(**BOUNDS | bounds))


def failed(found: Verdict) -> set[str]:
    return {check.name for check in found.checks if not check.passed}


def profile(
    classes: list[int], unseen: list[int], names: tuple[str, ...] = NAMES, all_unseen: str | None = None
) -> dict[str, Any]:
    def side(counts: list[int]) -> dict[str, Any]:
        return {"rows": sum(counts), "classes": counts, "confidence": [sum(counts)], "lengths": [sum(counts)]}

    sides = {"all": side(classes), "unseen": side(unseen)}
    return {"names": list(names), "multi_label": False, "all_unseen": all_unseen, **sides}


def test_an_equal_student_passes_every_check() -> None:
    found = verdict(metrics(30), metrics(30))
    assert found.passed
    assert found.reason == ""
    assert {check.name for check in found.checks} == {
        *("regression", "class floor", "class drop", "calibration rise", "class balance")
    }
    assert all(check.told for check in found.checks)


def test_a_loss_up_to_the_bound_passes_and_one_row_more_does_not() -> None:
    assert failed(verdict(metrics(36), metrics(30))) == set()  # 6 of 300: exactly 0.02
    found = verdict(metrics(39), metrics(30))
    assert failed(found) == {"regression"}
    assert found.reason == (
        "accuracy 0.8700 is 0.0300 below the 0.9000 of production, 0.02 below is allowed (--max-regression)"
    )
    (check,) = (check for check in found.checks if not check.passed)
    assert check.value == pytest.approx(0.03)
    assert check.bound == 0.02


def test_a_class_that_is_lost_is_refused_though_the_accuracy_is_kept() -> None:
    found = verdict(metrics(90, victims=(1,)), metrics(90), max_regression=0.05, class_floor=0.4)
    assert failed(found) >= {"class floor", "class drop"}
    assert "F1 of 'b'" in found.reason


def test_a_class_of_few_rows_is_not_judged_by_itself() -> None:
    found = verdict(metrics(90, victims=(1,)), metrics(90), class_rows=101)
    assert failed(found) == set()
    assert any("none is judged" in check.told for check in found.checks)


def test_calibration_has_a_bound_and_may_not_get_worse() -> None:
    good, bad = metrics(30), metrics(30, confidence=0.999)
    assert failed(verdict(bad, good)) == {"calibration rise"}
    assert failed(verdict(bad, None, max_ece=0.05)) == {"calibration"}
    assert failed(verdict(good, bad, max_ece=0.05)) == set()


def test_what_is_exactly_at_a_bound_passes() -> None:
    def figures(f1: float, error: float) -> dict[str, Any]:
        per_class = {"a": {"f1": f1, "support": 50}}
        return {"accuracy": 0.8, "per_class": per_class, "expected_calibration_error": error}

    assert 0.8 - 0.7 > 0.1
    assert 0.9 - 0.85 > 0.05
    assert failed(verdict(figures(0.7, 0.9), figures(0.8, 0.85))) == set()
    assert failed(verdict(figures(0.69, 0.91), figures(0.8, 0.85))) == {"class drop", "calibration rise"}


def test_the_first_night_has_nothing_to_compare_with_but_bounds_of_its_own() -> None:
    found = verdict(metrics(30), None)
    assert found.passed
    assert "nothing is in production" in found.checks[0].told
    assert failed(verdict(metrics(30), None, min_score=0.95)) == {"score"}
    assert "--min-score" in verdict(metrics(30), None, min_score=0.95).reason


def test_multi_label_students_are_judged_by_micro_f1() -> None:
    gold_NK = np.tile([[1, 0, 1], [0, 1, 1]], (50, 1))
    probs_NK = np.where(gold_NK == 1, 0.9, 0.1).astype(np.float32)
    good = classification_metrics(gold_NK, probs_NK, NAMES)
    bad = classification_metrics(gold_NK, probs_NK[:, ::-1].copy(), NAMES)
    assert verdict(good, good).passed
    assert verdict(bad, good).reason.startswith("micro_f1 ")


@pytest.mark.parametrize(
    ("unseen", "refused"),
    [
        ([33, 33, 34], False),
        ([0, 0, 100], True),
        ([0, 0, 4], False),  # chance gives that one night in a hundred
        ([0, 0, 0], False),
    ],
)
def test_unseen_rows_of_other_classes_are_refused_unless_chance_explains_them(
    unseen: list[int], *, refused: bool
) -> None:
    drift = compare(profile([1000, 1000, 1000], [0, 0, 0]), profile([1000, 1000, 1100], unseen))
    found = verdict(metrics(30), metrics(30), drift)
    assert failed(found) == ({"class balance"} if refused else set())
    if refused:
        assert "'c' went from 33.3% to 100.0% of the rows" in found.reason
        assert "--max-balance-drift" in found.reason


def test_where_the_rows_of_production_are_gone_all_rows_are_judged_and_that_is_said() -> None:
    gone = "the rows of 0001-one are gone: there is no store in /nights/one"
    for counts, passed in (([95, 95, 110], True), ([10, 10, 280], False)):
        drift = compare(profile([1000, 1000, 1000], [0, 0, 0]), profile(counts, counts, all_unseen=gone))
        (check,) = (one for one in verdict(metrics(30), metrics(30), drift).checks if one.name == "class balance")
        assert (check.passed, check.value is None) == (passed, False)
        assert check.told.startswith(f"class balance of all rows ({gone}) drifted: 'c' went from 33.3% to ")


def test_class_names_that_changed_are_said_not_to_be_comparable() -> None:
    drift = compare(profile([10, 10], [0, 0], ("a", "b")), profile([10, 10, 10], [0, 0, 10]))
    (check,) = (one for one in verdict(metrics(30), metrics(30), drift).checks if one.name == "class balance")
    assert (check.passed, check.value) == (True, None)
    assert "the class names changed" in check.told
