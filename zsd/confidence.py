"""What a row's answer is, how sure it is, and whether two answers are the same.

Single-label: the answer is the most probable class, as sure as that class is probable if it can only be this one or the
next (best versus second best, Joshi et al. 2009): what the others have says nothing of which class is the top one. For
a student of AG News that was to agree with its teacher on 98 % of the rows, 11.0 % had to be deferred so, and 12.5 % by
the top class's own probability. Multi-label: the answer is all K yes-or-no answers together; it is as sure as the least
sure of them, and another one as soon as one of them is.

Legend: N rows, K labels.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

CONFIDENCE = "best against second best"
"""What `confidence` measures: a threshold that was fitted on another measure means nothing here."""

DECISION = 0.5
"""Probability from which on a class of a multi-label row counts as true."""


def confidence(probs_NK: FloatArray, *, multi_label: bool) -> FloatArray:
    """[N] in [1/2, 1]: how sure each row's answer is."""
    if multi_label:
        surest: FloatArray = np.maximum(probs_NK, 1 - probs_NK).min(axis=1)
        return surest
    second_N, top_N = np.partition(probs_NK, -2, axis=1)[:, -2:].T
    of_the_two: FloatArray = top_N / (top_N + second_N)
    return of_the_two


def differs(a_NK: FloatArray, b_NK: FloatArray, *, multi_label: bool) -> BoolArray:
    """[N] where two models' answers are not the same."""
    if multi_label:
        unlike: BoolArray = ((a_NK >= DECISION) != (b_NK >= DECISION)).any(axis=1)
        return unlike
    different: BoolArray = a_NK.argmax(axis=1) != b_NK.argmax(axis=1)
    return different
