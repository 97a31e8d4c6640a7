"""Gold classes of a few rows: the temperature, the mixing of the logits and the rest of the bias that fit them best.

Matrix scaling (Guo, Pleiss, Sun & Weinberger 2017), kept close to temperature scaling as in Dirichlet calibration (Kull
et al. 2019): found by maximum a posteriori, the bias starts from the one that unlabelled rows gave and the matrix from
the identity, and both move as far as the gold rows outweigh a Gaussian around that, so ten rows change little and a
thousand decide. What the matrix adds to a bias is that a class may be known by the logits of the others: a text that
the teacher calls both business and science may be nearly always the second.

Legend: N rows, G gold rows, K labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.optimize import minimize
from scipy.special import expit

from zsd.batching import FloatArray
from zsd.row_hash import row_hashes
from zsd.shards import LOGITS, Store, matrix
from zsd.soft_labels.bias import Doubles, margin, softmax
from zsd.soft_labels.logits import Logits

Gold = Mapping[str, int] | Mapping[str, Sequence[int]]
"""Normalized text to its class (a number from 0 to K - 1), or for multi-label to K numbers 0 or 1."""

TEMPERATURE_WIDTH = 0.3
"""Standard deviation of the logarithm of the temperature before a gold row has been seen."""

BIAS_WIDTH = 0.25
"""Standard deviation of a class's bias before a gold row has been seen, as a share of the logits' mean margin (of their
mean absolute value for multi-label)."""

MIXING_WIDTH = 0.3
"""Standard deviation, before a gold row has been seen, of what the mixing adds to a class's logit for a row whose
logits are all one standard deviation from their mean, on the scale of `BIAS_WIDTH`; the same for any K. With 200 rows
of AG News 82.7, 82.8 and 82.8 % of the others' labels are right at 0.2, 0.3 and 0.4 (81.4 unmixed; the standard
deviation from one draw of the rows to another is 0.3)."""

FOLDS = 5
LEAST_MIXED = 2 * FOLDS
"""Gold rows from which logits may be mixed: two a fold."""

MOST_CLASSES = 200
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
    """Find the gold rows in a store, by text; in the order of a hash of it, whatever that of the store is.

    Raises:
        StoreError: a shard is missing or damaged.
    """
    labels = len(store.manifest["labels"]["names"])
    wanted = pa.array(list(gold), pa.string())
    texts: list[str] = []
    found: list[list[Any]] = [[np.empty((0, labels), np.float32)] for _ in LOGITS]
    for table in store.tables(["text", *LOGITS]):
        table = table.filter(pc.is_in(table["text"], value_set=wanted))
        texts += table["text"].to_pylist()
        for rows, name in zip(found, LOGITS, strict=True):
            rows.append(matrix(table[name]))
    order_G = np.argsort(row_hashes(texts, b"zsd-gold"), kind="stable")
    entailment_GK, contradiction_GK = (np.concatenate(rows)[order_G] for rows in found)
    targets_GK = np.array([target(gold[texts[n]], labels) for n in order_G]).reshape(-1, labels)
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
        facts: ``loss`` and ``mixed_loss``: mean log loss, in nats, of gold rows that a bias alone, and a bias with a
            mixing, were not fitted to; empty where that was not looked at.
    """

    bias: Doubles
    mixing: Doubles | None
    temperature: float
    facts: dict[str, float] = field(default_factory=dict)

    def logits(self, logits_NK: FloatArray | Doubles) -> Doubles:
        """[N, K] what is divided by the temperature."""
        result_NK: Doubles = logits_NK - self.bias
        return result_NK if self.mixing is None else result_NK + logits_NK @ self.mixing


def fit_gold(
    rows: GoldLogits, bias_K: Doubles, *, multi_label: bool, move_bias: bool, temperature: float | None
) -> GoldFit:
    """The bias, the mixing and the temperature that fit gold rows best.

    Logits are mixed only where this lowers the log loss of rows that it was not fitted to, each fifth of the rows in
    its turn, by more than its standard error; with fewer than `LEAST_MIXED` rows, or more than `MOST_CLASSES` classes,
    they are not. Mixed logits are surer of the rows that they were fitted to than of others, the more so the more
    classes there are: their temperature is the one that fits the others.

    The rows have to be drawn at random: the balance of the labels follows theirs.

    Args:
        rows: at least one.
        bias_K: from unlabelled rows.
        multi_label: which of the two definitions of `zsd.soft_labels.soft_labels` applies.
        move_bias: whether the bias may change, and logits be mixed.
        temperature: a given one stays as it is; None: it is fitted.
    """
    fit = partial(_most_likely, bias_K=bias_K, multi_label=multi_label, move=move_bias, temperature=temperature)
    plain = fit(rows, mix=False)
    if not move_bias or len(rows) < LEAST_MIXED or len(bias_K) > MOST_CLASSES:
        return plain
    (plain_G, _), (mixed_G, heat) = (_unseen_losses(rows, partial(fit, mix=mix), multi_label) for mix in (False, True))
    gain_G = plain_G - mixed_G
    facts = {"loss": float(plain_G.mean()), "mixed_loss": float(mixed_G.mean())}
    if gain_G.mean() <= gain_G.std(ddof=1) / np.sqrt(len(gain_G)):
        return replace(plain, facts=facts)
    return replace(fit(rows, mix=True), temperature=temperature or heat, facts=facts)


def _unseen_losses(rows: GoldLogits, fit: Callable[[GoldLogits], GoldFit], multi_label: bool) -> tuple[Doubles, float]:
    """[G] the log loss of each row by a fit to four fifths of the rows without it, and the temperature for that."""
    fold_G = np.arange(len(rows)) % FOLDS
    scored_GK = np.empty(rows.targets.shape, np.float32)
    for fold in range(FOLDS):
        made = fit(rows.only(fold_G != fold))
        scored_GK[fold_G == fold] = made.logits(rows.only(fold_G == fold).deciding(multi_label=multi_label))
    scored = GoldLogits(entailment=scored_GK, contradiction=np.zeros_like(scored_GK), targets=rows.targets)
    zeros_K = np.zeros(scored_GK.shape[1])
    alone = _most_likely(scored, zeros_K, multi_label=multi_label, move=False, mix=False, temperature=None)
    return row_losses(scored_GK / alone.temperature, rows.targets, multi_label=multi_label), alone.temperature


def _most_likely(
    rows: GoldLogits, bias_K: Doubles, *, multi_label: bool, move: bool, mix: bool, temperature: float | None
) -> GoldFit:
    """The maximum a posteriori of what may change: the bias (move), the mixing (mix), and a temperature of None."""
    problem = Problem(rows, bias_K, multi_label=multi_label, move=move, mix=mix, temperature=temperature)
    return problem.fit(minimize(problem.loss, np.zeros(len(problem.widths)), jac=True, method="L-BFGS-B").x)


class Problem:
    """What is minimized: a point is ``[bias (K), log temperature, mixing (K * K, or nothing)]``, in standard deviations
    of the Gaussian around what there is before a gold row has been seen. See `_most_likely` for the arguments.
    """

    def __init__(
        self, rows: GoldLogits, bias_K: Doubles, *, multi_label: bool, move: bool, mix: bool, temperature: float | None
    ) -> None:
        self.rows, self.bias_K, self.multi_label = rows, bias_K, multi_label
        self.given = temperature
        self.logits_GK = rows.deciding(multi_label=multi_label).astype(np.float64)
        self.mean_K, self.spread = self.logits_GK.mean(axis=0), float(self.logits_GK.std(axis=0).mean())
        self.mix = mix and self.spread > 0
        self.standard_GK = (self.logits_GK - self.mean_K) / (self.spread or 1.0)
        scale = float(np.abs(self.logits_GK).mean()) if multi_label else margin(self.logits_GK)
        labels = len(bias_K)
        free = MIXING_WIDTH * scale / np.sqrt(labels)
        self.widths = np.concatenate(
            [
                np.full(labels, BIAS_WIDTH * scale * move),
                [0.0 if temperature else TEMPERATURE_WIDTH],
                np.full(labels**2 if self.mix else 0, free),
            ]
        )

    def loss(self, point: Doubles) -> tuple[float, Doubles]:
        """Minus the logarithm of the posterior, in nats and but for a constant, and its gradient."""
        moved_K, heat, mixing_KK = self._parts(point)
        mixed_GK = self.logits_GK if mixing_KK is None else self.logits_GK + self.standard_GK @ mixing_KK
        scaled_GK = (mixed_GK - self.bias_K - moved_K) / heat
        slope_GK = (probabilities(scaled_GK, multi_label=self.multi_label) - self.rows.targets) / heat
        slopes = [-slope_GK.sum(axis=0), [-(slope_GK * scaled_GK).sum() * heat]]
        if mixing_KK is not None:
            slopes.append((self.standard_GK.T @ slope_GK).ravel())
        value = log_loss(scaled_GK, self.rows.targets, multi_label=self.multi_label) + (point**2).sum() / 2
        return value, np.concatenate(slopes) * self.widths + point

    def fit(self, point: Doubles) -> GoldFit:
        """What a point stands for."""
        moved_K, heat, mixing_KK = self._parts(point)
        bias_K = self.bias_K + moved_K
        if mixing_KK is None:
            return GoldFit(bias=bias_K, mixing=None, temperature=heat)
        mixing_KK = mixing_KK / self.spread
        return GoldFit(bias=bias_K + self.mean_K @ mixing_KK, mixing=mixing_KK, temperature=heat)

    def _parts(self, point: Doubles) -> tuple[Doubles, float, Doubles | None]:
        labels, moved = len(self.bias_K), point * self.widths
        mixing_KK = moved[labels + 1 :].reshape(labels, labels) if self.mix else None
        return moved[:labels], float((self.given or 1.0) * np.exp(moved[labels])), mixing_KK


def probabilities(logits_GK: Doubles, *, multi_label: bool) -> Doubles:
    """[G, K] of each class by itself for multi-label, else of the K together."""
    if multi_label:
        each_GK: Doubles = expit(logits_GK)
        return each_GK
    return softmax(logits_GK)


def log_loss(logits_GK: FloatArray | Doubles, targets_GK: Doubles, *, multi_label: bool) -> float:
    """Sum over the rows of the negative log-likelihood of the true classes, in nats."""
    return float(row_losses(logits_GK, targets_GK, multi_label=multi_label).sum())


def row_losses(logits_GK: FloatArray | Doubles, targets_GK: Doubles, *, multi_label: bool) -> Doubles:
    """[G] negative log-likelihood of the true classes of each row, in nats."""
    if multi_label:
        of_classes_G: Doubles = np.logaddexp(0, np.where(targets_GK > 0.5, -logits_GK, logits_GK)).sum(axis=1)
        return of_classes_G
    top_G1 = logits_GK.max(axis=1, keepdims=True)
    logs_GK = logits_GK - top_G1 - np.log(np.exp(logits_GK - top_G1).sum(axis=1, keepdims=True))
    losses_G: Doubles = -(targets_GK * logs_GK).sum(axis=1)
    return losses_G
