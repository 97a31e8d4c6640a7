"""Gold classes of a few rows: the temperature, the mixing of the logits and the rest of the bias that fit them best.

Matrix scaling (Guo, Pleiss, Sun & Weinberger 2017), kept close to temperature scaling as in Dirichlet calibration (Kull
et al. 2019): found by maximum a posteriori, the bias starts from the one that unlabelled rows gave and the matrix from
the identity, and both move as far as the gold rows outweigh a Gaussian around that, so ten rows change little and a
thousand decide. What the matrix adds to a bias is that a class may be known by the logits of the others: a text that
the teacher calls both business and science may be nearly always the second.

Legend: N rows, G gold rows, K labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.optimize import minimize
from scipy.special import expit

from zsd.batching import FloatArray
from zsd.shards import LOGITS, Store, matrix
from zsd.soft_labels.bias import Doubles, margin, softmax
from zsd.soft_labels.logits import Logits

Gold = Mapping[str, int] | Mapping[str, Sequence[int]]
"""Normalized text to its class (a number from 0 to K - 1), or for multi-label to K numbers 0 or 1."""

TEMPERATURE_WIDTH = 0.3
"""Standard deviation of the logarithm of the temperature before a gold row has been seen."""

BIAS_WIDTH = 0.25
"""Standard deviation of a class's bias before a gold row has been seen, as a share of the logits' mean margin."""

MIXING_WIDTH = 0.3
"""Standard deviation, before a gold row has been seen, of what the mixing adds to a class's logit for a row whose
logits are all one standard deviation from their mean, as a share of the logits' mean margin; the same for any K. From
0.2 to 0.4 the accuracy that 200 rows give on AG News moves by less than from one draw of the rows to another."""

FOLDS = 5
"""Parts of the gold rows, each scored by a mixing of the others, to fit the temperature."""

MOST_MIXED = 200
"""Classes up to which logits are mixed: K * K numbers have to be fitted, and are kept with the student."""


@dataclass(frozen=True, kw_only=True)
class GoldLogits(Logits):
    """The G gold rows that are in a store.

    Attributes:
        targets: [G, K] 1 where the class is true, else 0.
    """

    targets: npt.NDArray[np.float64]

    def only(self, which_G: npt.NDArray[np.bool_]) -> GoldLogits:
        """Some of the rows."""
        return GoldLogits(
            entailment=self.entailment[which_G],
            contradiction=self.contradiction[which_G],
            targets=self.targets[which_G],
        )


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


@dataclass(frozen=True, kw_only=True)
class GoldFit:
    """What fits the gold rows best; logits become ``(logits + logits @ mixing - bias) / temperature``.

    Attributes:
        bias: [K] what is taken off the logits.
        mixing: [K, K] what is added to each class's logit (a column) for each class's logit (a row); None: nothing.
        temperature: what they are divided by then.
    """

    bias: Doubles
    mixing: Doubles | None
    temperature: float

    def logits(self, logits_NK: FloatArray | Doubles) -> Doubles:
        """[N, K] what is divided by the temperature."""
        mixed_NK: Doubles = (
            logits_NK - self.bias if self.mixing is None else logits_NK + logits_NK @ self.mixing - self.bias
        )
        return mixed_NK


def fit_gold(
    rows: GoldLogits, bias_K: Doubles, *, multi_label: bool, move_bias: bool, temperature: float | None
) -> GoldFit:
    """The bias, the mixing and the temperature that fit gold rows best.

    Mixed logits are surer of the rows that they were fitted to than of others, the more so the more classes there are:
    their temperature is the one that fits rows which their mixing was not fitted to, each fifth in its turn.

    Args:
        rows: at least one.
        bias_K: from unlabelled rows.
        multi_label: which of the two definitions of `zsd.soft_labels.soft_labels` applies.
        move_bias: whether the bias may change, and logits be mixed.
        temperature: a given one stays as it is; None: it is fitted.
    """
    fit = _most_likely(rows, bias_K, multi_label=multi_label, move=move_bias, mix=move_bias, temperature=temperature)
    if temperature is not None or fit.mixing is None or len(rows) < 2 * FOLDS:
        return fit
    fold_G = np.arange(len(rows)) % FOLDS
    unseen_GK = np.empty(rows.targets.shape, np.float32)
    for fold in range(FOLDS):
        rest = _most_likely(
            rows.only(fold_G != fold), bias_K, multi_label=multi_label, move=True, mix=True, temperature=None
        )
        unseen_GK[fold_G == fold] = rest.logits(rows.only(fold_G == fold).deciding(multi_label=multi_label))
    zeros_GK = np.zeros(unseen_GK.shape, np.float32)
    unseen = GoldLogits(entailment=unseen_GK, contradiction=zeros_GK, targets=rows.targets)
    alone = _most_likely(
        unseen, np.zeros_like(bias_K), multi_label=multi_label, move=False, mix=False, temperature=None
    )
    return replace(fit, temperature=alone.temperature)


def _most_likely(
    rows: GoldLogits, bias_K: Doubles, *, multi_label: bool, move: bool, mix: bool, temperature: float | None
) -> GoldFit:
    """The maximum a posteriori of what may change: the bias (move), the mixing (mix), and a temperature of None."""
    logits_GK = rows.deciding(multi_label=multi_label).astype(np.float64)
    labels = len(bias_K)
    mean_K, spread = logits_GK.mean(axis=0), float(logits_GK.std(axis=0).mean())
    scale = float(np.abs(logits_GK).mean()) if multi_label else margin(logits_GK)
    mix = mix and labels <= MOST_MIXED and spread > 0
    free_K = np.full(labels, BIAS_WIDTH * scale * move)
    free_KK = np.full((labels, labels), MIXING_WIDTH * scale / np.sqrt(labels) * mix)
    widths = np.concatenate([free_K, free_KK.ravel(), [0.0 if temperature else TEMPERATURE_WIDTH]])
    standard_GK = (logits_GK - mean_K) / (spread or 1.0)

    def loss(point: Doubles) -> tuple[float, Doubles]:
        moved = point * widths
        moved_K, mixing_KK = moved[:labels], moved[labels:-1].reshape(labels, labels)
        heat = (temperature or 1.0) * np.exp(moved[-1])
        scaled_GK = (logits_GK + standard_GK @ mixing_KK - bias_K - moved_K) / heat
        slope_GK = (probabilities(scaled_GK, multi_label=multi_label) - rows.targets) / heat
        slopes = (-slope_GK.sum(axis=0), (standard_GK.T @ slope_GK).ravel(), [-(slope_GK * scaled_GK).sum() * heat])
        value = log_loss(scaled_GK, rows.targets, multi_label=multi_label) + (point**2).sum() / 2
        return value, np.concatenate(slopes) * widths + point

    found = minimize(loss, np.zeros(len(widths)), jac=True, method="L-BFGS-B").x * widths
    mixing_KK = found[labels:-1].reshape(labels, labels) / (spread or 1.0)
    return GoldFit(
        bias=bias_K + found[:labels] + mean_K @ mixing_KK,
        mixing=mixing_KK if mix else None,
        temperature=float((temperature or 1.0) * np.exp(found[-1])),
    )


def probabilities(logits_GK: Doubles, *, multi_label: bool) -> Doubles:
    """[G, K] of each class by itself for multi-label, else of the K together."""
    if multi_label:
        each_GK: Doubles = expit(logits_GK)
        return each_GK
    return softmax(logits_GK)


def log_loss(logits_GK: FloatArray | Doubles, targets_GK: Doubles, *, multi_label: bool) -> float:
    """Sum over the rows of the negative log-likelihood of the true classes, in nats."""
    if multi_label:
        return float(np.logaddexp(0, np.where(targets_GK > 0.5, -logits_GK, logits_GK)).sum())
    top_G1 = logits_GK.max(axis=1, keepdims=True)
    logs_GK = logits_GK - top_G1 - np.log(np.exp(logits_GK - top_G1).sum(axis=1, keepdims=True))
    return float(-(targets_GK * logs_GK).sum())
