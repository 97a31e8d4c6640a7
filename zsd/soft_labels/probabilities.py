"""Raw NLI logits to probabilities. Nothing here runs the teacher: the logits are kept, so all of it can change later.

Legend: N rows, K labels.
"""

from __future__ import annotations

import numpy as np

from zsd.batching import FloatArray


def soft_labels(
    entailment_NK: FloatArray, contradiction_NK: FloatArray, *, multi_label: bool, temperature: float = 1.0
) -> FloatArray:
    """Class probabilities of each row, as the zero-shot pipeline of transformers defines them (Yin, Hay & Roth 2019).

    Single-label: softmax over the K entailment logits; a row sums to 1.
    Multi-label: for each class by itself, softmax of entailment against contradiction; a row does not sum to 1.

    Args:
        entailment_NK: raw entailment logits.
        contradiction_NK: raw contradiction (or not_entailment) logits; unused for single-label.
        multi_label: which of the two.
        temperature: logits are divided by it first; above 1 is softer (Hinton, Vinyals & Dean 2015).

    Returns:
        [N, K] float32 in [0, 1].

    Raises:
        ValueError: temperature is not positive, or the shapes differ.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, not {temperature}")
    if entailment_NK.shape != contradiction_NK.shape:
        raise ValueError(f"shapes differ: entailment {entailment_NK.shape}, contradiction {contradiction_NK.shape}")
    entailment = entailment_NK.astype(np.float64)
    # Differences first, then the division: a tiny temperature must not make infinity minus infinity.
    with np.errstate(over="ignore"):
        if multi_label:
            against = (contradiction_NK.astype(np.float64) - entailment) / temperature
            probs_NK = 1.0 / (1.0 + np.exp(np.clip(against, -700, 700)))
        else:
            shifted = np.exp((entailment - entailment.max(axis=1, keepdims=True)) / temperature)
            probs_NK = shifted / shifted.sum(axis=1, keepdims=True)
    result: FloatArray = probs_NK.astype(np.float32)
    return result
