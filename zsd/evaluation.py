"""How good probabilities are: against gold labels, and against another model's probabilities. Pure functions on arrays.

Everything returned is plain Python (dicts, lists, floats, ints, None) and goes into JSON as it is.

Legend: N rows, K labels, B calibration bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, confusion_matrix, precision_recall_fscore_support

from zsd.confidence import DECISION as DECISION
from zsd.confidence import confidence
from zsd.errors import InputError
from zsd.inference import FloatArray, IntArray
from zsd.selective import risk_coverage

CALIBRATION_BINS = 15


def classification_metrics(
    gold: IntArray, probs_NK: FloatArray, names: Sequence[str], *, thresholds_K: FloatArray | None = None
) -> dict[str, Any]:
    """Every figure of the report for one model on gold rows.

    Args:
        gold: gold_N, the class of each row; or gold_NK of 0 and 1 for multi-label.
        probs_NK: the model's probabilities.
        names: K class names.
        thresholds_K: for multi-label: the probability from which on each class counts as true; one half where None.

    Returns:
        Single-label: ``rows``, ``accuracy``, ``macro_f1`` (over the classes that occur among gold or predictions),
        ``per_class`` (name -> precision, recall, f1, support), ``confusion`` (K x K counts, a row a gold class),
        ``expected_calibration_error`` and ``calibration_bins`` (see `calibration`), of the top-1 confidence, and
        ``risk_coverage`` (see `zsd.selective`).
        Multi-label: ``rows``, ``micro_f1`` and ``macro_f1`` at the thresholds, ``subset_accuracy`` (all K right),
        ``mean_average_precision`` (over the classes with a gold row; None where no class has one), ``per_class``
        (also with average_precision), the calibration of all N * K decisions, and ``risk_coverage`` of the rows, one
        of which is right where all K are.
    """
    if gold.ndim == 2:
        return _multi_label_metrics(gold, probs_NK, list(names), DECISION if thresholds_K is None else thresholds_K)
    predicted_N = probs_NK.argmax(axis=1)
    labels = list(range(len(names)))
    occurring = np.union1d(gold, predicted_N)
    correct_N = predicted_N == gold
    return {
        "rows": len(gold),
        "accuracy": float(correct_N.mean()),
        "macro_f1": _f1(gold, predicted_N, labels=occurring, average="macro"),
        "per_class": _per_class(gold, predicted_N, list(names)),
        "confusion": confusion_matrix(gold, predicted_N, labels=labels).tolist(),
        **calibration(probs_NK.max(axis=1), correct_N),
        "risk_coverage": risk_coverage(confidence(probs_NK, multi_label=False), correct_N),
    }


def _multi_label_metrics(
    gold_NK: IntArray, probs_NK: FloatArray, names: list[str], thresholds_K: FloatArray | float
) -> dict[str, Any]:
    predicted_NK = (probs_NK >= thresholds_K).astype(np.int64)
    right_N = (predicted_NK == gold_NK).all(axis=1)
    occurring = np.flatnonzero((gold_NK | predicted_NK).any(axis=0))
    per_class = _per_class(gold_NK, predicted_NK, names)
    precisions: list[float] = []
    for k, name in enumerate(names):
        found = bool(gold_NK[:, k].any())
        precision = float(average_precision_score(gold_NK[:, k], probs_NK[:, k])) if found else None
        per_class[name]["average_precision"] = precision
        precisions += [] if precision is None else [precision]
    return {
        "rows": len(gold_NK),
        "micro_f1": _f1(gold_NK, predicted_NK, labels=occurring, average="micro"),
        "macro_f1": _f1(gold_NK, predicted_NK, labels=occurring, average="macro"),
        "subset_accuracy": float(right_N.mean()),
        "mean_average_precision": float(np.mean(precisions)) if precisions else None,
        "per_class": per_class,
        **calibration(probs_NK.reshape(-1), gold_NK.reshape(-1) == 1),
        "risk_coverage": risk_coverage(confidence(probs_NK, multi_label=True), right_N),
    }


def _f1(gold: IntArray, predicted: IntArray, *, labels: IntArray, average: str) -> float:
    if not len(labels):
        return 0.0
    scores = precision_recall_fscore_support(gold, predicted, labels=labels, average=average, zero_division=0)
    return float(scores[2])


def _per_class(gold: IntArray, predicted: IntArray, names: list[str]) -> dict[str, dict[str, Any]]:
    columns = precision_recall_fscore_support(gold, predicted, labels=range(len(names)), zero_division=0)
    return {
        name: {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(s)}
        for name, p, r, f, s in zip(names, *columns, strict=True)
    }


def calibration(confidence_N: FloatArray, correct_N: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Expected calibration error over equal-width bins (Guo et al. 2017) and the bins of its reliability diagram.

    Args:
        confidence_N: in [0, 1]: how probable the model says it is that the row is correct.
        correct_N: whether it is.

    Returns:
        ``expected_calibration_error``: mean over the rows of |accuracy - confidence| of the bin, in [0, 1]; and
        ``calibration_bins``: B dicts of ``lower``, ``upper``, ``count``, ``confidence``, ``accuracy`` (the last two
        None in an empty bin). A bin holds lower < confidence <= upper; the first also 0.
    """
    edges = np.linspace(0.0, 1.0, CALIBRATION_BINS + 1)
    bin_N = np.clip(np.searchsorted(edges, confidence_N, side="left") - 1, 0, CALIBRATION_BINS - 1)
    bins: list[dict[str, Any]] = []
    error = 0.0
    for b in range(CALIBRATION_BINS):
        inside = bin_N == b
        count = int(inside.sum())
        confidence = float(confidence_N[inside].mean(dtype=np.float64)) if count else None
        accuracy = float(correct_N[inside].mean()) if count else None
        if confidence is not None and accuracy is not None:
            error += count / len(confidence_N) * abs(accuracy - confidence)
        edge = {"lower": float(edges[b]), "upper": float(edges[b + 1])}
        bins.append({**edge, "count": count, "confidence": confidence, "accuracy": accuracy})
    return {"expected_calibration_error": error, "calibration_bins": bins}


def agreement(a_NK: FloatArray, b_NK: FloatArray, *, multi_label: bool = False) -> float:
    """Share of equal decisions of two models, in [0, 1]: top-1 a row, or each label at 0.5 for multi-label."""
    if multi_label:
        return float(((a_NK >= DECISION) == (b_NK >= DECISION)).mean())
    return float((a_NK.argmax(axis=1) == b_NK.argmax(axis=1)).mean())


def kl_divergence(p_NK: FloatArray, q_NK: FloatArray, *, multi_label: bool = False) -> float:
    """KL(p || q) in nats, mean over the rows; for multi-label the sum over the K yes/no questions of a row.

    Probabilities are held 1e-7 away from 0, so that a 0 in q counts as very unlikely and not as infinite.
    """
    tiny = 1e-7
    p, q = (np.clip(x.astype(np.float64), tiny, 1.0) for x in (p_NK, q_NK))
    rows_N = (p_NK * np.log(p / q)).sum(axis=1)
    if multi_label:
        not_p, not_q = (np.clip(1.0 - x.astype(np.float64), tiny, 1.0) for x in (p_NK, q_NK))
        rows_N = rows_N + ((1.0 - p_NK) * np.log(not_p / not_q)).sum(axis=1)
    return float(rows_N.mean())


def parse_gold(values: Sequence[Any], names: Sequence[str], *, multi_label: bool) -> IntArray:
    """A label column as class indices.

    A text is a class name, spelled exactly as in the label set. An integer is an index 0..K-1 into the names, except
    where a class name is itself an integer ("1" to "5" stars): then integers are names too. For multi-label a value
    is a list of those, empty where no class is true.

    Args:
        values: [N] the column; an Arrow column is taken too.
        names: K class names.
        multi_label: whether the values are lists.

    Returns:
        gold_N int64; gold_NK of 0 and 1 for multi-label.

    Raises:
        InputError: a value is null, unknown, of another type, or a list names a class twice; names value and row.
    """
    values = values.to_pylist() if hasattr(values, "to_pylist") else values
    lookup: dict[Any, int] = {name: k for k, name in enumerate(names)}
    if not any(name.strip().lstrip("+-").isdecimal() for name in names):
        lookup |= {k: k for k in range(len(names))}
    else:
        lookup |= {int(name): k for k, name in enumerate(names) if name.strip().lstrip("+-").isdecimal()}
    known = ", ".join(repr(name) for name in names)
    if not multi_label:
        return np.array([_class_index(value, row, lookup, known) for row, value in enumerate(values)], dtype=np.int64)
    gold_NK = np.zeros((len(values), len(names)), dtype=np.int64)
    for row, value in enumerate(values):
        if not isinstance(value, list | tuple | np.ndarray):
            raise InputError(f"gold label {value!r} in row {row} is not a list: multi-label needs lists of {known}")
        classes = [_class_index(item, row, lookup, known) for item in value]
        if len(set(classes)) < len(classes):
            raise InputError(f"gold label {list(value)!r} in row {row} names a class twice: list each true class once")
        gold_NK[row, classes] = 1
    return gold_NK


def _class_index(value: Any, row: int, lookup: dict[Any, int], known: str) -> int:
    if value is None:
        raise InputError(f"the gold label in row {row} is missing: drop the row or give it one of {known}")
    usable = isinstance(value, str) or (isinstance(value, Integral) and not isinstance(value, bool))
    if not usable or value not in lookup:
        raise InputError(f"gold label {value!r} in row {row} is none of the classes: {known}, or an index into them")
    return lookup[value]
