"""The clock of the benchmark: rows classified part by part, in order, until all are done or the time is up.

Legend: N rows, K labels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Some texts classified.

    Args:
        probs: probs_NK.
        tokens: real tokens that were run; 0 where the contestant does not tell.
        padding_waste: share of the computed tokens that was padding; NaN where the contestant does not tell.
    """

    probs: FloatArray
    tokens: int = 0
    padding_waste: float = float("nan")


Score = Callable[[Sequence[str]], Scored]


@dataclass(frozen=True, kw_only=True)
class Timed:
    """One timed run.

    Attributes:
        probs: [R, K] of the first R texts, those that were done in time.
        rows_per_second: over all passes.
        padding_waste: share of the computed tokens that was padding; NaN where the contestant does not tell.
    """

    probs: FloatArray
    rows_per_second: float
    padding_waste: float


def time_rows(
    score: Score,
    texts: Sequence[str],
    *,
    part_rows: int,
    least_seconds: float,
    most_seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> Timed:
    """Classify the texts part by part; once all are done, over and over until ``least_seconds`` have passed.

    A part is never cut short, so at least one is done however slow the contestant is.

    Args:
        score: N texts to their probabilities.
        texts: at least one, in the order that all contestants share.
        part_rows: texts given to `score` at a time.
        least_seconds: time to go on for, so that a fast contestant is not timed in milliseconds.
        most_seconds: time after which no further part is begun.
        clock: seconds.
    """
    first: list[Scored] = []
    parts = [texts[start : start + part_rows] for start in range(0, len(texts), part_rows)]
    done, started, elapsed = 0, clock(), 0.0
    while not first or (elapsed < most_seconds and (len(first) < len(parts) or elapsed < least_seconds)):
        number = done % len(parts)
        scored = score(parts[number])
        if done < len(parts):
            first.append(scored)
        done += 1
        elapsed = clock() - started
    passes, rest = divmod(done, len(parts))
    rows = passes * len(texts) + sum(len(part) for part in parts[:rest])
    return Timed(
        probs=np.concatenate([one.probs for one in first]),
        rows_per_second=rows / elapsed,
        padding_waste=_waste(first),
    )


def _waste(parts: Sequence[Scored]) -> float:
    tokens = sum(part.tokens for part in parts)
    if not tokens:
        return float("nan")
    return 1.0 - tokens / sum(part.tokens / (1.0 - part.padding_waste) for part in parts)
