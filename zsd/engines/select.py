"""`--engine auto`: time the candidates on real rows where they will run, admit those that agree, take the fastest.

Which CPU engine is fastest depends on the processor (AMX, AVX-512 bf16, VNNI, AVX2), so it is measured, on each node.
Speed is timed; agreement depends on the rows alone, so the verdict on an engine is the same on every run.

Legend: N rows, K labels.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from zsd.engines import load_engine
from zsd.engines.base import Placement
from zsd.errors import EngineError
from zsd.labels import LabelSet
from zsd.soft_labels import soft_labels
from zsd.teachers.nli import NLITeacher
from zsd.teachers.scoring import Scorer, Scores

REFERENCE = ("torch", "fp32")

SAMPLE_ROWS = 256
"""Most rows of a trial: agreement is known to 1/256, and 0.99 lets two rows differ."""

TRIAL_SHARE = 0.1
"""Most of the job's own work that a candidate's trial may repeat."""

CHUNK_ROWS = 32
"""Rows scored between two looks at the clock."""

DEEPSPARSE_WORTH_PAIRS = 50_000
"""Pairs below which exporting and compiling for DeepSparse (half a minute) cannot pay."""


UNTRIED = "chosen untried: the job is too small for a trial to pay"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What one candidate did on the sample.

    Attributes:
        engine: engine name.
        precision: ``fp32`` or ``bf16``.
        rows: N, sample rows it was judged on: agreement is known to 1/N. 0 where it was not tried or did not run.
        rows_per_second: on those rows.
        agreement: share of them with the same top class (multi-label: the same classes) as torch fp32.
        verdict: ``chosen``, ``admitted`` (and beaten by a later one), ``slower`` than one before, ``reference`` (only
            compared with), ``too low agreement``, or why it was not tried or did not run.
    """

    engine: str
    precision: str
    rows: int
    rows_per_second: float
    agreement: float
    verdict: str


def candidates(placement: Placement, precision: str | None, pairs: int) -> list[tuple[str, str]]:
    """(engine, precision) to try, torch fp32, the reference, first."""
    names = [REFERENCE, ("torch", "bf16")]
    if placement.device == "cpu" and pairs >= DEEPSPARSE_WORTH_PAIRS:
        names.append(("deepsparse", "fp32"))
    return [name for name in names if precision in (None, name[1]) or name == REFERENCE]


def trial_rows(*, available: int, pairs: int, labels: int, min_agreement: float) -> int:
    """How many of the available rows a trial takes; 0 where the job is too small for one to pay.

    As many as `TRIAL_SHARE` of the job and at most `SAMPLE_ROWS`, but enough for a single differing row to be within
    ``1 - min_agreement`` (100 rows for 0.99; never more than `SAMPLE_ROWS`: above 0.996 all rows must agree). A job of
    which that many rows are more than its share gets no trial: with K = 4 and 0.99, one below 4,000 pairs.
    """
    fewest = min(SAMPLE_ROWS, math.ceil(round(1 / max(1 - min_agreement, 1e-9), 6)))
    rows = min(available, SAMPLE_ROWS, int(TRIAL_SHARE * pairs / labels))
    return rows if rows >= fewest else 0


def choose_engine(
    teacher: NLITeacher,
    labels: LabelSet,
    placement: Placement,
    texts: Sequence[str],
    *,
    pairs: int,
    precision: str | None = None,
    min_agreement: float = 0.99,
) -> tuple[Scorer, list[Trial]]:
    """Time every candidate on the same real rows and keep the fastest that agrees.

    The time is bounded by the job's own: the reference scores at most `TRIAL_SHARE` of it, and a candidate that is no
    faster than the best so far is dropped when it has taken as long. A job too small for that (`trial_rows`) gets
    torch at once, in fp32 unless a precision is asked for.

    Args:
        teacher: what is run.
        labels: what is asked.
        placement: where.
        texts: rows from all over the corpus, `SAMPLE_ROWS` of them; `trial_rows` of them, evenly spaced, are used.
        pairs: pairs that this engine will run, to know what can pay.
        precision: only this one, or any where None.
        min_agreement: least share of rows with the same outcome as torch fp32.

    Returns:
        the chosen engine, loaded and warm, and a `Trial` for every candidate.

    Raises:
        EngineError: torch fp32 cannot run, or no candidate of the asked precision agrees.
    """
    rows = trial_rows(available=len(texts), pairs=pairs, labels=len(labels), min_agreement=min_agreement)
    if rows == 0:
        precision = precision or "fp32"
        scorer = Scorer(teacher, load_engine("torch", teacher, placement, precision), labels)
        return scorer, [_not_run("torch", precision, UNTRIED)]
    sample = list(texts[:: len(texts) // rows])[:rows]
    reference: _Pass | None = None
    best: tuple[int, Scorer, float] | None = None  # its place in trials, and the seconds it took
    trials: list[Trial] = []
    for name, candidate in candidates(placement, precision, pairs):
        try:
            scorer = Scorer(teacher, load_engine(name, teacher, placement, candidate), labels)
            done = _score(scorer, sample, most_seconds=best[2] if best else math.inf)
        except EngineError as error:
            if reference is None:
                raise
            trials.append(_not_run(name, candidate, str(error)))
            continue
        reference = reference or done
        agreement = float((done.outcome == reference.outcome[: done.rows]).all(axis=1).mean())
        verdict = "admitted"
        if precision not in (None, candidate):
            verdict = "reference"
        elif agreement < min_agreement:
            verdict = "too low agreement"
        elif best is not None and done.seconds >= best[2]:
            verdict = "slower"
        if verdict == "admitted":
            if best is not None:
                best[1].engine.close()
            best = (len(trials), scorer, done.seconds)
        else:
            scorer.engine.close()
        trials.append(
            Trial(
                engine=name,
                precision=candidate,
                rows=done.rows,
                rows_per_second=round(done.rows / done.seconds, 2),
                agreement=round(agreement, 4),
                verdict=verdict,
            )
        )
    if best is None:
        raise EngineError(
            f"no engine of precision {precision} reaches --min-agreement {min_agreement} with torch fp32: lower it, or "
            "use --precision fp32"
        )
    trials[best[0]] = replace(trials[best[0]], verdict="chosen")
    return best[1], trials


def _not_run(engine: str, precision: str, verdict: str) -> Trial:
    return Trial(engine=engine, precision=precision, rows=0, rows_per_second=0.0, agreement=0.0, verdict=verdict)


@dataclass(frozen=True, kw_only=True)
class _Pass:
    """A timed pass over the first rows of the sample: which classes each row got, and how long that took."""

    rows: int
    seconds: float
    outcome: npt.NDArray[np.bool_]


def _score(scorer: Scorer, texts: Sequence[str], *, most_seconds: float) -> _Pass:
    """Score the rows chunk by chunk after a warm-up, and stop when the time is up."""
    # An engine of fixed shapes compiles each the first time it meets it: all of them are met before the clock starts.
    scorer.score(texts if scorer.engine.buckets else texts[:CHUNK_ROWS])
    outcomes = []
    rows, seconds = 0, 0.0
    while rows < len(texts) and seconds < most_seconds:
        started = time.perf_counter()
        scores = scorer.score(texts[rows : rows + CHUNK_ROWS])
        seconds += time.perf_counter() - started
        outcomes.append(_outcome(scores, multi_label=scorer.labels.multi_label))
        rows += len(outcomes[-1])
    return _Pass(rows=rows, seconds=seconds, outcome=np.concatenate(outcomes))


def _outcome(scores: Scores, *, multi_label: bool) -> npt.NDArray[np.bool_]:
    """[N, K] which class a row gets: the top one, or all above one half."""
    probs_NK = soft_labels(scores.entailment, scores.contradiction, multi_label=multi_label)
    top_NK: npt.NDArray[np.bool_] = np.arange(probs_NK.shape[1]) == probs_NK.argmax(axis=1)[:, None]
    return probs_NK > 0.5 if multi_label else top_NK
