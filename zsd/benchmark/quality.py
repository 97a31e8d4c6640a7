"""How good teacher and student are, against gold labels where there are any and against each other.

Legend: N rows, K labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from zsd.evaluation import DECISION, agreement, classification_metrics, kl_divergence

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

HISTOGRAM_BINS = 20
EXAMPLES = 6
RENAMED = {
    "expected_calibration_error": "ece",
    "calibration_bins": "reliability",
    "mean_average_precision": "map",
}


def compare(
    teacher_NK: FloatArray, student_NK: FloatArray, gold: IntArray | None, names: Sequence[str], *, multi_label: bool
) -> dict[str, Any]:
    """The ``quality`` part of benchmark.json: both sides, their agreement, and KL(teacher || student) in nats a row."""
    return {
        "teacher": side(teacher_NK, gold, names, multi_label=multi_label),
        "student": side(student_NK, gold, names, multi_label=multi_label),
        "gold_class_balance": None if gold is None else gold_balance(gold, names),
        "agreement": agreement(teacher_NK, student_NK, multi_label=multi_label),
        "kl": kl_divergence(teacher_NK, student_NK, multi_label=multi_label),
    }


def side(probs_NK: FloatArray, gold: IntArray | None, names: Sequence[str], *, multi_label: bool) -> dict[str, Any]:
    """One model: its metrics where there is gold, the histogram of its confidence, its class balance.

    The class balance is the share of the rows given each class; of a multi-label model they need not sum to 1.
    """
    metrics = {} if gold is None else classification_metrics(gold, probs_NK, names)
    counts, edges = np.histogram(probs_NK.max(axis=1), bins=HISTOGRAM_BINS, range=(0.0, 1.0))
    if multi_label:
        chosen = (probs_NK >= DECISION).mean(axis=0)
    else:
        chosen = np.bincount(probs_NK.argmax(axis=1), minlength=len(names)) / len(probs_NK)
    return {
        "rows": len(probs_NK),
        **{RENAMED.get(name, name): value for name, value in metrics.items() if name != "rows"},
        "confidence_histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
        "class_balance": dict(zip(names, chosen.tolist(), strict=True)),
    }


def gold_balance(gold: IntArray, names: Sequence[str]) -> dict[str, float]:
    """Share of the rows of each class; multi-label they need not sum to 1."""
    counts = gold.sum(axis=0) if gold.ndim == 2 else np.bincount(gold, minlength=len(names))
    return dict(zip(names, (counts / len(gold)).tolist(), strict=True))


def examples(
    texts: Sequence[str], teacher_NK: FloatArray, student_NK: FloatArray, gold: IntArray | None, names: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    """Rows worth looking at: where the student is most and least sure, and where the two differ most surely."""
    sure_N = student_NK.max(axis=1)
    order = np.argsort(-sure_N, kind="stable")
    differ = np.flatnonzero(teacher_NK.argmax(axis=1) != student_NK.argmax(axis=1))
    surest = differ[np.argsort(-(teacher_NK.max(axis=1) + sure_N)[differ], kind="stable")]

    def show(n: int) -> dict[str, Any]:
        return {
            "text": texts[n],
            "teacher": _decision(teacher_NK[n], names),
            "student": _decision(student_NK[n], names),
            "gold": None if gold is None else _gold_name(gold[n], names),
        }

    return {
        "most_confident": [show(int(n)) for n in order[:EXAMPLES]],
        "least_confident": [show(int(n)) for n in order[::-1][:EXAMPLES]],
        "disagreements": [show(int(n)) for n in surest[:EXAMPLES]],
    }


def _decision(probs_K: FloatArray, names: Sequence[str]) -> dict[str, Any]:
    best = int(probs_K.argmax())
    return {"label": names[best], "score": float(probs_K[best])}


def _gold_name(gold: Any, names: Sequence[str]) -> str | list[str]:
    if np.ndim(gold) == 0:
        return names[int(gold)]
    return [names[k] for k in np.flatnonzero(gold)]
