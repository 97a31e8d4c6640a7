"""What the benchmark says, in plain words: who is compared with whom, the headline, the few big numbers.

Legend: K labels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from zsd.report.text import duration, factor, fraction, number, percent

_Z_95 = 1.959964
_SUBJECTS = {
    "student": "the student",
    "teacher": "the teacher",
    "compiled": "the compiled teacher",
    "recipe": "the old recipe",
    "pipeline": "the transformers zero-shot pipeline",
}
_MILLION = 1_000_000


@dataclass(frozen=True, kw_only=True)
class BigNumber:
    """One figure of the top row: the value as text, and one line that says what it is."""

    value: str
    meaning: str


def fastest(benchmark: dict[str, Any], kind: str) -> dict[str, Any] | None:
    """The contestant of this kind with the most rows/s, None where none was measured."""
    known = [c for c in benchmark["contestants"] if c["kind"] == kind and c.get("rows_per_second")]
    return max(known, key=lambda contestant: contestant["rows_per_second"], default=None)


def hero(benchmark: dict[str, Any]) -> dict[str, Any] | None:
    """Whom the page is about: the fastest student, without one the fastest teacher, then the pipeline."""
    return fastest(benchmark, "student") or fastest(benchmark, "teacher") or fastest(benchmark, "pipeline")


def baseline(benchmark: dict[str, Any]) -> dict[str, Any] | None:
    """Against whom the speed-ups are: the contestant whose own is 1, None where there is none."""
    return next((c for c in benchmark["contestants"] if math.isclose(c.get("speedup") or 0.0, 1.0)), None)


def subject(contestant: dict[str, Any]) -> str:
    """How a sentence names a contestant."""
    return _SUBJECTS[contestant["kind"]]


def side(benchmark: dict[str, Any], name: str) -> dict[str, Any]:
    """The quality of the `teacher` or the `student`; empty where it was not measured."""
    return (benchmark.get("quality") or {}).get(name) or {}


def sides(benchmark: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Teacher and student, in this order, those that were measured."""
    return {name: side(benchmark, name) for name in ("teacher", "student") if side(benchmark, name)}


def metric(benchmark: dict[str, Any]) -> tuple[str, str]:
    """Key and name of the measure of correctness: accuracy, for multi-label micro-F1."""
    return ("micro_f1", "micro-F1") if benchmark["task"]["multi_label"] else ("accuracy", "accuracy")


def metric_text(benchmark: dict[str, Any], value: float | None) -> str:
    """Accuracy as a percentage, micro-F1 as a number between 0 and 1."""
    return fraction(value) if benchmark["task"]["multi_label"] else percent(value)


def agreement(benchmark: dict[str, Any]) -> float | None:
    """Share of rows for which student and teacher choose the same class; for multi-label of all rows and classes."""
    value: float | None = (benchmark.get("quality") or {}).get("agreement")
    return value


def wilson_interval(share: float, rows: int) -> tuple[float, float]:
    """The 95 % confidence interval of a proportion seen on `rows` rows (Wilson 1927, without continuity correction)."""
    z2 = _Z_95**2 / rows
    middle = (share + z2 / 2) / (1 + z2)
    half = _Z_95 * math.sqrt(share * (1 - share) / rows + z2 / (4 * rows)) / (1 + z2)
    return max(0.0, middle - half), min(1.0, middle + half)


def headline(benchmark: dict[str, Any]) -> str:
    """The result as one sentence."""
    best = hero(benchmark)
    if best is None:
        return "No contestant was timed: this report holds quality only."
    who = subject(best)
    sentence = f"{who[0].upper()}{who[1:]} answers {number(best['rows_per_second'])} rows/s"
    against = baseline(benchmark)
    if against is not None and against is not best and best.get("speedup"):
        sentence += f", {factor(best['speedup'])} {_versus(best, against)}"
    return sentence + _quality_clause(benchmark, best["kind"]) + "."


def caution(benchmark: dict[str, Any]) -> str | None:
    """One sentence where the student's accuracy is below its teacher's, or too close to it to tell apart.

    Of micro-F1 there is no interval: a sentence where it is below the teacher's at all.
    """
    pair = sides(benchmark)
    key, name = metric(benchmark)
    if len(pair) < 2 or any(side.get(key) is None for side in pair.values()):
        return None
    if benchmark["task"]["multi_label"]:
        own, teacher = (metric_text(benchmark, pair[who][key]) for who in ("student", "teacher"))
        below = pair["student"][key] < pair["teacher"][key] and own != teacher
        return f"The student's {name} is below its teacher's, {own} against {teacher}." if below else None
    (low_a, high_a), (low_b, high_b) = (wilson_interval(s["accuracy"], s["rows"]) for s in pair.values())
    rows = pair["student"]["rows"]
    if low_a > high_b:
        lost = 100 * (pair["teacher"]["accuracy"] - pair["student"]["accuracy"])
        return f"The student is {lost:.1f} points less accurate than its teacher on these {rows:,} rows."
    if low_b > high_a:
        return None
    return f"The 95 % intervals of the two accuracies overlap on these {rows:,} rows: the difference may be chance."


def big_numbers(benchmark: dict[str, Any]) -> list[BigNumber]:
    """Two to five figures worth remembering."""
    best = hero(benchmark)
    shown = [*(_speed_numbers(benchmark, best) if best else []), *_quality_numbers(benchmark)]
    if agreement(benchmark) is not None:
        asked = "yes-or-no answers" if benchmark["task"]["multi_label"] else "rows"
        meaning = f"agreement: {asked} on which student and teacher answer alike"
        shown.append(BigNumber(value=percent(agreement(benchmark)), meaning=meaning))
    return shown


def _versus(best: dict[str, Any], against: dict[str, Any]) -> str:
    return subject(against) if against["kind"] != best["kind"] else against["name"]


def _quality_clause(benchmark: dict[str, Any], kind: str) -> str:
    key, name = metric(benchmark)
    own, teacher = side(benchmark, kind).get(key), side(benchmark, "teacher").get(key)
    if own is not None:
        value = metric_text(benchmark, own)
        clause = f", with {name} {value}" if benchmark["task"]["multi_label"] else f", with {value} {name}"
        if kind == "student" and teacher is not None:
            clause += f" against the teacher’s {metric_text(benchmark, teacher)}"
        return clause
    if kind == "student" and agreement(benchmark) is not None:
        asked = "answers" if benchmark["task"]["multi_label"] else "rows"
        return f", and agrees with the teacher on {percent(agreement(benchmark))} of the {asked}"
    return ""


def _speed_numbers(benchmark: dict[str, Any], best: dict[str, Any]) -> list[BigNumber]:
    rate = best["rows_per_second"]
    against = baseline(benchmark)
    compared = against is not None and against is not best and bool(against.get("rows_per_second"))
    shown = [BigNumber(value=number(rate), meaning=f"rows a second by {subject(best)}")]
    million = "for a million rows at this rate"
    if compared and against is not None:
        shown.append(BigNumber(value=factor(best.get("speedup")), meaning=f"the speed of {_versus(best, against)}"))
        million += f", instead of {duration(_MILLION / against['rows_per_second'])}"
    shown.append(BigNumber(value=duration(_MILLION / rate), meaning=million))
    return shown


def _quality_numbers(benchmark: dict[str, Any]) -> list[BigNumber]:
    key, name = metric(benchmark)
    values = {who: s[key] for who, s in sides(benchmark).items() if s.get(key) is not None}
    if not values:
        return []
    who = "student" if "student" in values else "teacher"
    meaning = f"{name} of the {who}"
    if who == "student" and "teacher" in values:
        meaning += f"; the teacher has {metric_text(benchmark, values['teacher'])}"
    return [BigNumber(value=metric_text(benchmark, values[who]), meaning=meaning)]
