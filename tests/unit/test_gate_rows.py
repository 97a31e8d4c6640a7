from __future__ import annotations

import numpy as np

from zsd.gate_rows import aligned


def test_probabilities_follow_the_names_and_unknown_classes_get_0() -> None:
    probs_NK = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]], dtype=np.float32)
    found = aligned(probs_NK, ("a", "b", "gone"), ("new", "b", "a"))
    np.testing.assert_array_equal(found, probs_NK[:, [0, 1, 0]] * [0, 1, 1])
    np.testing.assert_array_equal(aligned(probs_NK, ("a", "b", "c"), ("a", "b", "c")), probs_NK)
