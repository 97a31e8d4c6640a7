"""Rows and what was found of them, in the columns that stores and predictions have.

Legend: N rows, K labels, T templates, H = T * K hypotheses.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from zsd.labels import LabelSet
from zsd.shards import LOGITS, TEMPLATE_LOGITS, FloatArray, soft_label_schema, vectors
from zsd.soft_labels import soft_labels
from zsd.soft_labels.ensemble import mean_over_templates


def soft_label_table(
    rows: pa.Table, entailment_NH: FloatArray, contradiction_NH: FloatArray, labels: LabelSet, temperature: float
) -> pa.Table:
    """The (id, text) rows with their soft labels and raw logits, in the store's schema."""
    templates, raw = len(labels.templates), (entailment_NH, contradiction_NH)
    entailment_NK, contradiction_NK = (mean_over_templates(logits_NH, templates) for logits_NH in raw)
    probs_NK = soft_labels(entailment_NK, contradiction_NK, multi_label=labels.multi_label, temperature=temperature)
    columns: dict[str, Any] = {
        **prediction_columns(rows, probs_NK, labels.names),
        **dict(zip(LOGITS, map(vectors, (entailment_NK, contradiction_NK)), strict=True)),
    }
    if templates > 1:
        columns |= dict(zip(TEMPLATE_LOGITS, map(vectors, raw), strict=True))
    return pa.table(columns, schema=soft_label_schema(len(labels), templates))


def prediction_columns(rows: pa.Table, probs_NK: np.ndarray[Any, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """id, text, the most probable label, its score, and all probabilities."""
    best_N = probs_NK.argmax(axis=1)
    return {
        "id": rows["id"].cast(pa.string()),
        "text": rows["text"].cast(pa.string()),
        "label": pa.array([names[k] for k in best_N], pa.string()),
        "score": pa.array(probs_NK[np.arange(len(best_N)), best_N], pa.float32()),
        "probs": vectors(probs_NK),
    }
