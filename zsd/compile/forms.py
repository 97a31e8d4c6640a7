"""What the engines of a compiled model do here: agreement with torch fp32, probabilities, rows/s, on held-out rows.

Legend: N rows, K labels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

import numpy as np

from zsd.batching import FloatArray
from zsd.buckets import LengthSample
from zsd.compile.heldout import all_pairs
from zsd.confidence import differs
from zsd.console import say
from zsd.engines.base import Placement
from zsd.engines.native.weights import fits
from zsd.engines.registry import DRAFT, ENGINE_NAMES, combinations
from zsd.engines.select import load_scorer
from zsd.errors import EngineError
from zsd.labels import LabelSet
from zsd.soft_labels import soft_labels
from zsd.teachers.nli import NLITeacher

REFERENCE = ("torch", "fp32")

Pass = Callable[[str, str], tuple[FloatArray, float]]
"""Engine and precision to probabilities [N, K], and rows/s: see `second_run`."""

T = TypeVar("T")


def measure_forms(
    one_pass: Pass, labels: LabelSet, rows: int, config: Any, *, engines: Sequence[str], without: Collection[str] = ()
) -> tuple[list[dict[str, Any]], FloatArray]:
    """One entry an engine and precision, the reference first; and the reference's probabilities [N, K].

    An entry has ``engine``, ``precision`` and either ``error`` or ``agreement``, ``delta_p`` and ``rows_per_second``.

    Args:
        one_pass: over the held-out rows.
        labels: of the model.
        rows: N.
        config: of the model: native does not know every architecture.
        engines: which to measure beside the reference; all that run here where empty.
        without: precisions that the model has no form of.

    Raises:
        EngineError: the reference cannot run.
    """
    known = [name for name in ENGINE_NAMES if name != "native" or fits(config)]
    wanted = [(name, precision) for name, precision in combinations("cpu") if name in (engines or known)]
    wanted = [REFERENCE, *[one for one in wanted if one != REFERENCE and one[1] not in without]]
    forms: list[dict[str, Any]] = []
    reference_NK: FloatArray | None = None
    for name, precision in wanted:
        say(f"compile: measuring {name} {precision} on {rows} held-out rows")
        form: dict[str, Any] = {"engine": name, "precision": precision}
        try:
            probs_NK, speed = one_pass(name, precision)
        except EngineError as error:
            if reference_NK is None:
                raise
            forms.append(form | {"error": str(error)})
            continue
        reference_NK = probs_NK if reference_NK is None else reference_NK
        forms.append(form | compare(probs_NK, reference_NK, labels) | {"rows_per_second": round(speed, 2)})
    assert reference_NK is not None
    return forms, reference_NK


def say_too_low(forms: Sequence[dict[str, Any]], least: float, rows: int) -> None:
    """Say which made forms agree less on the held-out rows than was asked for, which others had decided."""
    for form in forms:
        if form["precision"] in ("int8", DRAFT) and form.get("agreement", 1.0) < least:
            say(
                f"compile: {form['engine']} {form['precision']} agrees on {form['agreement']:.1%} of {rows} held-out "
                f"rows, {least:.1%} was asked for: a higher --min-agreement leaves a margin"
            )


def compare(probs_NK: FloatArray, reference_NK: FloatArray, labels: LabelSet) -> dict[str, float]:
    """``agreement``: share of rows with the same top label (multi-label: the same labels); ``delta_p``: mean change."""
    same_N = ~differs(probs_NK, reference_NK, multi_label=labels.multi_label)
    return {"agreement": float(same_N.mean()), "delta_p": float(np.abs(probs_NK - reference_NK).mean())}


def second_run(run: Callable[[], T]) -> tuple[T, float]:
    """What a run gives the second time, and its seconds: the first compiles shapes."""
    run()
    started = time.perf_counter()
    given = run()
    return given, time.perf_counter() - started


def teacher_pass(teacher: NLITeacher, labels: LabelSet, texts: Sequence[str], *, threads: int) -> Pass:
    """The pass of a teacher over N texts, with so many threads."""
    lengths = LengthSample.of(all_pairs(teacher, labels, texts).lengths, max_length=teacher.max_length)

    def one_pass(name: str, precision: str) -> tuple[FloatArray, float]:
        placement = Placement(device="cpu", threads=threads)
        scorer = load_scorer(name, precision, teacher, labels, placement, lengths=lengths, long_text="truncate")
        try:
            prepared = scorer.prepare(texts)
            scores, seconds = second_run(lambda: scorer.run(prepared))
        finally:
            scorer.close()
        probs_NK = soft_labels(scores.entailment, scores.contradiction, multi_label=labels.multi_label, temperature=1.0)
        return probs_NK, len(texts) / seconds

    return one_pass
