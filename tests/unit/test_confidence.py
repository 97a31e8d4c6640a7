from __future__ import annotations

import numpy as np

from zsd.confidence import confidence, differs


def test_a_multi_label_row_is_as_sure_as_its_least_sure_answer_and_agrees_as_a_whole() -> None:
    student_NK = np.array([[0.9, 0.1, 0.6], [0.9, 0.1, 0.2]], dtype=np.float32)
    np.testing.assert_allclose(confidence(student_NK, multi_label=True), [0.6, 0.8])
    teacher_NK = np.array([[0.9, 0.1, 0.4], [0.6, 0.4, 0.0]], dtype=np.float32)
    assert differs(student_NK, teacher_NK, multi_label=True).tolist() == [True, False]
    assert differs(student_NK, teacher_NK, multi_label=False).tolist() == [False, False]
    np.testing.assert_allclose(confidence(student_NK, multi_label=False), [0.9, 0.9])
