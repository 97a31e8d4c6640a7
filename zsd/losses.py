"""Distillation losses: how far a student's logits are from the teacher's soft labels.

Legend: N rows, K labels, T temperature.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from zsd.confidence import DECISION


def soft_cross_entropy(logits_NK: Tensor, targets_NK: Tensor, temperature: float = 1.0) -> Tensor:
    """Cross-entropy of each row against a distribution over the labels (Hinton, Vinyals & Dean 2015).

    ``-T^2 * sum_k targets[n, k] * log_softmax(logits[n] / T)[k]``. The student's logits are divided by T here; the
    targets are taken as they are, so the caller softens the teacher's logits by the same T. The factor T^2 keeps the
    size of the gradient about the same whatever T is. Where the targets sum to 1 the smallest value of a row is
    T^2 times their entropy, reached at ``softmax(logits / T) == targets``; its gradient is that of the KL divergence.

    Args:
        logits_NK: the student's raw logits.
        targets_NK: the teacher's probabilities, each row summing to 1, softened by T.
        temperature: T > 0; 1 is plain cross-entropy.

    Returns:
        [N] loss of each row, in nats where T is 1.
    """
    log_probs_NK = F.log_softmax(logits_NK.float() / temperature, dim=-1)
    return -(targets_NK * log_probs_NK).sum(dim=-1) * temperature**2


def binary_cross_entropy(logits_NK: Tensor, targets_NK: Tensor, temperature: float = 1.0) -> Tensor:
    """Multi-label loss: each label is a yes/no question of its own, averaged over the K labels.

    ``T^2 * mean_k -(t log sigmoid(x / T) + (1 - t) log sigmoid(-x / T))``, with the same convention for T as
    `soft_cross_entropy`. The targets of a row need not sum to anything, which is why a softmax does not serve.

    Args:
        logits_NK: the student's raw logits.
        targets_NK: the teacher's probability of each label, in [0, 1], softened by T.
        temperature: T > 0; 1 is plain binary cross-entropy.

    Returns:
        [N] loss of each row, in nats a label where T is 1.
    """
    each_NK = F.binary_cross_entropy_with_logits(logits_NK.float() / temperature, targets_NK, reduction="none")
    return each_NK.mean(dim=-1) * temperature**2


def hard_labels(targets_NK: Tensor, *, multi_label: bool) -> Tensor:
    """The decisions behind soft labels, as 0 and 1: the best class of a row, or each label from probability 0.5 on."""
    if multi_label:
        return (targets_NK >= DECISION).to(targets_NK.dtype)
    return F.one_hot(targets_NK.argmax(dim=-1), targets_NK.shape[-1]).to(targets_NK.dtype)


def distillation_loss(
    logits_NK: Tensor,
    targets_NK: Tensor,
    *,
    multi_label: bool,
    temperature: float = 1.0,
    hard: float = 0.0,
    weights_N: Tensor | None = None,
    rows: Tensor | float | None = None,
) -> Tensor:
    """The training loss: the mean of the row losses, as a scalar.

    Args:
        logits_NK: the student's raw logits.
        targets_NK: the teacher's probabilities.
        multi_label: `binary_cross_entropy` instead of `soft_cross_entropy`.
        temperature: T > 0.
        hard: share in [0, 1] of the loss against `hard_labels`, at temperature 1.
        weights_N: each row's loss is multiplied by it; None: by 1.
        rows: divide the sum by this many rows instead of N. With gradient accumulation it is the number of rows of
            all micro-batches together: their losses, and so their gradients, then add up to those of the big batch.
    """
    loss = binary_cross_entropy if multi_label else soft_cross_entropy
    row_losses_N = loss(logits_NK, targets_NK, temperature)
    if hard:
        row_losses_N = torch.lerp(row_losses_N, loss(logits_NK, hard_labels(targets_NK, multi_label=multi_label)), hard)
    if weights_N is not None:
        row_losses_N = row_losses_N * weights_N
    return row_losses_N.sum() / (len(row_losses_N) if rows is None else rows)
