"""Several hypothesis templates: the logits of a class are the mean over them.

As the prompt ensembles of CLIP do it (Radford et al. 2021): wordings differ in which classes they favour, and their
mean favours none of them as much.

Legend: N rows, K labels, T templates, H = T * K hypotheses: those of the first template, then those of the second.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zsd.batching import FloatArray


def mean_over_templates(logits_NH: FloatArray, templates: int) -> FloatArray:
    """[N, K] mean of the logits of each class; for one template, the logits themselves.

    Args:
        logits_NH: raw logits of every hypothesis.
        templates: T, which divides H.
    """
    if templates == 1:
        return logits_NH
    rows, hypotheses = logits_NH.shape
    logits_NTK = logits_NH.reshape(rows, templates, hypotheses // templates)
    mean_NK: FloatArray = logits_NTK.mean(axis=1, dtype=np.float64).astype(np.float32)
    return mean_NK


def probs_of_mean_logits(each: Sequence[FloatArray], *, multi_label: bool) -> FloatArray:
    """[N, K] the probabilities of the mean of the logits, from the [N, K] probabilities of each template.

    Exact for who gives probabilities only: softmax forgets a constant of the row, which no mean of logits brings back.
    """
    if len(each) == 1:
        return each[0]
    probs_TNK = np.clip(np.stack(each).astype(np.float64), 1e-30, 1.0)
    if multi_label:
        against_TNK = np.clip(1.0 - probs_TNK, 1e-30, 1.0)
        log_odds_NK = (np.log(probs_TNK) - np.log(against_TNK)).mean(axis=0)
        mean_NK = 1.0 / (1.0 + np.exp(-log_odds_NK))
    else:
        product_NK = np.exp(np.log(probs_TNK).mean(axis=0))
        mean_NK = product_NK / product_NK.sum(axis=1, keepdims=True)
    result_NK: FloatArray = mean_NK.astype(np.float32)
    return result_NK
