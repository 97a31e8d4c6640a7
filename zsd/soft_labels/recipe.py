"""A recipe: how the stored raw logits become the probabilities a student learns.

Legend: N rows, K labels.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from zsd.batching import FloatArray
from zsd.soft_labels.logits import Logits
from zsd.soft_labels.probabilities import soft_labels

LEAST_PRIOR = 1e-12


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Temperature, mode and prior of the labels; frozen and picklable, so that a training worker can be given it.

    Single-label, the prior of each class is divided out of its probability before the row is scaled to sum to 1
    (batch calibration, Zhou et al. 2024; contextual calibration, Zhao et al. 2021). Multi-label, the odds of each
    class are divided by the odds of its prior. Where there are gold rows, the logits of the classes may be mixed first
    (matrix scaling, Guo et al. 2017; see `zsd.soft_labels.gold`).

    Args:
        method: ``none``, ``information``, ``batch`` or ``contextual``: where the prior comes from.
        multi_label: which of the two definitions of `soft_labels` applies.
        temperature: logits are divided by it, after the prior has been taken off them.
        prior: [K] what the teacher gives each class before it has read a text, in (0, 1); None where nothing is
            corrected. A uniform prior (single-label), or one of 1/2 for each class (multi-label), changes nothing.
            Where logits are mixed it is the rest of an affine map, and says nothing by itself.
        mixing: [K, K] what is added to each class's logit (a column) for each class's logit (a row); None: nothing. The
            logits are those that decide: of entailment, for multi-label less that of contradiction.
        facts: what was measured when the recipe was fitted, and why it was chosen; JSON-able, for people to read.

    Raises:
        ValueError: the temperature is not positive, a prior is not in (0, 1), or the mixing is not square.
    """

    method: str
    multi_label: bool
    temperature: float = 1.0
    prior: tuple[float, ...] | None = None
    mixing: tuple[tuple[float, ...], ...] | None = None
    facts: dict[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature must be positive, not {self.temperature}")
        if any(not 0 < prior < 1 for prior in self.prior or ()):
            raise ValueError(f"every prior must be in (0, 1): {self.prior}")
        if any(len(row) != len(self.mixing or ()) or not np.isfinite(row).all() for row in self.mixing or ()):
            raise ValueError("the mixing must be as many rows of as many finite numbers")

    def probs(self, entailment_NK: FloatArray, contradiction_NK: FloatArray) -> FloatArray:
        """[N, K] float32 probabilities of raw logits; see `soft_labels` for their two meanings.

        Raises:
            ValueError: the shapes differ from one another, or from the prior's; or logits are mixed and some are not
                finite, as of a class that was not asked about.
        """
        bias_K = self.bias(entailment_NK.shape[1])
        if self.mixing is not None:
            logits = Logits(entailment=entailment_NK, contradiction=contradiction_NK)
            deciding_NK = logits.deciding(multi_label=self.multi_label).astype(np.float64)
            if not np.isfinite(deciding_NK).all():
                raise ValueError("logits are mixed: those of all classes are needed")
            entailment_NK = (deciding_NK + deciding_NK @ np.array(self.mixing)).astype(np.float32)
            contradiction_NK = np.zeros_like(entailment_NK)
        return soft_labels(
            (entailment_NK - bias_K).astype(np.float32),
            contradiction_NK,
            multi_label=self.multi_label,
            temperature=self.temperature,
        )

    def bias(self, labels: int) -> npt.NDArray[np.float64]:
        """[K] what is taken off the entailment logits, or off the mixed ones.

        Raises:
            ValueError: the prior is of another number of classes.
        """
        if self.prior is None:
            return np.zeros(labels)
        if len(self.prior) != labels:
            raise ValueError(f"a prior of {len(self.prior)} classes for logits of {labels}")
        prior_K = np.array(self.prior)
        odds_K = prior_K / (1 - prior_K) if self.multi_label else prior_K * labels
        bias_K: npt.NDArray[np.float64] = np.log(odds_K)
        return bias_K

    def with_bias(self, bias_K: npt.NDArray[np.float64]) -> Recipe:
        """The same with the prior that takes this off the entailment logits."""
        if self.multi_label:
            prior_K = 1 / (1 + np.exp(-bias_K))
        else:
            powers_K = np.exp(bias_K - bias_K.max())
            prior_K = powers_K / powers_K.sum()
        return replace(self, prior=tuple(np.clip(prior_K, LEAST_PRIOR, 1 - LEAST_PRIOR).tolist()))

    def to_dict(self) -> dict[str, Any]:
        """The form kept in ``student/zsd.json``; `from_dict` reads it back."""
        prior = None if self.prior is None else list(self.prior)
        made = {**asdict(self), "prior": prior}
        mixing = made.pop("mixing")
        return made if mixing is None else {**made, "mixing": [list(row) for row in mixing]}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Recipe:
        """Read what `to_dict` wrote."""
        prior, mixing = data["prior"], data.get("mixing")
        read = {
            "prior": None if prior is None else tuple(prior),
            "mixing": None if mixing is None else tuple(tuple(row) for row in mixing),
        }
        return cls(**{**data, **read})
