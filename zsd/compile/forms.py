"""What a compiled teacher's engines do here: agreement with torch fp32, probabilities, rows/s, on held-out rows.

Legend: N rows, K labels.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from zsd.batching import FloatArray
from zsd.console import say
from zsd.engines import load_engine
from zsd.engines.base import Placement
from zsd.engines.registry import combinations
from zsd.errors import EngineError
from zsd.labels import LabelSet
from zsd.soft_labels import soft_labels
from zsd.teachers.nli import NLITeacher
from zsd.teachers.scoring import Scorer

REFERENCE = ("torch", "fp32")


def measure_forms(
    teacher: NLITeacher, labels: LabelSet, texts: Sequence[str], *, engines: Sequence[str], int8: bool, threads: int
) -> tuple[list[dict[str, Any]], FloatArray]:
    """One entry an engine and precision, the reference first; and the reference's probabilities [N, K].

    An entry has ``engine``, ``precision`` and either ``error`` or ``agreement``, ``delta_p`` and ``rows_per_second``
    (of the second pass over the rows: the first compiles shapes).

    Raises:
        EngineError: the reference cannot run.
    """
    placement = Placement(device="cpu", threads=threads)
    wanted = [(name, precision) for name, precision in combinations("cpu") if name in engines or not engines]
    wanted = [REFERENCE, *[one for one in wanted if one != REFERENCE and (int8 or one[1] != "int8")]]
    forms: list[dict[str, Any]] = []
    reference_NK: FloatArray | None = None
    for name, precision in wanted:
        say(f"compile: measuring {name} {precision} on {len(texts)} held-out rows")
        form: dict[str, Any] = {"engine": name, "precision": precision}
        try:
            probs_NK, speed = _pass(teacher, labels, texts, name, precision, placement)
        except EngineError as error:
            if reference_NK is None:
                raise
            forms.append(form | {"error": str(error)})
            continue
        reference_NK = probs_NK if reference_NK is None else reference_NK
        forms.append(form | compare(probs_NK, reference_NK, labels) | {"rows_per_second": round(speed, 2)})
    assert reference_NK is not None
    return forms, reference_NK


def compare(probs_NK: FloatArray, reference_NK: FloatArray, labels: LabelSet) -> dict[str, float]:
    """``agreement``: share of rows with the same top label (multi-label: the same labels); ``delta_p``: mean change."""
    if labels.multi_label:
        same_N = ((probs_NK > 0.5) == (reference_NK > 0.5)).all(axis=1)
    else:
        same_N = probs_NK.argmax(axis=1) == reference_NK.argmax(axis=1)
    return {"agreement": float(same_N.mean()), "delta_p": float(np.abs(probs_NK - reference_NK).mean())}


def torch_probs(teacher: NLITeacher, labels: LabelSet, texts: Sequence[str], *, threads: int) -> FloatArray:
    """Probabilities [N, K] of a teacher in torch fp32."""
    return _pass(teacher, labels, texts, *REFERENCE, Placement(device="cpu", threads=threads))[0]


def _pass(
    teacher: NLITeacher, labels: LabelSet, texts: Sequence[str], name: str, precision: str, placement: Placement
) -> tuple[FloatArray, float]:
    engine = load_engine(name, teacher, placement, precision)
    try:
        scorer = Scorer(teacher, engine, labels)
        prepared = scorer.prepare(texts)
        scorer.run(prepared)
        started = time.perf_counter()
        scores = scorer.run(prepared)
        seconds = time.perf_counter() - started
    finally:
        engine.close()
    probs_NK = soft_labels(scores.entailment, scores.contradiction, multi_label=labels.multi_label, temperature=1.0)
    return probs_NK, len(texts) / seconds
