from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from zsd.inference import FloatArray
from zsd.self_training import gentler, next_labels

# Legend: N rows, K labels.


def random_probs(seed: int, rows: int = 30, labels: int = 4) -> FloatArray:
    return np.random.default_rng(seed).dirichlet(np.ones(labels), size=rows).astype(np.float32)


@given(seed=st.integers(0, 99), multi_label=st.booleans())
@settings(max_examples=40, deadline=None)
def test_labels_are_probabilities_and_only_rows_decided_alike_are_kept(seed: int, multi_label: bool) -> None:
    student_NK, teacher_NK = random_probs(seed), random_probs(seed + 1)
    labels_NK, keep_N = next_labels(student_NK, teacher_NK, student_NK.mean(axis=0), multi_label=multi_label)
    assert ((labels_NK >= 0) & (labels_NK <= 1)).all()
    if multi_label:
        alike_N = ((student_NK >= 0.5) == (teacher_NK >= 0.5)).all(axis=1)
    else:
        np.testing.assert_allclose(labels_NK.sum(axis=1), 1, rtol=1e-5)
        alike_N = student_NK.argmax(axis=1) == teacher_NK.argmax(axis=1)
    np.testing.assert_array_equal(keep_N, alike_N)


def test_labels_are_sharper_than_the_student_and_rare_classes_do_not_die_out() -> None:
    student_NK = np.array([[0.6, 0.4], [0.6, 0.4]], dtype=np.float32)
    equal = np.array([0.5, 0.5], dtype=np.float32)
    even, _ = next_labels(student_NK, student_NK, equal, multi_label=False)
    assert (even[:, 0] > student_NK[:, 0]).all()
    rare, _ = next_labels(student_NK, student_NK, np.array([0.9, 0.1], dtype=np.float32), multi_label=False)
    assert (rare[:, 1] > even[:, 1]).all()
    yes, _ = next_labels(student_NK, student_NK, equal, multi_label=True)
    assert (yes[:, 0] > student_NK[:, 0]).all()
    assert (yes[:, 1] < student_NK[:, 1]).all()


def test_a_round_is_gentler_than_the_first_training() -> None:
    assert gentler({"num_train_epochs": 15.0, "learning_rate": 1e-4, "seed": 3}) == {
        "num_train_epochs": 5.0,
        "learning_rate": 5e-5,
        "seed": 3,
    }
    assert gentler({"num_train_epochs": 1.0, "learning_rate": 1e-4})["num_train_epochs"] == 1
