"""All contestants on the same rows in one run, in turn, medians; then as many rows as each can do, for the quality.

Legend: N rows, K labels.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from zsd.benchmark.contestants import LEAST_SECONDS, Contestant
from zsd.benchmark.flops import SequenceCost
from zsd.benchmark.peak import Peak
from zsd.benchmark.race import Entry, Race, is_reference, is_sure_student
from zsd.benchmark.rows import figures
from zsd.benchmark.workload import sequence_lengths
from zsd.buckets import LengthSample
from zsd.console import say
from zsd.errors import EngineError
from zsd.teachers.nli import load_teacher

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

WARM_UP_ROUNDS = 2
"""How many rounds' time the warm-up may take: in it engines of fixed shapes compile each shape they meet."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What `measure` found.

    Attributes:
        contestants: the ``contestants`` part of benchmark.json: see `zsd.benchmark.rows.figures`.
        left_out: ``name`` and ``reason`` of everyone who could not take part to the end.
        peak: operations per second of the matrix product, by precision, median of the rounds.
        teacher: [N, K] probabilities of the fp32 teacher on all rows.
        student: [N, K] probabilities of the fastest student on all rows.
        mean_tokens: of a pair.
    """

    contestants: list[dict[str, Any]]
    left_out: list[dict[str, str]]
    peak: dict[str, float]
    teacher: FloatArray
    student: FloatArray
    mean_tokens: float


def measure(
    contestants: Sequence[Contestant],
    texts: Sequence[str],
    gold: IntArray | None,
    *,
    speed_rows: int,
    rounds: int,
    round_seconds: float,
) -> Result:
    """Time every contestant in turn, round after round, then let each classify what rows it can.

    A contestant that cannot run here, or dies, is left out with a line that says why. One that does not finish its
    rows in a round's time is timed on those that it did.

    Args:
        contestants: from `line_up`.
        texts: N texts.
        gold: their gold labels, or None.
        speed_rows: rows of one timed run: the first ones.
        rounds: timed runs of each, after one that is not counted.
        round_seconds: most time of a timed run. The fp32 teacher and the students (in fp32, and the fastest) then
            classify all N rows however long it takes, any other engine as many as it can in that time.

    Raises:
        EngineError: the pipeline, the reference teacher or a student in fp32 cannot run, or no student is left.
    """
    timed = list(texts[:speed_rows])
    lengths = {one.name: sequence_lengths(one, texts) for one in contestants}
    contestants = [with_lengths(one, lengths[one.name]) for one in contestants]
    race = Race()
    peak = Peak(contestants[0].threads)
    try:
        costs = _costs(peak, contestants)
        for contestant in contestants:
            race.enter(contestant, timed)
        _students(race)
        rates = _run_rounds(race, peak, rounds=rounds, round_seconds=round_seconds)
        student = _classify_the_rest(race, texts, round_seconds=round_seconds)
        reference = next(entry for entry in race.entries if is_reference(entry.contestant))
        found = [
            figures(
                entry.contestant,
                entry.runs,
                entry.probs,
                load_seconds=entry.process.loaded["load_seconds"],
                reference_NK=reference.probs,
                own_fp32_NK=_own_fp32(race.entries, entry.contestant),
                gold=gold,
                lengths_NK=lengths[entry.contestant.name],
                cost=costs[entry.contestant.model],
                peak=rates,
            )
            for entry in race.entries
        ]
    finally:
        race.close()
        peak.close()
    slowest = next(row for row in found if row["kind"] == "pipeline")["rows_per_second"]
    return Result(
        contestants=[row | {"speedup": row["rows_per_second"] / slowest} for row in found],
        left_out=race.left_out,
        peak=rates,
        teacher=reference.probs,
        student=student.probs,
        mean_tokens=float(lengths[reference.contestant.name].mean()),
    )


def with_lengths(contestant: Contestant, lengths_NK: IntArray) -> Contestant:
    """A teacher told how long the pairs are, as `zsd label` tells it."""
    if contestant.kind not in ("teacher", "compiled"):
        return contestant
    limit = load_teacher(contestant.model, nli_classes=contestant.nli_classes).max_length
    return replace(contestant, lengths=LengthSample.of(lengths_NK.reshape(-1), max_length=limit))


def _costs(peak: Peak, contestants: Sequence[Contestant]) -> dict[str, SequenceCost]:
    """What a sequence costs, by checkpoint."""
    students = {one.model for one in contestants if one.kind == "student"}
    teachers = {one.model: one.nli_classes for one in contestants if one.kind != "student"}
    return {model: peak.student_cost(model) for model in students} | {
        model: peak.teacher_cost(model, nli_classes) for model, nli_classes in teachers.items()
    }


def _run_rounds(race: Race, peak: Peak, *, rounds: int, round_seconds: float) -> dict[str, float]:
    """A warm-up and the timed rounds; returns the median rates of the matrix product."""
    say(f"benchmark: warm-up, {len(race.entries)} contestants")
    for entry in list(race.entries):
        first = race.measure(entry, entry.texts, least=0.0, most=WARM_UP_ROUNDS * round_seconds)
        if first is not None:
            entry.texts = entry.texts[: len(first.probs)]
    rates: list[dict[str, float]] = []
    for number in range(1, rounds + 1):
        rates.append(peak.rates())
        for entry in list(race.entries):
            run = race.measure(entry, entry.texts, least=LEAST_SECONDS, most=round_seconds)
            if run is not None:
                name = entry.contestant.name
                say(f"benchmark: round {number} of {rounds}: {name}, {run.rows_per_second:,.1f} rows/s")
                entry.runs.append(run)
                entry.probs = run.probs if len(run.probs) > len(entry.probs) else entry.probs
    return {name: statistics.median(one[name] for one in rates) for name in rates[0]}


def _classify_the_rest(race: Race, texts: Sequence[str], *, round_seconds: float) -> Entry:
    """Rows beyond the timed ones: all for the reference, the students and the fastest of them, which is returned."""
    student = max(_students(race), key=lambda entry: entry.speed)
    say(f"benchmark: quality on up to {len(texts):,} rows")
    for entry in list(race.entries):
        if entry.contestant.kind in ("pipeline", "recipe") or len(entry.probs) == len(texts):
            continue
        unlimited = entry is student or is_sure_student(entry.contestant) or is_reference(entry.contestant)
        most = float("inf") if unlimited else round_seconds
        more = race.measure(entry, texts[len(entry.probs) :], least=0.0, most=most)
        if more is not None:
            entry.probs = np.concatenate([entry.probs, more.probs])
    return max(_students(race, rows=len(texts)), key=lambda entry: entry.speed)


def _students(race: Race, *, rows: int = 0) -> list[Entry]:
    """Those that still take part and have classified so many rows.

    Raises:
        EngineError: there is none.
    """
    entries = [entry for entry in race.entries if entry.contestant.kind == "student" and len(entry.probs) >= rows]
    if not entries:
        raise EngineError("no student is left that can run, for the reasons above: name other --student-engines")
    return entries


def _own_fp32(entries: Sequence[Entry], contestant: Contestant) -> FloatArray | None:
    """What the same checkpoint says in fp32, where that took part."""
    same = (entry for entry in entries if entry.contestant.kind == contestant.kind)
    exact = (e for e in same if (e.contestant.model, e.contestant.precision) == (contestant.model, "fp32"))
    return next((entry.probs for entry in exact), None)
