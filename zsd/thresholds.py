"""A decision threshold for each class of a multi-label model.

Legend: N rows, K labels.
"""

from __future__ import annotations

import numpy as np

from zsd.confidence import DECISION, BoolArray, FloatArray


def choose_thresholds(target_NK: BoolArray, probs_NK: FloatArray) -> FloatArray:
    """[K] the probability from which on a class is said to be true, so that its F1 on these rows is largest.

    A threshold lies halfway between two probabilities that occur. A class that is true of no row keeps one half; of
    thresholds that are equally good the one nearest to one half is taken.

    Args:
        target_NK: what should be said. These rows must not be those that the result is judged on.
        probs_NK: the model's probabilities.
    """
    columns = zip(target_NK.T, probs_NK.T, strict=True)
    return np.array([_best(target_N, probs_N) for target_N, probs_N in columns], dtype=np.float32)


def _best(target_N: BoolArray, probs_N: FloatArray) -> float:
    if not target_N.any():
        return DECISION
    order_N = np.argsort(-probs_N, kind="stable")
    sorted_N = probs_N[order_N].astype(np.float64)
    lower_N = np.append(sorted_N[1:], -1.0)
    hits_N = np.cumsum(target_N[order_N])
    f1_N = 2 * hits_N / (np.arange(1, len(order_N) + 1) + target_N.sum())
    f1_N[sorted_N == lower_N] = -1.0  # rows of one probability are on one side
    half_N = (sorted_N >= DECISION) & (lower_N < DECISION)
    between_N = np.where(half_N, DECISION, np.maximum(0.0, (sorted_N + lower_N) / 2))
    best = np.flatnonzero(f1_N == f1_N.max())
    return float(between_N[best[np.abs(between_N[best] - DECISION).argmin()]])
