"""Training of a linear student: logistic regression on soft labels, to the optimum, for the penalty that serves best.

scikit-learn's `LogisticRegression` takes hard labels only; with each row written K times, once a label and weighted by
its probability, its objective is the one that is minimized here on the rows as they are, by the same L-BFGS.

The TF-IDF matrix is held in memory, 12 bytes a term of a row; texts are not.

Legend: N rows, K labels, F terms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from scipy.special import expit, log_softmax, softmax
from sklearn.feature_extraction.text import TfidfVectorizer

from zsd.errors import InputError
from zsd.students.linear import TERMS, Weights, save_linear
from zsd.students.rows import Rows, SoftRows, Split

FloatArray = npt.NDArray[np.float32]
MOST_TERMS = 200_000
MOST_WEIGHTS = 4_000_000
"""F and F * K at most: L-BFGS holds some 25 copies of the weights, 8 bytes each."""
STRENGTHS = (1.0, 3.0, 10.0, 30.0)
"""C, the inverse of the penalty, from strong to weak: tried in turn until the loss on the rows to choose by rises."""
ITERATIONS = 100
TOLERANCE = 1e-5
"""Largest component of the gradient of the mean loss at which it is minimal."""


def fit_linear(
    rows: Rows,
    directory: Path,
    *,
    names: list[str],
    multi_label: bool,
    temperature: float,
    split: Split,
    write: Callable[[str], None],
) -> dict[str, Any]:
    """Train a linear student and write it; returns what its card says of the training. Nothing in it is random.

    Args:
        rows: with soft labels.
        directory: where to.
        names: K class names.
        multi_label: a logistic regression for each label instead of one over the labels.
        temperature: the one the soft labels were softened with: what is learned of them is sharpened by it again.
        split: of the rows; held-out ones take no part, and those to choose by choose the penalty.
        write: takes progress lines.

    Raises:
        InputError: the rows leave one side of the split empty, or hold no words.
    """
    most = min(MOST_TERMS, MOST_WEIGHTS // len(names))
    vectorizer = TfidfVectorizer(**TERMS, min_df=2, max_features=most)
    train, choosing = _Side(), _Side()
    try:
        train_NF = vectorizer.fit_transform(train.texts(split.side(rows, "training")))
    except ValueError as error:
        raise InputError(f"--student linear: {error}: no word occurs in two of the training rows") from None
    choosing_NF = vectorizer.transform(choosing.texts(split.side(rows, "choosing")))
    best, best_strength, best_loss = None, 0.0, np.inf
    weights: Weights | None = None
    for strength in STRENGTHS:
        weights = fit_logistic(
            train_NF, train.probs, train.weights, strength=strength, multi_label=multi_label, start=weights
        )
        losses_N, _ = _row_losses(choosing_NF, weights, choosing.probs, multi_label=multi_label)
        loss = float(losses_N.mean()) / (len(names) if multi_label else 1)
        write(f"train: linear, C {strength:g}, loss on rows to choose by {loss:.4f}")
        if loss >= best_loss:
            break
        best, best_strength, best_loss = weights, strength, loss
    assert best is not None, "the first loss is below infinity"
    save_linear(
        directory,
        names=names,
        multi_label=multi_label,
        terms=vectorizer.get_feature_names_out().tolist(),
        idf_F=vectorizer.idf_,
        weight_FK=temperature * best[:-1],
        bias_K=temperature * best[-1],
    )
    return {
        "train_rows": len(train.probs),
        "parameters": best.size,
        "training_arguments": {"C": best_strength, "terms": len(vectorizer.vocabulary_)},
    }


class _Side:
    """Takes labels and weights off rows whose texts go by.

    Attributes:
        probs: [N, K], complete when all texts have gone by.
        weights: [N].
    """

    def __init__(self) -> None:
        self._probs: list[FloatArray] = []
        self._weights: list[FloatArray] = []

    def texts(self, rows: Iterable[SoftRows]) -> Iterator[str]:
        """The texts of all rows."""
        for some in rows:
            self._probs.append(some.probs)
            self._weights.append(some.weights)
            yield from some.texts

    @property
    def probs(self) -> FloatArray:
        return np.concatenate(self._probs)

    @property
    def weights(self) -> FloatArray:
        return np.concatenate(self._weights)


def fit_logistic(
    terms_NF: csr_matrix,
    probs_NK: FloatArray,
    weights_N: FloatArray,
    *,
    strength: float,
    multi_label: bool,
    start: Weights | None = None,
) -> Weights:
    """Logistic regression on soft labels, multinomial or of each label by itself.

    Minimizes ``C * sum_n weights[n] * loss[n] + 1/2 * sum of the squared weights`` (the bias is free), as
    scikit-learn's does.

    Args:
        terms_NF: features.
        probs_NK: targets.
        weights_N: of the rows.
        strength: C.
        multi_label: one binary regression a label.
        start: where to begin.

    Returns:
        [F + 1, K]: the weights, and in the last row the bias.
    """
    shape = (terms_NF.shape[1] + 1, probs_NK.shape[1])
    scale = 1.0 / (strength * float(weights_N.sum()))

    def objective(flat: Weights) -> tuple[float, Weights]:
        weights = flat.reshape(shape)
        losses_N, off_NK = _row_losses(terms_NF, weights, probs_NK, multi_label=multi_label)
        off_NK *= weights_N[:, None]
        gradient = np.vstack([terms_NF.T @ off_NK, off_NK.sum(axis=0)]) / weights_N.sum()
        gradient[:-1] += scale * weights[:-1]
        penalty = scale / 2 * float((weights[:-1] ** 2).sum())
        return float((losses_N * weights_N).sum() / weights_N.sum()) + penalty, gradient.reshape(-1)

    first = np.zeros(shape) if start is None else start
    found = minimize(
        objective, first.reshape(-1), jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS, "gtol": TOLERANCE}
    )
    result: Weights = found.x.reshape(shape)
    return result


def _row_losses(
    terms_NF: csr_matrix, weights: Weights, probs_NK: FloatArray, *, multi_label: bool
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """[N] cross-entropy of each row (multi-label: summed over the labels), and [N, K] its gradient by the logits."""
    logits_NK = terms_NF @ weights[:-1] + weights[-1]
    if multi_label:
        losses_NK = np.logaddexp(0.0, logits_NK) - probs_NK * logits_NK
        return losses_NK.sum(axis=1), expit(logits_NK) - probs_NK
    losses_N = -(probs_NK * log_softmax(logits_NK, axis=1)).sum(axis=1)
    return losses_N, softmax(logits_NK, axis=1) * probs_NK.sum(axis=1, keepdims=True) - probs_NK
