"""A recipe fitted to a store of soft labels, from its raw logits alone.

Legend: N rows, K labels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from zsd.batching import FloatArray
from zsd.errors import ConfigError
from zsd.shards import Store
from zsd.soft_labels.bias import Doubles, batch_bias, contextual_bias
from zsd.soft_labels.content_free import read_content_free
from zsd.soft_labels.gold import Gold, fit_gold, gold_logits
from zsd.soft_labels.recipe import Recipe
from zsd.soft_labels.sample import LogitSample, sample_logits
from zsd.soft_labels.trust import Evidence, trusted_bias

METHODS = ("auto", "none", "information", "batch", "contextual")


def fit_recipe(
    store: Store, *, method: str = "auto", temperature: float | None = None, gold: Gold | None = None
) -> Recipe:
    """Choose and fit the recipe of a store, reading its logits once (and once more where there are gold rows).

    ``auto`` and ``information`` correct the teacher's bias by `zsd.soft_labels.bias.information_bias`, as far as
    `zsd.soft_labels.trust` lets them; what ``auto`` refuses is ``none``. ``batch`` and ``contextual`` are applied as
    asked, and the facts say whether the rows support them. Multi-label, a class is corrected by itself, or left as it
    is; batch calibration would make every class true of half the rows, and is refused.

    Args:
        store: a finished store of `zsd label`.
        method: one of `METHODS`.
        temperature: None: the store's own, or, where there are gold rows, the one that fits them.
        gold: gold classes of some texts; those that are in the store fit the temperature and, unless the method is
            ``none``, ``batch`` or ``contextual``, move the bias and mix the logits.

    Raises:
        ConfigError: the method is not known, or not defined for this store.
        StoreError: a shard is missing or damaged.
    """
    if method not in METHODS:
        raise ConfigError(f"prior correction {method!r} is not known: use {', '.join(METHODS)}")
    recipe = plain_recipe(store, method, temperature)
    if method == "batch" and recipe.multi_label:
        raise ConfigError("batch calibration is for classes of which each row has one: use information or none")
    if method != "none":
        recipe = unsupervised(store, sample_logits(store), recipe)
    if not gold:
        return recipe
    rows = gold_logits(store, gold)
    recipe = replace(recipe, facts={**recipe.facts, "gold_rows": len(rows)})
    if not len(rows):
        return recipe
    fitted = fit_gold(
        rows,
        recipe.bias(rows.targets.shape[1]),
        multi_label=recipe.multi_label,
        move_bias=method in ("auto", "information"),
        temperature=temperature,
    )
    mixing = None if fitted.mixing is None else tuple(tuple(row) for row in fitted.mixing.tolist())
    facts = {**recipe.facts, "gold": fitted.facts}
    recipe = replace(recipe, temperature=fitted.temperature, mixing=mixing, facts=facts)
    return recipe.with_bias(fitted.bias) if fitted.bias.any() else recipe


def plain_recipe(store: Store, method: str = "none", temperature: float | None = None) -> Recipe:
    """The recipe of a store before anything is fitted: its mode, and its temperature where none is given."""
    return Recipe(
        method=method,
        multi_label=bool(store.manifest["labels"]["multi_label"]),
        temperature=temperature or float(store.manifest["temperature"]),
    )


def unsupervised(store: Store, sample: LogitSample, asked: Recipe) -> Recipe:
    """A recipe whose bias comes from unlabelled rows, and which says why; for ``auto``, which method it became.

    Raises:
        ConfigError: contextual calibration of a store without content-free texts.
    """
    names = list(store.manifest["labels"]["names"])
    bias_K, evidence = _information(sample, asked.multi_label)
    method = asked.method
    if method == "batch":
        bias_K = batch_bias(sample.entailment) if len(sample) else np.zeros(len(names))
    elif method == "contextual":
        free = read_content_free(store)
        bias_K = contextual_bias(free.deciding(multi_label=asked.multi_label), multi_label=asked.multi_label)
    elif method == "auto":
        method = "information" if bias_K.any() else "none"
    recipe = replace(asked, method=method, facts={"evidence": _told(evidence, names)})
    return recipe.with_bias(bias_K) if bias_K.any() else recipe


def _information(sample: LogitSample, multi_label: bool) -> tuple[Doubles, list[Evidence]]:
    """[K] the trusted bias; evidence of the K classes together, or multi-label of each."""
    logits_NK = sample.deciding(multi_label=multi_label)
    if not multi_label:
        bias_K, evidence = trusted_bias(logits_NK, sample.halves)
        return bias_K, [evidence]
    each = [trusted_bias(yes_or_no(logits_NK[:, k]), sample.halves) for k in range(logits_NK.shape[1])]
    return np.array([bias_2[0] - bias_2[1] for bias_2, _ in each]), [evidence for _, evidence in each]


def yes_or_no(logits_N: FloatArray) -> FloatArray:
    """[N, 2] one class of a multi-label store as a problem of two: it, and not it."""
    pair_N2: FloatArray = np.stack([logits_N, np.zeros_like(logits_N)], axis=1)
    return pair_N2


def _told(evidence: list[Evidence], names: list[str]) -> dict[str, Any]:
    """By class where there is one for each, and under ``all`` where they are judged together."""
    keys = names if len(evidence) == len(names) else ["all"]
    return {key: one.to_dict() for key, one in zip(keys, evidence, strict=True)}
