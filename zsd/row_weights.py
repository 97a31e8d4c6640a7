"""How much each row counts: in the loss by how sure the teacher is, in the order of an epoch by how rare its class is.

Legend: N rows, K labels.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from zsd.inference import FloatArray, IntArray
from zsd.training_data import BoolArray

MOST_COPIES = 10.0
"""How often balancing shows a row of a rare class for each time that it would be shown without."""


def loss_weights(probs_NK: FloatArray, kind: str, *, multi_label: bool) -> FloatArray:
    """[N] weight of each row, before they are scaled to a mean of 1; never 0.

    Args:
        probs_NK: the teacher's probabilities.
        kind: ``none``: all 1. ``confidence``: the probability of the teacher's decision. ``margin``: how far the best
            class is ahead of the second; 0 where two are equal, and 1/100 then.
        multi_label: each label is a decision of its own: the mean over the labels of the probability of yes or no
            (confidence), or of the distance between the two (margin).
    """
    if kind == "none":
        return np.ones(len(probs_NK), dtype=np.float32)
    if multi_label:
        decided_N = np.maximum(probs_NK, 1 - probs_NK).mean(axis=1)
        weights_N = decided_N if kind == "confidence" else 2 * decided_N - 1
    else:
        top_N2 = np.partition(probs_NK, -2, axis=1)[:, -2:]
        weights_N = top_N2[:, 1] if kind == "confidence" else top_N2[:, 1] - top_N2[:, 0]
    result: FloatArray = np.maximum(weights_N, 0.01).astype(np.float32)
    return result


def class_copies(classes_N: IntArray, labels: int, strength: float) -> FloatArray:
    """[N] how often each row is to come in an epoch, so that classes come more equally often; the mean is 1.

    A row comes ``(N / (K * rows of its class)) ** strength`` times, but at most `MOST_COPIES`, before scaling: with
    strength 1 every class that is not extremely rare is drawn equally often, with 0 nothing changes.

    Args:
        classes_N: the teacher's class of each row.
        labels: K.
        strength: from 0 to 1.
    """
    counts_K = np.bincount(classes_N, minlength=labels)
    wanted_K = (len(classes_N) / (labels * np.maximum(counts_K, 1))) ** strength
    copies_N = np.minimum(wanted_K, MOST_COPIES)[classes_N]
    result: FloatArray = (copies_N / copies_N.mean()).astype(np.float32)
    return result


def plan_epoch(
    probs: Iterable[FloatArray],
    *,
    keep_N: BoolArray,
    gold_N: BoolArray,
    weight: str,
    balance: float,
    gold_weight: float,
    multi_label: bool,
) -> tuple[FloatArray, FloatArray | None]:
    """Loss weight of each row, and how often it comes in an epoch.

    Args:
        probs: the labels of all rows, probs_NK in pieces.
        keep_N: rows that are trained on.
        gold_N: rows with a reviewed label.
        weight: see `loss_weights`.
        balance: see `class_copies`; 0 for multi-label.
        gold_weight: how often a reviewed row comes for each time that another does.
        multi_label: whether the labels are independent of each other.

    Returns:
        ``(weights_N, copies_N)``: a row drawn at random has weight 1 on average; copies_N is None where every row
        comes once.
    """
    pieces = [(loss_weights(p, weight, multi_label=multi_label), p.argmax(axis=1), p.shape[1]) for p in probs]
    weights_N = np.concatenate([one[0] for one in pieces])
    copies_N: FloatArray = keep_N.astype(np.float32)
    copies_N[gold_N] *= gold_weight
    if balance:
        classes_N = np.concatenate([one[1] for one in pieces])
        copies_N[keep_N] *= class_copies(classes_N[keep_N], pieces[0][2], balance)
    weights_N = weights_N / np.average(weights_N, weights=copies_N)
    return weights_N.astype(np.float32), None if (copies_N == 1).all() else copies_N.astype(np.float32)
