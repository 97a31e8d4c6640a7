from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.optimize import check_grad

from tests.unit.synthetic import accuracy, synthetic
from zsd.soft_labels import bias as module
from zsd.soft_labels.bias import batch_bias, contextual_bias, information_bias, softmax
from zsd.soft_labels.trust import trusted_bias

# Legend: N rows, K classes.

BIASED = (0.5, 0.0, 0.5, -1.5)
BALANCED = (0.25, 0.25, 0.25, 0.25)


def halves(rows: int) -> npt.NDArray[np.bool_]:
    """[N, 4] four divisions of the rows."""
    return np.random.default_rng(0).random((rows, 4)) < 0.5


def test_after_batch_calibration_the_mean_of_every_class_is_the_same() -> None:
    logits_NK, _ = synthetic((0.6, 0.2, 0.15, 0.05), BIASED)
    means_K = softmax(logits_NK - batch_bias(logits_NK)).mean(axis=0)
    np.testing.assert_allclose(means_K, 0.25, atol=1e-6)


@pytest.mark.parametrize("estimate", [batch_bias, information_bias])
def test_the_bias_follows_its_column_and_no_order_of_rows(estimate: module.Estimate) -> None:
    logits_NK, _ = synthetic((0.4, 0.3, 0.2, 0.1), BIASED)
    bias_K = estimate(logits_NK)
    columns = [2, 0, 3, 1]
    np.testing.assert_allclose(estimate(logits_NK[:, columns]), bias_K[columns], atol=1e-3)
    rows = np.random.default_rng(0).permutation(len(logits_NK))
    np.testing.assert_allclose(estimate(logits_NK[rows]), bias_K, atol=1e-3)


@pytest.mark.parametrize("estimate", [batch_bias, information_bias])
def test_what_is_added_to_every_logit_of_a_class_is_found_again(estimate: module.Estimate) -> None:
    logits_NK, _ = synthetic(BALANCED, (0.0, 0.0, 0.0, 0.0))
    added_K = np.array([0.3, -0.2, 0.1, -0.2])
    found_K = estimate((logits_NK + added_K).astype(np.float32)) - estimate(logits_NK)
    np.testing.assert_allclose(found_K, added_K, atol=0.1)


def test_the_information_bias_scales_with_the_logits() -> None:
    logits_NK, _ = synthetic((0.4, 0.3, 0.2, 0.1), BIASED)
    np.testing.assert_allclose(information_bias(4 * logits_NK), 4 * information_bias(logits_NK), atol=5e-3)


def test_logits_that_say_nothing_have_no_bias() -> None:
    for estimate in (batch_bias, information_bias):
        np.testing.assert_allclose(estimate(np.ones((50, 3), np.float32)), np.zeros(3), atol=1e-12)


def test_the_gradient_is_that_of_the_loss() -> None:
    logits_NK, _ = synthetic(BALANCED, BIASED, rows=60)
    point_K = np.array([0.3, -0.1, 0.2, -0.4])
    loss = module.information_loss(logits_NK, temperature=0.7, diversity=0.6)
    assert check_grad(lambda b: loss(b)[0], lambda b: loss(b)[1], point_K) < 1e-5


def test_texts_that_say_nothing_tell_the_bias() -> None:
    logits_MK = np.array([[1.0, 2.0], [3.0, 0.0]], np.float32)
    np.testing.assert_allclose(contextual_bias(logits_MK, multi_label=False), [0.5, -0.5])
    np.testing.assert_allclose(contextual_bias(logits_MK, multi_label=True), [2.0, 1.0])


@pytest.mark.parametrize("seed", range(3))
def test_on_balanced_classes_a_true_bias_is_taken_off(seed: int) -> None:
    logits_NK, classes_N = synthetic(BALANCED, BIASED, seed=seed)
    bias_K, evidence = trusted_bias(logits_NK, halves(len(logits_NK)))
    assert evidence.refused is None and evidence.batch_trusted
    assert accuracy(logits_NK - bias_K, classes_N) > accuracy(logits_NK, classes_N) + 0.03
    assert evidence.shrinkage > 0.9 and evidence.rows == len(logits_NK)


@pytest.mark.parametrize("balance", [(0.55, 0.15, 0.15, 0.15), (0.4, 0.4, 0.1, 0.1)])
@pytest.mark.parametrize("seed", range(2))
def test_on_skewed_classes_batch_calibration_is_not_trusted_and_the_correction_does_no_harm(
    balance: tuple[float, ...], seed: int
) -> None:
    logits_NK, classes_N = synthetic(balance, (0.0, 0.0, 0.0, 0.0), seed=seed)
    bias_K, evidence = trusted_bias(logits_NK, halves(len(logits_NK)))
    plain = accuracy(logits_NK, classes_N)
    assert not evidence.batch_trusted
    assert accuracy(logits_NK - batch_bias(logits_NK), classes_N) < plain - 0.05
    assert accuracy(logits_NK - bias_K, classes_N) > plain - 0.015


def test_a_bias_is_taken_off_skewed_classes_too() -> None:
    logits_NK, classes_N = synthetic((0.2, 0.2, 0.2, 0.4), BIASED)
    bias_K, evidence = trusted_bias(logits_NK, halves(len(logits_NK)))
    assert evidence.refused is None
    assert accuracy(logits_NK - bias_K, classes_N) > accuracy(logits_NK, classes_N) + 0.05


def test_where_one_class_has_nearly_all_rows_nothing_is_corrected() -> None:
    logits_NK, _ = synthetic((0.91, 0.03, 0.03, 0.03), (0.0, 0.0, 0.0, 0.0))
    bias_K, evidence = trusted_bias(logits_NK, halves(len(logits_NK)))
    assert not bias_K.any()
    assert evidence.refused is not None and "spread over" in evidence.refused


def test_too_few_rows_and_rows_that_disagree_correct_nothing() -> None:
    logits_NK, _ = synthetic(BALANCED, BIASED)
    bias_K, evidence = trusted_bias(logits_NK[:30], halves(30))
    assert not bias_K.any() and evidence.refused == "30 rows are too few: 40 are needed"
    noise_NK = np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32)
    bias_K, evidence = trusted_bias(noise_NK, halves(60))
    assert not bias_K.any() and evidence.refused is not None and "halves" in evidence.refused
