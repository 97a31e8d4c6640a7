"""`--engine auto`: time the candidates on real rows where they will run, admit those that agree, take the fastest.

Which CPU engine is fastest depends on the processor (AMX, AVX-512 bf16, VNNI, AVX2), so it is measured, on each node.

Legend: N rows, K labels.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from zsd.engines import load_engine
from zsd.engines.base import Placement
from zsd.errors import EngineError
from zsd.labels import LabelSet
from zsd.soft_labels import soft_labels
from zsd.teachers.nli import NLITeacher
from zsd.teachers.scoring import Scorer

SECONDS = 2.0
"""Time given to each candidate after its warm-up."""

DEEPSPARSE_WORTH_PAIRS = 50_000
"""Pairs of a job below which exporting and compiling for DeepSparse (tens of seconds) cannot pay."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What one candidate did on the sample.

    Attributes:
        engine: engine name.
        precision: ``fp32`` or ``bf16``.
        rows_per_second: on the sample rows; 0 where it did not run.
        agreement: share of sample rows with the same top class as torch fp32.
        verdict: ``chosen``, ``admitted``, ``too low agreement`` or why it did not run.
    """

    engine: str
    precision: str
    rows_per_second: float
    agreement: float
    verdict: str

    def to_dict(self) -> dict[str, Any]:
        """For the manifest."""
        return asdict(self)


def candidates(placement: Placement, precision: str | None, pairs: int) -> list[tuple[str, str]]:
    """(engine, precision) to try, torch fp32, the reference, first."""
    names = [("torch", "fp32"), ("torch", "bf16")]
    if placement.device == "cpu" and pairs >= DEEPSPARSE_WORTH_PAIRS:
        names.append(("deepsparse", "fp32"))
    return [name for name in names if precision in (None, name[1]) or name == ("torch", "fp32")]


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

    Args:
        teacher: what is run.
        labels: what is asked.
        placement: where.
        texts: some tens of rows of the corpus.
        pairs: pairs the whole job has, to know which candidates can pay for their start.
        precision: only this one, or any where None.
        min_agreement: least share of rows with the same top class as torch fp32.

    Returns:
        the chosen engine, loaded and warm, and a `Trial` for every candidate.
    """
    best: tuple[float, Scorer] | None = None
    reference = None
    trials: list[Trial] = []
    for engine_name, engine_precision in candidates(placement, precision, pairs):
        try:
            scorer = Scorer(teacher, load_engine(engine_name, teacher, placement, engine_precision), labels)
            scores = scorer.score(texts)
        except EngineError as error:
            if reference is None:
                raise
            trials.append(_trial(engine_name, engine_precision, 0.0, 0.0, str(error)))
            continue
        probs = soft_labels(scores.entailment, scores.contradiction, multi_label=labels.multi_label)
        top = probs > 0.5 if labels.multi_label else probs.argmax(axis=1)
        reference = top if reference is None else reference
        agreement = float((top == reference).mean())
        speed = _speed(scorer, texts)
        wanted = precision in (None, engine_precision)
        verdict = "admitted" if agreement >= min_agreement and wanted else "too low agreement" if wanted else "reference"
        trials.append(_trial(engine_name, engine_precision, speed, agreement, verdict))
        if verdict == "admitted" and (best is None or speed > best[0]):
            if best is not None:
                best[1].engine.close()
            best = (speed, scorer)
        else:
            scorer.engine.close()
    if best is None:
        raise EngineError(
            f"no engine reaches --min-agreement {min_agreement} with torch fp32: lower it, or use --precision fp32"
        )
    chosen = best[1].engine
    return best[1], [
        _trial(t.engine, t.precision, t.rows_per_second, t.agreement, "chosen")
        if (t.engine, t.precision) == (chosen.name, chosen.precision)
        else t
        for t in trials
    ]


def _trial(engine: str, precision: str, speed: float, agreement: float, verdict: str) -> Trial:
    return Trial(
        engine=engine,
        precision=precision,
        rows_per_second=round(speed, 2),
        agreement=round(agreement, 4),
        verdict=verdict,
    )


def _speed(scorer: Scorer, texts: Sequence[str]) -> float:
    """Rows/s over whole passes of the sample until the time is up."""
    passes, start = 0, time.perf_counter()
    while passes == 0 or time.perf_counter() - start < SECONDS:
        scorer.score(texts)
        passes += 1
    return passes * len(texts) / (time.perf_counter() - start)
