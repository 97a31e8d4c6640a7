"""Several hypothesis templates: the logits of a class are the mean over them.

As the prompt ensembles of CLIP do it (Radford et al. 2021): wordings differ in which classes they favour, and their
mean favours none of them as much.

Legend: N rows, K labels, T templates, H = T * K hypotheses: those of the first template, then those of the second.
"""

from __future__ import annotations

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
