"""A recipe fitted to a store of soft labels, from its raw logits alone.

Legend: N rows, K labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from zsd.batching import FloatArray
from zsd.errors import ConfigError
from zsd.shards import Store, matrix
from zsd.soft_labels.probabilities import soft_labels
from zsd.soft_labels.recipe import Recipe

METHODS = ("auto", "none", "batch", "contextual")

Gold = Mapping[str, int] | Mapping[str, Sequence[int]]
"""Normalized text to its class (a number from 0 to K - 1), or for multi-label to K numbers 0 or 1."""


def fit_recipe(
    store: Store, *, method: str = "auto", temperature: float | None = None, gold: Gold | None = None
) -> Recipe:
    """Choose and fit the recipe of a store, reading its logits once.

    Args:
        store: a finished store of `zsd label`.
        method: ``none``, ``batch``, ``contextual``, or ``auto``: the one that the unlabelled rows themselves support.
        temperature: None: the store's own, or, where there are gold rows, the one that fits them.
        gold: gold classes of some texts; those that are in the store calibrate the temperature.

    Raises:
        ConfigError: the method is not known, or not defined for this store.
        StoreError: a shard is missing or damaged.
    """
    if method not in METHODS:
        raise ConfigError(f"prior correction {method!r} is not known: use {', '.join(METHODS)}")
    multi_label = bool(store.manifest["labels"]["multi_label"])
    if method == "batch" and multi_label:
        raise ConfigError("batch calibration needs classes of which each row has one: use none or contextual")
    chosen = Recipe(
        method="none", multi_label=multi_label, temperature=temperature or float(store.manifest["temperature"])
    )
    return chosen if method != "batch" else _batch(store, chosen)


def _batch(store: Store, plain: Recipe) -> Recipe:
    table = store.read(["entailment", "contradiction"])
    entailment_NK = matrix(table["entailment"])
    probs_NK: FloatArray = soft_labels(entailment_NK, entailment_NK, multi_label=False)
    prior_K = probs_NK.mean(axis=0, dtype=np.float64)
    return Recipe(
        method="batch",
        multi_label=False,
        temperature=plain.temperature,
        prior=tuple(float(prior) for prior in prior_K / prior_K.sum()),
    )
