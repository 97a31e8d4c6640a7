"""How much tonight's rows differ from others: production's, or those of the night before. Pure functions on profiles.

For each of class balance, confidence, text length and vocabulary: the Jensen-Shannon divergence in bits (Lin 1991,
"Divergence measures based on the Shannon entropy"; 0 the same, 1 nothing in common) and, for what is counted in few
bins, the population stability index (Siddiqi 2006, "Credit Risk Scorecards": below 0.1 stable, above 0.25 shifted).
The index of two samples of one and the same distribution is not 0: times nm/(n+m) it is about chi-squared with B-1
degrees of freedom (Yurdakul and Naranjo 2020, "Statistical properties of the population stability index"); ``chance``
is its 99.9 % quantile, so that a night of few rows is not taken for a shifted one.

Legend: B bins.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from zsd.corpus_profile import Profile, read_profile

Z_999 = 3.0902
"""99.9 % quantile of the normal distribution."""

MOST_NEW_WORDS = 20


def compare(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Drift of a night's rows against the rows of another one.

    Args:
        before: of `zsd.corpus_profile.profile_store`.
        now: the same of tonight.

    Returns:
        ``unseen`` and ``all``: tonight's unseen rows, and all of tonight's rows, each against all rows of before: see
        `_against`; ``all_unseen``: of tonight's profile.
    """
    same_classes = before["names"] == now["names"] and before["multi_label"] == now["multi_label"]
    names = list(now["names"]) if same_classes else None
    base = read_profile(before["all"])
    sides = {side: _against(base, read_profile(now[side]), names) for side in ("unseen", "all")}
    return sides | {"all_unseen": now["all_unseen"]}


def _against(before: Profile, now: Profile, names: Sequence[str] | None) -> dict[str, Any]:
    """``classes``, ``confidence``, ``length`` and ``vocabulary``, each with its divergences and what tells them."""
    known = before.words.keys()
    outside = 1 - sum(count for word, count in now.words.items() if word in known) / max(1, sum(now.words.values()))
    fresh = [word for word in now.words if word not in known][:MOST_NEW_WORDS]
    sizes = {"rows": now.rows, "rows_before": before.rows}
    return sizes | {
        "classes": _classes(before, now, names),
        "confidence": _drift(before.confidence, now.confidence)
        | {"mean_before": _mean_bin(before.confidence), "mean": _mean_bin(now.confidence)},
        "length": _drift(before.lengths, now.lengths)
        | {"mean_before": before.characters / max(1, before.rows), "mean": now.characters / max(1, now.rows)},
        "vocabulary": {
            "js": _js_of_words(before.words, now.words),
            "unknown_share": outside if now.rows else None,
            "new_words": fresh,
        },
    }


def _classes(before: Profile, now: Profile, names: Sequence[str] | None) -> dict[str, Any]:
    if names is None:
        return {"js": None, "psi": None, "chance": None, "rows": now.rows, "told": "the class names changed"}
    found = _drift(before.classes, now.classes) | {"rows": now.rows}
    if found["psi"] is None:
        return found | {"told": "no such rows, or none before"}
    shares_before, shares = (np.asarray(one) / max(1, sum(one)) for one in (before.classes, now.classes))
    moved = np.abs(shares - shares_before)
    most = int(moved.argmax())
    told = "no class went up or down by 0.1% of the rows"
    if moved[most] >= 0.001:
        told = f"{names[most]!r} went from {shares_before[most]:.1%} to {shares[most]:.1%} of the rows"
    pairs = zip(shares_before.tolist(), shares.tolist(), strict=True)
    balance = {name: {"before": old, "now": new} for name, (old, new) in zip(names, pairs, strict=True)}
    return found | {"told": told, "balance": balance}


def _drift(before: Sequence[int], now: Sequence[int]) -> dict[str, Any]:
    """``js``, ``psi`` and ``chance`` of counts in B bins; None where one side has no row."""
    if not sum(before) or not sum(now):
        return {"js": None, "psi": None, "chance": None}
    return {
        "js": jensen_shannon(before, now),
        "psi": stability_index(before, now),
        "chance": chance_index(before, now),
    }


def jensen_shannon(before: Sequence[float], now: Sequence[float]) -> float:
    """Jensen-Shannon divergence of two count vectors, in bits: from 0 to 1."""
    p, q = (np.asarray(counts, dtype=np.float64) / sum(counts) for counts in (before, now))
    middle = (p + q) / 2
    return max(0.0, float((_kl_bits(p, middle) + _kl_bits(q, middle)) / 2))


def _kl_bits(p: npt.NDArray[np.float64], q: npt.NDArray[np.float64]) -> float:
    inside = p > 0
    return float((p[inside] * np.log2(p[inside] / q[inside])).sum())


def stability_index(before: Sequence[int], now: Sequence[int]) -> float:
    """Population stability index of two count vectors; half a row is added to every bin, so that none is empty."""
    p, q = _smoothed(before), _smoothed(now)
    return float(((q - p) * np.log(q / p)).sum())


def chance_index(before: Sequence[int], now: Sequence[int]) -> float:
    """99.9 % quantile of the index where both sides come from one distribution (chi-squared by Wilson and Hilferty)."""
    degrees = max(1, int(((np.asarray(before) + np.asarray(now)) > 0).sum()) - 1)
    spread = 2 / (9 * degrees)
    quantile = degrees * (1 - spread + Z_999 * math.sqrt(spread)) ** 3
    return float(quantile * (1 / sum(before) + 1 / sum(now)))


def _smoothed(counts: Sequence[int]) -> npt.NDArray[np.float64]:
    filled = np.asarray(counts, dtype=np.float64) + 0.5
    smoothed: npt.NDArray[np.float64] = filled / filled.sum()
    return smoothed


def _js_of_words(before: Mapping[str, int], now: Mapping[str, int]) -> float | None:
    if not before or not now:
        return None
    words = sorted(before.keys() | now.keys())
    return jensen_shannon([before.get(word, 0) for word in words], [now.get(word, 0) for word in words])


def _mean_bin(counts: Sequence[int]) -> float | None:
    """Mean of values between 0 and 1 that were counted in bins of equal width."""
    total = sum(counts)
    return sum((b + 0.5) / len(counts) * count for b, count in enumerate(counts)) / total if total else None
