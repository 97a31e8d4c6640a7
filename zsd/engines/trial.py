"""One candidate's trial: how fast it scores sample rows, and whether it gives them the reference's classes.

Legend: N rows, K labels, P pairs, B bins of pair lengths.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from zsd.batching import IntArray, PairSet
from zsd.soft_labels import soft_labels
from zsd.teachers.scoring import Prepared, Scorer, Scores

BoolArray = npt.NDArray[np.bool_]

WARM_BATCHES = 2
"""Batches a lane of an engine that runs any length warms up on; one of fixed shapes runs one batch of each."""

WARM_PAIRS = 64
"""Pairs that the second look of such an engine warms up on."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What one candidate did on the sample.

    Attributes:
        engine: engine name.
        precision: ``fp32``, ``bf16``, ...
        rows: N, sample rows it scored: agreement is known to 1/N. 0 where it was not tried or did not finish.
        rows_per_second: on those rows.
        agreement: share of them with the same top class (multi-label: the same classes) as torch fp32.
        loading_seconds: to load, export and compile it.
        verdict: ``chosen``, ``admitted`` (and beaten by a later one), ``slower`` than one before, ``reference`` (only
            compared with), or why it is not admitted, was not tried or did not run.
    """

    engine: str
    precision: str
    rows: int
    rows_per_second: float
    agreement: float
    loading_seconds: float
    verdict: str


def not_run(engine: str, precision: str, verdict: str, loading_seconds: float = 0.0) -> Trial:
    """The trial of a candidate that scored nothing."""
    return Trial(
        engine=engine,
        precision=precision,
        rows=0,
        rows_per_second=0.0,
        agreement=0.0,
        loading_seconds=round(loading_seconds, 2),
        verdict=verdict,
    )


def warm_up(scorer: Scorer, prepared: Prepared) -> None:
    """Run what the engine would otherwise do for the first time while it is timed: compile shapes, touch memory."""
    shapes = {(batch.rows, batch.length): batch for batch in prepared.batches}
    first = prepared.batches[: WARM_BATCHES * scorer.engine.lanes.count]
    batches = first if scorer.buckets is None else [*shapes.values()]
    looks = [scorer.batches(replace(prepared, batches=batches))]
    for recheck in scorer.rechecks:
        few = prepared.asked if recheck.buckets is not None else prepared.asked[:WARM_PAIRS]
        looks.append(scorer.batches_again(recheck, prepared.pairs, few, each_shape_once=True))
    for look in looks:
        with closing(look) as done:
            for _ in done:
                pass


def timed(scorer: Scorer, prepared: Prepared, *, within: float) -> tuple[Scores, float]:
    """The scores of prepared rows, and the seconds they took.

    Raises:
        TimeoutError: they took longer than `within` seconds; what is not begun when that is seen is not run.
    """
    started = time.perf_counter()
    scores = scorer.run(prepared, within=within)
    return scores, time.perf_counter() - started


def outcome(scores: Scores, *, multi_label: bool) -> BoolArray:
    """[N, K] which class a row gets: the top one, or all above one half."""
    probs_NK = soft_labels(scores.entailment, scores.contradiction, multi_label=multi_label)
    top_NK: BoolArray = np.arange(probs_NK.shape[1]) == probs_NK.argmax(axis=1)[:, None]
    return probs_NK > 0.5 if multi_label else top_NK


def rows_in_bins(pairs: PairSet, bins: tuple[int, ...]) -> BoolArray:
    """[N, B] whether a row has a pair whose length falls into a bin: longer than the bin before, within this one."""
    bin_P: IntArray = np.searchsorted(np.array(bins), pairs.lengths)
    row_P = np.repeat(pairs.rows, len(pairs.tails))
    inside_NB = np.zeros((int(pairs.rows[-1]) + 1, len(bins)), dtype=np.bool_)
    inside_NB[row_P, bin_P] = True
    return inside_NB


def disagreement(same_N: BoolArray, inside_NB: BoolArray, bins: tuple[int, ...], *, least: float) -> str | None:
    """Why an engine is not admitted, or None where it is.

    An engine may be right but for one shape of its batches, and an average hides that: the rows of every bin of pair
    lengths must agree as well, each bin with one row off at most where it holds too few for the share.

    Args:
        same_N: which rows have the reference's outcome.
        inside_NB: see `rows_in_bins`.
        bins: their longest lengths.
        least: share of rows that must agree.
    """
    if same_N.mean() < least:
        return "too low agreement"
    for inside_N, length in zip(inside_NB.T, bins, strict=True):
        allowed = max(1, int(round((1 - least) * inside_N.sum(), 6)))
        if (inside_N & ~same_N).sum() > allowed:
            return f"too low agreement on pairs of up to {length} tokens"
    return None
