"""Gold classes of a few rows: the temperature, and what is left of the bias, that fit them best.

Temperature scaling (Guo, Pleiss, Sun & Weinberger 2017) with a bias for each class, found by maximum a posteriori: the
bias starts from the one that unlabelled rows gave and moves as far as the gold rows outweigh a Gaussian around it, so
ten rows change little and a thousand decide.

Legend: N rows, G gold rows, K labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.optimize import minimize

from zsd.batching import FloatArray
from zsd.shards import LOGITS, Store, matrix
from zsd.soft_labels.bias import Doubles, margin
from zsd.soft_labels.logits import Logits

Gold = Mapping[str, int] | Mapping[str, Sequence[int]]
"""Normalized text to its class (a number from 0 to K - 1), or for multi-label to K numbers 0 or 1."""

TEMPERATURE_WIDTH = 0.3
"""Standard deviation of the logarithm of the temperature before a gold row has been seen."""

BIAS_WIDTH = 0.25
"""Standard deviation of a class's bias before a gold row has been seen, as a share of the logits' mean margin."""


@dataclass(frozen=True, kw_only=True)
class GoldLogits(Logits):
    """The G gold rows that are in a store.

    Attributes:
        targets: [G, K] 1 where the class is true, else 0.
    """

    targets: npt.NDArray[np.float64]


def gold_logits(store: Store, gold: Gold) -> GoldLogits:
    """Find the gold rows in a store, by text.

    Raises:
        StoreError: a shard is missing or damaged.
    """
    labels = len(store.manifest["labels"]["names"])
    wanted = pa.array(list(gold), pa.string())
    found: list[list[Any]] = [[], [], []]
    for table in store.tables(["text", *LOGITS]):
        table = table.filter(pc.is_in(table["text"], value_set=wanted))
        for rows, name in zip(found, LOGITS, strict=False):
            rows.append(matrix(table[name]))
        found[2].append(
            np.array([target(gold[text], labels) for text in table["text"].to_pylist()]).reshape(-1, labels)
        )
    entailment_GK, contradiction_GK, targets_GK = (np.concatenate([np.empty((0, labels)), *rows]) for rows in found)
    return GoldLogits(entailment=entailment_GK, contradiction=contradiction_GK, targets=targets_GK)


def target(classes: int | Sequence[int], labels: int) -> Doubles:
    """[K] 1 for each true class."""
    if isinstance(classes, int | np.integer):
        one_hot_K: Doubles = np.eye(labels)[int(classes)]
        return one_hot_K
    return np.asarray(classes, dtype=np.float64)


def fit_gold(
    rows: GoldLogits, bias_K: Doubles, *, multi_label: bool, move_bias: bool, temperature: float | None
) -> tuple[Doubles, float]:
    """The bias and the temperature that fit gold rows best.

    Args:
        rows: at least one.
        bias_K: from unlabelled rows.
        multi_label: which of the two definitions of `zsd.soft_labels.soft_labels` applies.
        move_bias: whether the bias may change.
        temperature: a given one stays as it is; None: it is fitted.
    """
    logits_GK = rows.deciding(multi_label=multi_label)
    width = BIAS_WIDTH * (float(np.abs(logits_GK).mean()) if multi_label else margin(logits_GK))
    labels = len(bias_K)

    def loss(point: Doubles) -> float:
        moved_K, log_temperature = point[:labels] * move_bias, 0.0 if temperature else point[labels]
        scaled_GK = (logits_GK - bias_K - moved_K) / (temperature or np.exp(log_temperature))
        penalty = (moved_K**2).sum() / width**2 + log_temperature**2 / TEMPERATURE_WIDTH**2
        return float(log_loss(scaled_GK, rows.targets, multi_label=multi_label) + penalty / 2)

    found = minimize(loss, np.zeros(labels + 1), method="L-BFGS-B", bounds=[(None, None)] * labels + [(-4, 4)])
    best: Doubles = bias_K + found.x[:labels] * move_bias
    return best, float(temperature or np.exp(found.x[labels]))


def log_loss(logits_GK: FloatArray | Doubles, targets_GK: Doubles, *, multi_label: bool) -> float:
    """Sum over the rows of the negative log-likelihood of the true classes, in nats."""
    if multi_label:
        return float(np.logaddexp(0, np.where(targets_GK > 0.5, -logits_GK, logits_GK)).sum())
    top_G1 = logits_GK.max(axis=1, keepdims=True)
    logs_GK = logits_GK - top_G1 - np.log(np.exp(logits_GK - top_G1).sum(axis=1, keepdims=True))
    return float(-(targets_GK * logs_GK).sum())
