"""The pairs that a row's answer hangs on, where logits are not exact.

A precision such as int8 moves every logit a little, which changes a row's answer only where two classes are about as
likely (multi-label: where entailment and contradiction of a class are). To run just those pairs again decides the row
as exactly as to run all of them, if no logit is off by more than half of what counts as close. It is the row's answer
by its raw logits that is decided: a bias taken off them later, or a mixing, may make others close.

Legend: N rows, K labels, T templates, H = T * K hypotheses.
"""

from __future__ import annotations

import numpy as np

from zsd.confidence import BoolArray, FloatArray
from zsd.soft_labels.ensemble import mean_over_templates


def close_pairs(
    entailment_NH: FloatArray, contradiction_NH: FloatArray, *, templates: int, multi_label: bool, within: float
) -> BoolArray:
    """[N, H] the pairs on which the answer of their row hangs, if every logit may be off by half of ``within``.

    A class that was not asked about has minus infinity for logits and is none of them. Of a class all templates are.
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
        near_NK = entailment_NK >= entailment_NK.max(axis=1, keepdims=True) - within
        close_NK = near_NK & (near_NK.sum(axis=1, keepdims=True) > 1)
    return np.tile(close_NK, (1, templates))
