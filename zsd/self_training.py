"""Self-training: the labels of the next round, made of what the student and the teacher say of the same rows.

A student smooths its teacher's mistakes away, as far as they contradict what it says of similar texts; trained on its
own sharpened answers it moves on in that direction (Xie, Girshick & Farhadi 2016; Meng et al. 2020, LOTClass). Where it
contradicts its teacher it may only repeat a mistake of its own: such rows are left out of the round.

Legend: N rows, K labels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from zsd.confidence import BoolArray, FloatArray, differs


def next_labels(
    student_NK: FloatArray, teacher_NK: FloatArray, frequency_K: FloatArray, *, multi_label: bool
) -> tuple[FloatArray, BoolArray]:
    """Labels of some rows for the next round, and which of the rows are trained on.

    Args:
        student_NK: the student's probabilities.
        teacher_NK: the labels that it was trained on at first.
        frequency_K: mean of the student's probabilities over all rows of the corpus; all equal where classes are not to
            be evened out. Not used for multi-label.
        multi_label: whether the labels are independent of each other.

    Returns:
        ``(labels_NK, keep_N)``. Single-label: ``q_k^2 / f_k``, scaled to sum to 1 (the target distribution of Xie et
        al.). Multi-label: yes and no of each label sharpened in the same way. A row is kept where student and teacher
        decide alike: for the same class, or on every label.
    """
    if multi_label:
        sharp_NK = student_NK**2 / (student_NK**2 + (1 - student_NK) ** 2)
    else:
        sharp_NK = student_NK**2 / np.maximum(frequency_K, 1e-6)
        sharp_NK = sharp_NK / sharp_NK.sum(axis=1, keepdims=True)
    return sharp_NK.astype(np.float32), ~differs(student_NK, teacher_NK, multi_label=multi_label)


def gentler(defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Training arguments of a round of self-training, which starts from a trained student.

    Args:
        defaults: of the training before it: a third of its epochs, at half its learning rate.
    """
    epochs = float(max(1, math.ceil(defaults["num_train_epochs"] / 3)))
    return {**defaults, "num_train_epochs": epochs, "learning_rate": defaults["learning_rate"] / 2}
