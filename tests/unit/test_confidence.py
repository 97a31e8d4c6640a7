from __future__ import annotations

import numpy as np

from zsd.confidence import confidence, differs


def test_a_multi_label_row_is_as_sure_as_its_least_sure_answer_and_agrees_as_a_whole() -> None:
    student_NK = np.array([[0.9, 0.1, 0.6], [0.9, 0.1, 0.2]], dtype=np.float32)
    np.testing.assert_allclose(confidence(student_NK, multi_label=True), [0.6, 0.8])
    teacher_NK = np.array([[0.9, 0.1, 0.4], [0.6, 0.4, 0.0]], dtype=np.float32)
    assert differs(student_NK, teacher_NK, multi_label=True).tolist() == [True, False]
    assert differs(student_NK, teacher_NK, multi_label=False).tolist() == [False, False]


def test_a_row_is_as_sure_as_its_top_class_is_against_the_next_whatever_the_others_have() -> None:
    student_NK = np.array([[0.3, 0.6, 0.1], [0.05, 0.3, 0.65], [0.4, 0.2, 0.4], [0.0, 1.0, 0.0]], dtype=np.float32)
    sure_N = confidence(student_NK, multi_label=False)
    np.testing.assert_allclose(sure_N, [0.6 / 0.9, 0.65 / 0.95, 0.5, 1.0], rtol=1e-6)
    two_NK = np.array([[0.8, 0.2], [0.1, 0.9]], dtype=np.float32)
    np.testing.assert_allclose(confidence(two_NK, multi_label=False), [0.8, 0.9])
