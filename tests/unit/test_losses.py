from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from zsd.losses import binary_cross_entropy, distillation_loss, hard_labels, soft_cross_entropy

# Legend: N rows, K labels.


def logits_and_probs(seed: int, n: int, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits_NK = 3 * torch.randn(n, k, generator=generator)
    return logits_NK, torch.softmax(3 * torch.randn(n, k, generator=generator), dim=-1)


shapes = given(seed=st.integers(0, 2**31), n=st.integers(1, 6), k=st.integers(2, 7))


@shapes
@settings(max_examples=30, deadline=None)
def test_one_hot_targets_give_plain_cross_entropy(seed: int, n: int, k: int) -> None:
    logits_NK, probs_NK = logits_and_probs(seed, n, k)
    classes_N = probs_NK.argmax(dim=-1)
    one_hot_NK = F.one_hot(classes_N, k).float()
    expected_N = F.cross_entropy(logits_NK, classes_N, reduction="none")
    torch.testing.assert_close(soft_cross_entropy(logits_NK, one_hot_NK), expected_N)


@shapes
@settings(max_examples=30, deadline=None)
def test_the_teacher_itself_is_the_minimum_and_its_loss_the_entropy(seed: int, n: int, k: int) -> None:
    for temperature in (1.0, 2.5):
        logits_NK, _ = logits_and_probs(seed, n, k)
        targets_NK = torch.softmax(logits_NK / temperature, dim=-1)
        logits_NK.requires_grad_()
        loss_N = soft_cross_entropy(logits_NK, targets_NK, temperature)
        entropy_N = -torch.special.xlogy(targets_NK, targets_NK).sum(dim=-1)
        torch.testing.assert_close(loss_N, temperature**2 * entropy_N, rtol=1e-4, atol=1e-5)
        (gradient_NK,) = torch.autograd.grad(loss_N.sum(), logits_NK)
        assert gradient_NK.abs().max() < 1e-5
        elsewhere_N = soft_cross_entropy(logits_NK.detach() + torch.randn(n, k), targets_NK, temperature)
        assert (elsewhere_N >= loss_N.detach() - 1e-5).all()


@shapes
@settings(max_examples=30, deadline=None)
def test_a_constant_added_to_all_logits_of_a_row_changes_nothing(seed: int, n: int, k: int) -> None:
    logits_NK, probs_NK = logits_and_probs(seed, n, k)
    shifted_NK = logits_NK + 10 * torch.randn(n, 1)
    torch.testing.assert_close(
        soft_cross_entropy(shifted_NK, probs_NK), soft_cross_entropy(logits_NK, probs_NK), rtol=1e-4, atol=1e-4
    )


def test_the_square_of_the_temperature_keeps_the_gradient_in_the_high_temperature_limit() -> None:
    # Hinton et al. 2015, eq. 4: for large T the gradient is (z - v) / K, of zero-mean logits z and v, whatever T is.
    student_NK = torch.tensor([[0.3, -0.1, -0.2]], requires_grad=True)
    teacher_NK = torch.tensor([[-0.5, 0.1, 0.4]])
    loss_N = soft_cross_entropy(student_NK, torch.softmax(teacher_NK / 100, dim=-1), 100.0)
    (gradient_NK,) = torch.autograd.grad(loss_N.sum(), student_NK)
    torch.testing.assert_close(gradient_NK, (student_NK.detach() - teacher_NK) / 3, rtol=0.02, atol=1e-3)


def test_binary_cross_entropy_is_the_mean_over_the_labels_and_treats_them_one_by_one() -> None:
    logits_NK, _ = logits_and_probs(0, 4, 3)
    targets_NK = torch.rand(4, 3)
    expected = F.binary_cross_entropy(torch.sigmoid(logits_NK), targets_NK)
    torch.testing.assert_close(binary_cross_entropy(logits_NK, targets_NK).mean(), expected)
    alone = binary_cross_entropy(logits_NK[:, :1], targets_NK[:, :1])
    others = binary_cross_entropy(logits_NK[:, 1:], targets_NK[:, 1:])
    torch.testing.assert_close(binary_cross_entropy(logits_NK, targets_NK), (alone + 2 * others) / 3)


def test_binary_cross_entropy_is_smallest_at_the_teacher_even_where_rows_do_not_sum_to_one() -> None:
    logits_NK = torch.tensor([[4.0, 3.0, -5.0]], requires_grad=True)
    loss_N = binary_cross_entropy(logits_NK, torch.sigmoid(logits_NK.detach() / 2), 2.0)
    (gradient_NK,) = torch.autograd.grad(loss_N.sum(), logits_NK)
    assert gradient_NK.abs().max() < 1e-6


@pytest.mark.parametrize("multi_label", [False, True])
def test_losses_of_uneven_micro_batches_add_up_to_that_of_the_big_batch(multi_label: bool) -> None:
    logits_NK, probs_NK = logits_and_probs(1, 7, 3)
    whole = distillation_loss(logits_NK, probs_NK, multi_label=multi_label)
    parts = [
        distillation_loss(logits_NK[part], probs_NK[part], multi_label=multi_label, rows=7)
        for part in (slice(0, 4), slice(4, 7))
    ]
    torch.testing.assert_close(whole, torch.stack(parts).sum())


def test_bfloat16_logits_are_compared_in_float32() -> None:
    logits_NK, probs_NK = logits_and_probs(2, 3, 5)
    for loss in (soft_cross_entropy, binary_cross_entropy):
        rounded = logits_NK.bfloat16()
        np.testing.assert_array_equal(loss(rounded, probs_NK), loss(rounded.float(), probs_NK))


@pytest.mark.parametrize("multi_label", [False, True])
def test_hard_labels_are_mixed_in_by_their_share(multi_label: bool) -> None:
    logits_NK, probs_NK = logits_and_probs(0, 5, 4)
    settled_NK = hard_labels(probs_NK, multi_label=multi_label)
    assert set(settled_NK.flatten().tolist()) <= {0.0, 1.0}

    def loss(targets_NK: torch.Tensor, temperature: float, hard: float = 0.0) -> torch.Tensor:
        return distillation_loss(logits_NK, targets_NK, multi_label=multi_label, temperature=temperature, hard=hard)

    soft, settled = loss(probs_NK, 2.0), loss(settled_NK, 1.0)
    torch.testing.assert_close(loss(probs_NK, 2.0, 0.25), 0.75 * soft + 0.25 * settled)
    torch.testing.assert_close(loss(probs_NK, 2.0, 1.0), settled)


def test_a_row_counts_by_its_weight() -> None:
    logits_NK, probs_NK = logits_and_probs(1, 3, 4)
    weights_N = torch.tensor([2.0, 1.0, 0.0])
    whole = distillation_loss(logits_NK, probs_NK, multi_label=False, weights_N=weights_N)
    rows_N = soft_cross_entropy(logits_NK, probs_NK)
    torch.testing.assert_close(whole, (2 * rows_N[0] + rows_N[1]) / 3)
