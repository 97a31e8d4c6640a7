"""When a correction of the teacher's bias may be trusted, from unlabelled rows alone.

`auto` corrects by `information_bias` where all of this holds, and leaves the labels as they are otherwise:

* **enough rows**: at least `LEAST_ROWS`;
* **classes to compare**: the teacher itself spreads the rows over at least `LEAST_SPREAD` of the classes (the
  exponential of the entropy of its mean answer, over K). Where nearly all rows are of one class, a boundary has no
  sparse place to move to but into that class;
* **stable**: fitted on one half of the rows and on the other (the mean of several divisions), the corrections give
  different classes to at most `MOST_UNSTABLE` of the rows, and to at most `MOST_NOISE` as many as the correction
  changes. Noise is shrunk besides: the correction counts by the share of its variance that is not noise (James &
  Stein);
* **modest**: it changes at most `MOST_MOVED` of the rows. A teacher that is wrong more often than that has no margins
  worth following.

The constants were chosen with the bundled teacher on some 90 draws of AG News (2 to 4 of its classes, balanced, skewed
or one of them without a row), some 30 of seven other tasks and some 20 of CLINC, gold labels serving only to score: no
draw lost more than 3 points, and balanced draws of the four classes of AG News gained 4 on average.

Batch calibration assumes balanced classes, which no logit can prove: imposed on a skewed corpus it moves boundaries
into crowds. So it may be trusted where the information correction, which does not assume it, is trusted and gives at
least `LEAST_AGREEMENT` of the rows the same class. `auto` never chooses it; who asks for it gets it, with this verdict.

Legend: N rows, K classes, S divisions into halves.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zsd.batching import FloatArray
from zsd.soft_labels.bias import SHARPNESS, Doubles, batch_bias, information_bias, margin, softmax

LEAST_ROWS = 40
LEAST_SPREAD = 0.75
MOST_UNSTABLE = 0.08
MOST_NOISE = 0.7
MOST_MOVED = 0.25
LEAST_AGREEMENT = 0.95
Halves = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What unlabelled rows say for and against the correction of one set of classes.

    Attributes:
        rows: N.
        spread: share of the K classes that the teacher's own answers are spread over.
        moved: share of the rows of which the correction changes the class.
        unstable: share of the rows that corrections of two halves give different classes.
        shrinkage: what is left of the correction after noise is taken off it, from 0 to 1.
        agreement: share of the rows that batch calibration gives the same class.
        refused: why the correction is not applied; None where it may be trusted.
    """

    rows: int
    spread: float
    moved: float
    unstable: float
    shrinkage: float
    agreement: float
    refused: str | None

    @property
    def batch_trusted(self) -> bool:
        """Whether the assumption of batch calibration, balanced classes, fits the rows."""
        return self.refused is None and self.agreement >= LEAST_AGREEMENT

    def to_dict(self) -> dict[str, Any]:
        """For the recipe's facts; figures to 4 places."""
        figures = {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(self).items()}
        return {**figures, "batch_trusted": self.batch_trusted}


def trusted_bias(logits_NK: FloatArray, halves_NS: Halves) -> tuple[Doubles, Evidence]:
    """[K] the information correction as far as it may be trusted (all 0 where it may not), and why.

    Args:
        logits_NK: single-label logits.
        halves_NS: several divisions of the rows into halves, chosen without regard to their order.
    """
    rows, labels = logits_NK.shape
    divided = [[logits_NK[half_N], logits_NK[~half_N]] for half_N in halves_NS.T]
    if rows < LEAST_ROWS or not all(len(half) for halves in divided for half in halves):
        told = f"{rows} rows are too few: {LEAST_ROWS} are needed"
        evidence = _evidence(logits_NK, rows=rows, spread=0.0, unstable=0.0, shrinkage=0.0, refused=told)
        return np.zeros(labels), evidence
    spread = spread_of(logits_NK)
    bias_K = information_bias(logits_NK)
    pairs = [[information_bias(half) for half in halves] for halves in divided]
    noise = float(np.mean([((one - other) ** 2).mean() for one, other in pairs])) / 4  # halves differ twice as much
    shrinkage = max(0.0, 1 - noise / max(float((bias_K**2).mean()), 1e-12))
    bias_K = bias_K * shrinkage
    unstable = float(np.mean([changed(logits_NK, one, other) for one, other in pairs]))
    moved = changed(logits_NK, bias_K, np.zeros(labels))
    refused = None
    if spread < LEAST_SPREAD:
        refused = f"the rows are spread over {spread:.0%} of the classes only, {LEAST_SPREAD:.0%} are needed"
    elif moved > MOST_MOVED:
        refused = f"the correction would change {moved:.0%} of the rows, more than {MOST_MOVED:.0%} are not believed"
    elif unstable > min(MOST_UNSTABLE, MOST_NOISE * moved):
        refused = f"halves of the rows disagree on {unstable:.1%} of them, the correction changes {moved:.1%}"
    evidence = _evidence(
        logits_NK, bias_K, rows=rows, spread=spread, unstable=unstable, shrinkage=shrinkage, refused=refused
    )
    return np.zeros(labels) if refused else bias_K, evidence


def spread_of(logits_NK: FloatArray) -> float:
    """Share of the classes that the rows are spread over: 1 where all are equally frequent, 1 / K for one alone."""
    temperature = SHARPNESS * margin(logits_NK)
    mean_K = softmax(logits_NK, temperature or 1.0).mean(axis=0)
    return float(np.exp(-(mean_K * np.log(mean_K + 1e-12)).sum()) / len(mean_K))


def changed(logits_NK: FloatArray, one_K: Doubles, other_K: Doubles) -> float:
    """Share of the rows that two corrections give different classes."""
    return float(((logits_NK - one_K).argmax(axis=1) != (logits_NK - other_K).argmax(axis=1)).mean())


def _evidence(logits_NK: FloatArray, bias_K: Doubles | None = None, **known: Any) -> Evidence:
    if bias_K is None:
        return Evidence(moved=0.0, agreement=0.0, **known)
    return Evidence(
        moved=changed(logits_NK, bias_K, np.zeros(len(bias_K))),
        agreement=1 - changed(logits_NK, bias_K, batch_bias(logits_NK)),
        **known,
    )
