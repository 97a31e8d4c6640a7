"""The pairs that a row's answer hangs on, where logits are not exact.

A precision such as int8 moves every logit a little, which changes a row's answer only where two classes are about as
likely (multi-label: where entailment and contradiction of a class are). To run just those pairs again decides the row
as exactly as to run all of them, if no logit is off by more than half of what counts as close. It is the row's answer
by its raw logits that is decided, and where a bias is given also the answer after that is taken off; another bias, or a
mixing by reviewed rows, may make others close.

Legend: N rows, K labels, T templates, H = T * K hypotheses.
"""

from __future__ import annotations

import numpy as np

from zsd.confidence import BoolArray, FloatArray
from zsd.soft_labels.ensemble import mean_over_templates


def close_pairs(
    entailment_NH: FloatArray,
    contradiction_NH: FloatArray,
    *,
    templates: int,
    multi_label: bool,
    within: float,
    bias_K: FloatArray | None = None,
) -> BoolArray:
    """[N, H] the pairs on which the answer of their row hangs, if every logit may be off by half of ``within``.

    A class that was not asked about has minus infinity for logits and is none of them. Of a class all templates are.

    Args:
        entailment_NH: raw logits.
        contradiction_NH: raw logits.
        templates: T.
        multi_label: several classes may be true of a row.
        within: how close is close, as a difference of raw logits.
        bias_K: what will be taken off the entailment logits of single-label rows: also the answer after it is decided.
    """
    entailment_NK = mean_over_templates(entailment_NH, templates)
    if multi_label:
        contradiction_NK = mean_over_templates(contradiction_NH, templates)
        asked_NK = np.isfinite(entailment_NK)
        apart_NK = np.abs(
            np.subtract(entailment_NK, contradiction_NK, out=np.zeros_like(entailment_NK), where=asked_NK)
        )
        close_NK = asked_NK & (apart_NK <= within)
    else:
        close_NK = _close_to_the_best(entailment_NK, within)
        if bias_K is not None:
            close_NK |= _close_to_the_best(entailment_NK - bias_K, within)
    return np.tile(close_NK, (1, templates))


def _close_to_the_best(logits_NK: FloatArray, within: float) -> BoolArray:
    """The best classes of a row, where it is not one alone."""
    near_NK = logits_NK >= logits_NK.max(axis=1, keepdims=True) - within
    several_NK: BoolArray = near_NK & (near_NK.sum(axis=1, keepdims=True) > 1)
    return several_NK
