from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from zsd.soft_labels import soft_labels

LOGITS = arrays(np.float32, (3, 4), elements=st.floats(-30, 30, width=32))
TEMPERATURES = st.sampled_from([1e-300, 1e-3, 0.5, 1.0, 4.0, 1e6, float("inf")])


@given(entailment=LOGITS, contradiction=LOGITS, temperature=TEMPERATURES)
def test_single_label_rows_sum_to_one_and_ignore_contradiction(
    entailment: Any, contradiction: Any, temperature: float
) -> None:
    probs = soft_labels(entailment, contradiction, multi_label=False, temperature=temperature)
    assert probs.dtype == np.float32 and (probs >= 0).all()
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(
        probs, soft_labels(entailment, -contradiction, multi_label=False, temperature=temperature)
    )


@given(entailment=LOGITS, constant=st.floats(-20, 20))
def test_single_label_does_not_change_with_a_constant(entailment: Any, constant: float) -> None:
    zeros = np.zeros_like(entailment)
    shifted = (entailment.astype(np.float64) + constant).astype(np.float64)
    np.testing.assert_allclose(
        soft_labels(shifted, zeros, multi_label=False), soft_labels(entailment, zeros, multi_label=False), atol=1e-6
    )


@given(entailment=LOGITS, contradiction=LOGITS, temperature=st.sampled_from([0.5, 1.0, 3.0]))
def test_multi_label_is_the_sigmoid_of_the_difference(entailment: Any, contradiction: Any, temperature: float) -> None:
    probs = soft_labels(entailment, contradiction, multi_label=True, temperature=temperature)
    expected = 1 / (1 + np.exp((contradiction.astype(np.float64) - entailment.astype(np.float64)) / temperature))
    np.testing.assert_allclose(probs, expected, atol=1e-6)


def test_high_temperature_is_uniform_and_low_temperature_takes_the_top_class() -> None:
    entailment = np.array([[2.0, -1.0, 0.5, 1.9]], dtype=np.float32)
    against = -entailment
    soft = [soft_labels(entailment, against, multi_label=m, temperature=1e9) for m in (False, True)]
    np.testing.assert_allclose(soft[0], 0.25, atol=1e-6)
    np.testing.assert_allclose(soft[1], 0.5, atol=1e-6)
    hard = [soft_labels(entailment, against, multi_label=m, temperature=1e-310) for m in (False, True)]
    assert hard[0].tolist() == [[1, 0, 0, 0]]
    assert hard[1].tolist() == [[1, 0, 1, 1]]


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_that_is_not_positive_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature must be positive"):
        soft_labels(
            np.zeros((1, 2), np.float32), np.zeros((1, 2), np.float32), multi_label=False, temperature=temperature
        )


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        soft_labels(np.zeros((1, 2), np.float32), np.zeros((2, 2), np.float32), multi_label=True)
