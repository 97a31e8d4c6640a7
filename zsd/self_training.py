"""Self-training: the labels of the next round, made of what the student and the teacher say of the same rows.

A student smooths its teacher's mistakes away, as far as they contradict what it says of similar texts; trained on its
own sharpened answers it moves on in that direction (Xie, Girshick & Farhadi 2016; Meng et al. 2020, LOTClass). Where it
would only repeat its own mistakes, at rows of which it is not sure and contradicts its teacher, it is given no label.

Legend: N rows, K labels.
"""

from __future__ import annotations

import numpy as np

from zsd.inference import FloatArray
from zsd.training_data import BoolArray

SURE = 0.8
"""Confidence from which a student is trained on its own answer though the teacher contradicts it."""
STUDENT_SHARE = 0.5
"""Share of the student's sharpened answer in the next label; the teacher's is the rest."""


def next_labels(
    student_NK: FloatArray, teacher_NK: FloatArray, frequency_K: FloatArray, *, multi_label: bool
) -> tuple[FloatArray, BoolArray]:
    """Labels of some rows for the next round, and which of the rows are trained on.

    Args:
        student_NK: the student's probabilities.
        teacher_NK: the labels that it was trained on at first.
        frequency_K: mean of the student's probabilities over all rows of the corpus.
        multi_label: whether the labels are independent of each other.

    Returns:
        ``(labels_NK, keep_N)``. Single-label: ``q_k^2 / f_k``, scaled to sum to 1 (the target distribution of Xie et
        al.), mixed with the teacher's label. Multi-label: the same for yes and no of each label. A row is kept where
        the two have the same best class (the same decisions) or the student is sure of its own.
    """
    if multi_label:
        sharp_NK = student_NK**2 / (student_NK**2 + (1 - student_NK) ** 2)
        agree_N = ((student_NK >= 0.5) == (teacher_NK >= 0.5)).all(axis=1)
        sure_N = np.maximum(student_NK, 1 - student_NK).min(axis=1) >= SURE
    else:
        sharp_NK = student_NK**2 / np.maximum(frequency_K, 1e-6)
        sharp_NK = sharp_NK / sharp_NK.sum(axis=1, keepdims=True)
        agree_N = student_NK.argmax(axis=1) == teacher_NK.argmax(axis=1)
        sure_N = student_NK.max(axis=1) >= SURE
    labels_NK = STUDENT_SHARE * sharp_NK + (1 - STUDENT_SHARE) * teacher_NK
    return labels_NK.astype(np.float32), agree_N | sure_N
