"""What each correction does to the class balance and the confidence of a store's labels, from its stored logits.

Legend: N rows, K labels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from zsd import storage
from zsd.batching import FloatArray
from zsd.confidence import DECISION
from zsd.labels import LabelSet
from zsd.shards import Store
from zsd.soft_labels.content_free import CONTENT_FREE
from zsd.soft_labels.fit import plain_recipe, unsupervised
from zsd.soft_labels.recipe import Recipe
from zsd.soft_labels.sample import sample_logits

SURE = 0.9
BINS = 20


def correction_figures(store: Store) -> dict[str, Any]:
    """One entry for each correction that the store allows, the plain labels first, then each template by itself.

    Returns:
        ``rows`` looked at (a sample of a large store), ``labels``, ``multi_label``, ``auto`` (the method that
        ``auto`` takes), and ``corrections``: each with ``name``, ``balance`` (share of the rows by class),
        ``mean_probability`` by class, ``confidence`` (mean, of the answer given), ``sure`` (share of the answers at
        `SURE` or more), ``histogram`` of the confidences, ``changed`` (share of the rows whose answer is not the
        plain one), and its ``recipe``.

    Raises:
        StoreError: a shard is missing or damaged.
    """
    labels = LabelSet.from_dict(store.manifest["labels"])
    sample = sample_logits(store)
    plain = plain_recipe(store)
    asked = ["information", *([] if labels.multi_label else ["batch"])]
    if storage.exists(storage.join(store.root, CONTENT_FREE)):
        asked.append("contextual")
    recipes = [plain, *(unsupervised(store, sample, plain_recipe(store, method)) for method in asked)]
    before_NK = plain.probs(sample.entailment, sample.contradiction)
    corrections = [
        _figures(recipe.method, recipe, recipe.probs(sample.entailment, sample.contradiction), before_NK, labels)
        for recipe in recipes
    ]
    if len(labels.templates) > 1:
        for number, template in enumerate(labels.templates):
            one = sample_logits(store, template=number)
            probs_NK = plain.probs(one.entailment, one.contradiction)
            corrections.append(_figures(f"only {template!r}", plain, probs_NK, before_NK, labels))
    return {
        "rows": len(sample),
        "labels": list(labels.names),
        "multi_label": labels.multi_label,
        "auto": unsupervised(store, sample, plain_recipe(store, "auto")).method,
        "corrections": corrections,
    }


def answers(probs_NK: FloatArray, *, multi_label: bool) -> Any:
    """[N, K] which classes a row is given: the best one, or all that count as true."""
    if multi_label:
        return probs_NK >= DECISION
    return np.arange(probs_NK.shape[1]) == probs_NK.argmax(axis=1)[:, None]


def _figures(
    name: str, recipe: Recipe, probs_NK: FloatArray, before_NK: FloatArray, labels: LabelSet
) -> dict[str, Any]:
    given_NK, before = (answers(one, multi_label=labels.multi_label) for one in (probs_NK, before_NK))
    sure = np.maximum(probs_NK, 1 - probs_NK) if labels.multi_label else probs_NK.max(axis=1)
    counts, _ = np.histogram(sure, bins=BINS, range=(0, 1))
    return {
        "name": name,
        "balance": dict(zip(labels.names, _shares(given_NK), strict=True)),
        "mean_probability": dict(zip(labels.names, _shares(probs_NK), strict=True)),
        "confidence": round(float(sure.mean()), 4),
        "sure": round(float((sure >= SURE).mean()), 4),
        "histogram": (counts / max(1, counts.sum())).round(4).tolist(),
        "changed": round(float((given_NK != before).any(axis=1).mean()), 4),
        "recipe": recipe.to_dict(),
    }


def _shares(values_NK: Any) -> list[float]:
    shares: list[float] = values_NK.mean(axis=0, dtype=np.float64).round(4).tolist()
    return shares
