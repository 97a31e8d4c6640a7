"""Logits of a teacher whose true classes and whose bias are known. Legend: N rows, K classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


def synthetic(
    balance: Sequence[float], bias: Sequence[float], *, rows: int = 1500, seed: int = 0
) -> tuple[FloatArray, IntArray]:
    """Entailment logits [N, K] and true classes [N]: the true class scores higher, and each class by its bias."""
    generator = np.random.default_rng(seed)
    classes_N = generator.permutation(
        np.repeat(np.arange(len(balance)), np.round(np.array(balance) * rows).astype(int))
    )
    logits_NK = generator.normal(-2.0, 1.0, size=(len(classes_N), len(balance)))
    logits_NK[np.arange(len(classes_N)), classes_N] += 2.5
    return (logits_NK + np.array(bias)).astype(np.float32), classes_N


def accuracy(logits_NK: npt.NDArray[Any], classes_N: IntArray) -> float:
    """Share of the rows whose largest logit is of the true class."""
    return float((logits_NK.argmax(axis=1) == classes_N).mean())
