"""The gate before production: every check with its value, its bound and whether it holds. Pure functions on figures.

Candidate and production are judged on the same rows. Nothing is guessed from what was not measured: a check that has
nothing to compare with says so and lets pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

BALANCE_GATE = "class balance"
ROUNDING = 1e-9
"""What is exactly at a bound passes, though a difference of two figures is a hair off (0.8 - 0.7 > 0.1)."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a candidate must keep; None: not asked.

    Attributes:
        max_regression: most that its score may lie below production's, in [0, 1].
        min_score: least score.
        class_floor: least F1 of a class.
        max_class_drop: most that the F1 of a class may lie below production's.
        class_rows: a class with fewer rows is not judged by itself.
        max_ece: most expected calibration error.
        max_ece_rise: most that it may lie above production's.
        max_balance_drift: most population stability index of the classes of the unseen rows, see `zsd.drift`.
    """

    max_regression: float
    min_score: float | None
    class_floor: float
    max_class_drop: float
    class_rows: int
    max_ece: float | None
    max_ece_rise: float
    max_balance_drift: float


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check.

    Attributes:
        name: what was looked at.
        value: what was found; None where nothing could be measured.
        bound: what it was held against; None where nothing was asked.
        passed: whether it holds.
        told: value and bound in words.
    """

    name: str
    value: float | None
    bound: float | None
    passed: bool
    told: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the gate says of a candidate."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check holds."""
        return all(check.passed for check in self.checks)

    @property
    def reason(self) -> str:
        """What does not hold, in one line; empty where all does."""
        return "; ".join(check.told for check in self.checks if not check.passed)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "passed": self.passed,
            "reason": self.reason or None,
            "checks": [asdict(check) for check in self.checks],
        }


def score_name(metrics: dict[str, Any]) -> str:
    """The figure that speaks for a student: ``accuracy``, or ``micro_f1`` for multi-label."""
    return "accuracy" if "accuracy" in metrics else "micro_f1"


def judge(
    candidate: dict[str, Any], production: dict[str, Any] | None, drift: dict[str, Any] | None, bounds: Bounds
) -> Verdict:
    """Hold a candidate against its bounds.

    Args:
        candidate: figures of `zsd.evaluation.classification_metrics`.
        production: the same of the student in production, on the same rows; None where there is none.
        drift: of `zsd.drift.compare` with production's rows; None where there is nothing to compare with.
        bounds: what is asked.
    """
    checks = [
        *_score(candidate, production, bounds),
        *_classes(candidate, production, bounds),
        *_calibration(candidate, production, bounds),
        _balance(drift, bounds),
    ]
    return Verdict(checks=tuple(checks))


def _score(candidate: dict[str, Any], production: dict[str, Any] | None, bounds: Bounds) -> Iterator[Check]:
    name = score_name(candidate)
    score = candidate[name]
    if bounds.min_score is not None:
        told = f"{name} is {score:.4f}, at least {bounds.min_score:g} is asked (--min-score)"
        yield _check("score", score, bounds.min_score, score >= bounds.min_score, told)
    if production is None:
        yield _check("regression", None, None, True, f"{name} is {score:.4f}, nothing is in production to compare with")
        return
    loss = production[name] - score
    told = (
        f"{name} {score:.4f} is {abs(loss):.4f} {'below' if loss > 0 else 'not below'} the {production[name]:.4f} of "
        f"production, {bounds.max_regression:g} below is allowed (--max-regression)"
    )
    yield _check("regression", loss, bounds.max_regression, loss <= bounds.max_regression + ROUNDING, told)


def _classes(candidate: dict[str, Any], production: dict[str, Any] | None, bounds: Bounds) -> Iterator[Check]:
    judged = {n: row["f1"] for n, row in candidate["per_class"].items() if row["support"] >= bounds.class_rows}
    if not judged:
        yield _check(
            "class floor", None, None, True, f"no class has {bounds.class_rows} rows: none is judged by itself"
        )
        return
    worst = min(judged, key=lambda name: judged[name])
    told = f"F1 of {worst!r} is {judged[worst]:.4f}, at least {bounds.class_floor:g} is asked (--class-floor)"
    yield _check("class floor", judged[worst], bounds.class_floor, judged[worst] >= bounds.class_floor, told)
    if production is None:
        return
    drops = {name: production["per_class"][name]["f1"] - f1 for name, f1 in judged.items()}
    name = max(drops, key=lambda one: drops[one])
    told = (
        f"F1 of {name!r} fell from {production['per_class'][name]['f1']:.4f} to {judged[name]:.4f}, a drop of "
        f"{bounds.max_class_drop:g} is allowed (--max-class-drop)"
    )
    yield _check(
        "class drop", drops[name], bounds.max_class_drop, drops[name] <= bounds.max_class_drop + ROUNDING, told
    )


def _calibration(candidate: dict[str, Any], production: dict[str, Any] | None, bounds: Bounds) -> Iterator[Check]:
    key = "expected_calibration_error"
    error = candidate[key]
    if bounds.max_ece is not None:
        told = f"calibration error is {error:.4f}, at most {bounds.max_ece:g} is allowed (--max-ece)"
        yield _check("calibration", error, bounds.max_ece, error <= bounds.max_ece, told)
    if production is not None:
        rise = error - production[key]
        told = (
            f"calibration error went from {production[key]:.4f} to {error:.4f}, a rise of {bounds.max_ece_rise:g} is "
            "allowed (--max-ece-rise)"
        )
        yield _check("calibration rise", rise, bounds.max_ece_rise, rise <= bounds.max_ece_rise + ROUNDING, told)


def _balance(drift: dict[str, Any] | None, bounds: Bounds) -> Check:
    if drift is None:
        told = "class balance is not judged: nothing is in production to compare with"
        return _check(BALANCE_GATE, None, None, True, told)
    found = drift["unseen"]["classes"]
    which = f"all rows ({drift['all_unseen']})" if drift["all_unseen"] else "the rows that production has not seen"
    if found["psi"] is None:
        told = f"class balance of {which} is not judged: {found['told']}"
        return _check(BALANCE_GATE, None, None, True, told)
    allowed = max(bounds.max_balance_drift, found["chance"])
    widened = f", widened to what chance gives {found['rows']:,} rows" if allowed > bounds.max_balance_drift else ""
    told = (
        f"class balance of {which} drifted: {found['told']}, stability index {found['psi']:.3f}, {allowed:.3g} is "
        f"allowed (--max-balance-drift{widened})"
    )
    return _check(BALANCE_GATE, found["psi"], allowed, found["psi"] <= allowed, told)


def _check(name: str, value: float | None, bound: float | None, passed: bool, told: str) -> Check:
    return Check(name=name, value=value, bound=bound, passed=bool(passed), told=told)
