from __future__ import annotations

import numpy as np
import pytest

from zsd.soft_labels import soft_labels
from zsd.soft_labels.ensemble import mean_over_templates, probs_of_mean_logits

# Legend: N rows, K labels, H hypotheses.


def test_one_template_is_its_own_mean_and_several_are_averaged_class_by_class() -> None:
    logits_NH = np.arange(12, dtype=np.float32).reshape(2, 6)
    assert mean_over_templates(logits_NH, 1) is logits_NH
    np.testing.assert_array_equal(mean_over_templates(logits_NH, 2), [[1.5, 2.5, 3.5], [7.5, 8.5, 9.5]])
    assert mean_over_templates(np.empty((0, 6), np.float32), 3).shape == (0, 2)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("templates", [1, 3])
def test_probabilities_are_combined_as_their_logits_would_be(multi_label: bool, templates: int) -> None:
    generator = np.random.default_rng(0)
    pairs = [[generator.normal(size=(5, 4)).astype(np.float32) for _ in range(2)] for _ in range(templates)]
    each = [soft_labels(*pair, multi_label=multi_label) for pair in pairs]
    means = [np.mean(side, axis=0, dtype=np.float32) for side in zip(*pairs, strict=True)]
    expected_NK = soft_labels(*means, multi_label=multi_label)
    np.testing.assert_allclose(probs_of_mean_logits(each, multi_label=multi_label), expected_NK, atol=1e-5)
