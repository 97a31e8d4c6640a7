"""The bias of a teacher for some classes, estimated from the logits of unlabelled rows alone.

Three estimates, of which each is what has to be taken off the logits so that something holds:

* `batch_bias`: the mean probability of every class is the same (batch calibration, Zhou et al. 2024, solved instead of
  approximated by one division). Right where the true classes are balanced, and wrong by as much as they are not.
* `information_bias`: the labels tell as much as they can about the rows (information maximization: Bridle, Heading &
  MacKay 1992; Krause, Perona & Gomes 2010). Every row should be sure of its class, and no class should be forgotten:
  the boundaries between classes move to where there are few rows. It does not ask for balanced classes.
* `contextual_bias`: a text that says nothing is of no class (contextual calibration, Zhao et al. 2021).

The first two are of single-label logits; a class of a multi-label store is a problem of two, it and not it.

Legend: N rows, K classes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from zsd.batching import FloatArray

Doubles = npt.NDArray[np.float64]
Estimate = Callable[[FloatArray], Doubles]

SHARPNESS = 0.2
"""Temperature of `information_bias`, as a share of the mean margin between a row's two best classes: about as hard as
the top class itself, whatever the scale of the teacher's logits is."""

DIVERSITY = 0.6
"""Weight of the entropy of the classes against the entropy of the rows. At 1 it is the mutual information, which
prefers balanced classes; below, rows that are sure count more, and the true balance may be skewed."""

BATCH_STEPS = 500
BATCH_TOLERANCE = 1e-9


def softmax(logits_NK: FloatArray | Doubles, temperature: float = 1.0) -> Doubles:
    """[N, K] rows that sum to 1, in double precision."""
    scaled_NK = np.asarray(logits_NK, dtype=np.float64) / temperature
    powers_NK = np.exp(scaled_NK - scaled_NK.max(axis=1, keepdims=True))
    probs_NK: Doubles = powers_NK / powers_NK.sum(axis=1, keepdims=True)
    return probs_NK


def centred(bias_K: Doubles) -> Doubles:
    """The same bias with mean 0: a constant changes no softmax."""
    result_K: Doubles = bias_K - bias_K.mean()
    return result_K


def margin(logits_NK: FloatArray | Doubles) -> float:
    """Mean difference between the two largest logits of a row."""
    top_N2 = np.partition(np.asarray(logits_NK, dtype=np.float64), -2, axis=1)[:, -2:]
    return float(np.abs(top_N2[:, 1] - top_N2[:, 0]).mean())


def batch_bias(logits_NK: FloatArray) -> Doubles:
    """[K] what makes the mean probability of every class 1 / K.

    Its first step divides the mean probabilities out, which is batch calibration as published; after it the means are
    more alike but not yet equal, and the step is repeated until they are.
    """
    labels = logits_NK.shape[1]
    bias_K = np.zeros(labels)
    for _ in range(BATCH_STEPS):
        step_K = np.log(np.maximum(softmax(logits_NK - bias_K).mean(axis=0), 1e-300) * labels)
        bias_K += step_K
        if np.abs(step_K).max() < BATCH_TOLERANCE:
            break
    return centred(bias_K)


def information_bias(logits_NK: FloatArray, *, sharpness: float = SHARPNESS, diversity: float = DIVERSITY) -> Doubles:
    """[K] what makes the labels most informative: the maximum of diversity * H(classes) - mean H(row), from 0 uphill.

    The result times c is that of logits times c, and columns that change places take their bias along.
    """
    labels = logits_NK.shape[1]
    temperature = sharpness * margin(logits_NK)
    if temperature == 0:
        return np.zeros(labels)
    loss = information_loss(logits_NK, temperature=temperature, diversity=diversity)
    found = minimize(loss, np.zeros(labels), jac=True, method="L-BFGS-B")
    return centred(np.asarray(found.x, dtype=np.float64))


def information_loss(
    logits_NK: FloatArray, *, temperature: float, diversity: float
) -> Callable[[Doubles], tuple[float, Doubles]]:
    """What `information_bias` makes as small as it can: a function of the bias [K] that returns value and gradient."""

    def loss(bias_K: Doubles) -> tuple[float, Doubles]:
        probs_NK = softmax(logits_NK - bias_K, temperature)
        logs_NK = np.log(probs_NK + 1e-12)
        row_N = -(probs_NK * logs_NK).sum(axis=1)
        mean_K = probs_NK.mean(axis=0)
        log_mean_K = np.log(mean_K + 1e-12)
        gained = diversity * -(mean_K * log_mean_K).sum() - row_N.mean()
        of_classes_K = (probs_NK * (log_mean_K - probs_NK @ log_mean_K[:, None])).mean(axis=0)
        of_rows_K = (probs_NK * (logs_NK + row_N[:, None])).mean(axis=0)
        return -gained, (of_rows_K - diversity * of_classes_K) / temperature

    return loss


def contextual_bias(logits_MK: FloatArray, *, multi_label: bool) -> Doubles:
    """[K] what the teacher answers to M texts that say nothing: the mean of their logits."""
    mean_K: Doubles = np.asarray(logits_MK, dtype=np.float64).mean(axis=0)
    return mean_K if multi_label else centred(mean_K)
