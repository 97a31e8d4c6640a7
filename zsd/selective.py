"""How good a model is on the rows that it is sure of: the risk-coverage curve (El-Yaniv and Wiener 2010).

Legend: N rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from zsd.confidence import BoolArray, FloatArray

POINTS = 40
"""Points of a curve at most."""


def risk_coverage(confidence_N: FloatArray, correct_N: BoolArray) -> dict[str, Any]:
    """The curve that comes of answering only the surest rows, and the area below its risk.

    Rows of one confidence are answered together.

    Args:
        confidence_N: how sure the model is, as `zsd.confidence` has it.
        correct_N: whether it is right.

    Returns:
        ``area``: the mean of the risk (1 - accuracy) over all N coverages, in [0, 1], the less the better (AURC,
        Geifman, Uziel and El-Yaniv 2019); and ``points``: dicts of ``coverage`` (share of the rows answered),
        ``accuracy`` (of those) and ``threshold`` (least confidence that is answered), by rising coverage.
    """
    rows = len(confidence_N)
    if not rows:
        return {"area": 0.0, "points": []}
    order_N = np.argsort(-confidence_N, kind="stable")
    sure_N = confidence_N[order_N]
    ends = np.flatnonzero(np.append(np.diff(sure_N) != 0, True))  # the last row of each confidence
    sizes = np.diff(ends, prepend=-1)
    shares = np.diff(np.cumsum(correct_N[order_N])[ends], prepend=0) / sizes
    accuracy_N = np.cumsum(np.repeat(shares, sizes)) / np.arange(1, rows + 1)
    chosen = ends[np.unique(np.linspace(0, len(ends) - 1, min(POINTS, len(ends))).astype(np.int64))]
    points = [
        {"coverage": (int(n) + 1) / rows, "accuracy": float(accuracy_N[n]), "threshold": float(sure_N[n])}
        for n in chosen
    ]
    return {"area": float(1 - accuracy_N.mean()), "points": points}
