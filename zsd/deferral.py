"""Who answers a row: the student where it is sure, the teacher where it is not, so that both together agree with the
teacher alone on at least a given share of the rows.

The student answers a row when its confidence reaches a threshold. A higher threshold defers more rows, so the share of
rows on which the combined answer differs from the teacher's (the risk) can only fall as the threshold rises. The
threshold is fitted on held-out rows: walking down from "defer everything", each is accepted as long as an exact
binomial test at level alpha says that its risk is below what is allowed, and the walk ends at the first that fails.
This is fixed-sequence testing (Learn then Test, Angelopoulos et al. 2021), for a risk that is monotone also
risk-controlling prediction (Bates et al. 2021), with the bound of Clopper and Pearson (1934). Over the draw of the
held-out rows, the chosen threshold keeps its promise with probability at least 1 - alpha, for any student and any
teacher, on rows that are drawn as the held-out rows were.

Where the teacher is asked about the student's m best classes only (a shortlist), a deferred row differs if the
teacher's answer is none of them. The student's own answer is, so the risk still only falls as the threshold rises.

Of a corpus whose rows are counted more can be promised: rows that the teacher has answered already, the held-out ones
among them, do not differ, and of the others, from which the held-out rows were drawn without replacement, so many more
may. The test is hypergeometric then, and the promise is about the rows of that corpus.

What a row's answer is, and how sure, says `zsd.confidence`: a multi-label row agrees where all K of its answers do.

Legend: N held-out rows, K labels.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import beta, binom, hypergeom

from zsd.confidence import BoolArray, FloatArray, confidence, differs

NEVER = 2.0
"""A threshold above every confidence: the teacher answers every row."""


@dataclass(frozen=True, kw_only=True)
class Deferral:
    """A fitted threshold and what is known about it.

    Attributes:
        threshold: the student answers a row of at least this confidence; `NEVER` where it is trusted with none.
        min_agreement: share of rows on which the combined answer is to be the teacher's.
        alpha: probability, over the draw of the held-out rows, that the promise is broken.
        agreement_bound: lower bound of that share at level 1 - alpha; 1 where everything is deferred.
        heldout_rows: N, rows it was fitted on, none of which the student was trained on.
        heldout_agreement: share of them on which the combined answer is the teacher's.
        heldout_deferred: share of them that is deferred.
        student_agreement: share of them on which the student alone answers as the teacher.
        shortlist: the teacher is asked about so many best classes of the student; None: about all.
        corpus_rows: rows of the corpus that the promise is about; None: it is about any rows drawn alike.
        known_rows: of these, rows that the teacher has answered before.
    """

    threshold: float
    min_agreement: float
    alpha: float
    agreement_bound: float
    heldout_rows: int
    heldout_agreement: float
    heldout_deferred: float
    student_agreement: float
    shortlist: int | None = None
    corpus_rows: int | None = None
    known_rows: int = 0

    def to_dict(self) -> dict[str, Any]:
        """For manifests and JSON; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Deferral:
        """Read what `to_dict` wrote."""
        return cls(**data)


def deferred(probs_NK: FloatArray, threshold: float, *, multi_label: bool) -> BoolArray:
    """[N] the rows that the teacher is asked about."""
    below: BoolArray = confidence(probs_NK, multi_label=multi_label) < threshold
    return below


def shortlisted(probs_NK: FloatArray, size: int) -> BoolArray:
    """[N, K] the classes of each row that the student finds the most probable, so many of them."""
    best_NM = np.argsort(-probs_NK, axis=1, kind="stable")[:, :size]
    chosen_NK = np.zeros(probs_NK.shape, dtype=np.bool_)
    np.put_along_axis(chosen_NK, best_NM, True, axis=1)
    return chosen_NK


def missed(student_NK: FloatArray, teacher_NK: FloatArray, size: int | None) -> BoolArray:
    """[N] where the teacher's class is not on the shortlist: asked about that alone, it would answer another one."""
    if size is None:
        return np.zeros(len(student_NK), dtype=np.bool_)
    answer_N = teacher_NK.argmax(axis=1)
    listed_N: BoolArray = shortlisted(student_NK, size)[np.arange(len(answer_N)), answer_N]
    return ~listed_N


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """The rows that a promise is about.

    Attributes:
        rows: all of them.
        known: those that the teacher has answered, the held-out rows among them.
    """

    rows: int
    known: int

    def at_most(self, differing: int, all_differing: int, rows: int) -> float:
        """How likely it is that so few of ``rows`` held-out rows differ, where of these and the unknown ones together
        so many do."""
        drawn_from = rows + self.rows - self.known
        return float(hypergeom.cdf(differing, drawn_from, all_differing, rows)) if all_differing <= drawn_from else 0.0


def agreement_bound(rows: int, differing: int, alpha: float, corpus: Corpus | None = None) -> float:
    """The lower bound of a share, of which ``differing`` of ``rows`` rows are no part.

    It is below the true share with probability at least 1 - alpha: of a corpus, or by Clopper and Pearson of all rows
    that are drawn as these were.
    """
    if corpus is not None:
        unknown = range(corpus.rows - corpus.known + 1)
        beyond = bisect_left(unknown, -alpha, key=lambda more: -corpus.at_most(differing, differing + more, rows))
        return 1 - (beyond - 1) / corpus.rows
    if differing >= rows:
        return 0.0
    return float(beta.ppf(alpha, rows - differing, differing + 1))


def most_differing(rows: int, min_agreement: float, alpha: float, corpus: Corpus | None = None) -> int:
    """The largest number of differing rows at which `agreement_bound` is still ``min_agreement``; -1 where none is."""
    if corpus is not None:
        allowed = math.floor((1 - min_agreement) * corpus.rows * (1 + 1e-12))
        numbers = range(rows + 1)
        return bisect_right(numbers, alpha, key=lambda most: corpus.at_most(most, allowed + most + 1, rows)) - 1
    quantile = int(binom.ppf(alpha, rows, 1 - min_agreement))  # the smallest number of at least that probability
    return quantile if binom.cdf(quantile, rows, 1 - min_agreement) <= alpha else quantile - 1


def fit_deferral(
    student_NK: FloatArray,
    teacher_NK: FloatArray,
    *,
    multi_label: bool,
    min_agreement: float,
    alpha: float,
    shortlist: int | None = None,
    corpus: Corpus | None = None,
) -> Deferral:
    """The lowest threshold at which the combined answer is still shown to agree with the teacher often enough.

    A shortlist that misses too many answers to be used at all is given up: the teacher is then asked about all classes.

    Args:
        student_NK: the student's probabilities of rows that it was not trained on.
        teacher_NK: the teacher's.
        multi_label: what the rows' answers are; there is no shortlist then.
        min_agreement: in [0, 1].
        alpha: in (0, 1).
        shortlist: see `Deferral`; it must not have been chosen on these rows.
        corpus: the rows that the promise is about; None: any rows drawn as the held-out rows were.
    """
    sure_N = confidence(student_NK, multi_label=multi_label)
    wrong_N = differs(student_NK, teacher_NK, multi_label=multi_label)
    rows = len(sure_N)
    most = most_differing(rows, min_agreement, alpha, corpus)
    missed_N = missed(student_NK, teacher_NK, shortlist)
    if shortlist is not None and missed_N.sum() > most:
        shortlist, missed_N = None, np.zeros(rows, dtype=np.bool_)
    order_N = np.argsort(-sure_N, kind="stable")
    differing_N = missed_N.sum() + np.cumsum(wrong_N[order_N].astype(np.int64) - missed_N[order_N])
    last_of_its_confidence_N = np.append(np.diff(sure_N[order_N]) != 0, True)[:rows]
    passed = np.flatnonzero(last_of_its_confidence_N & (differing_N <= most))
    answered = int(passed[-1]) + 1 if len(passed) else 0
    differing = int(differing_N[answered - 1]) if answered else int(missed_N.sum())
    sure = answered == 0 and shortlist is None  # the teacher answers every row, about every class
    return Deferral(
        threshold=0.0 if answered == rows > 0 else float(sure_N[order_N[answered - 1]]) if answered else NEVER,
        min_agreement=min_agreement,
        alpha=alpha,
        agreement_bound=1.0 if sure else agreement_bound(rows, differing, alpha, corpus),
        heldout_rows=rows,
        heldout_agreement=1 - differing / max(1, rows),
        heldout_deferred=1 - answered / max(1, rows),
        student_agreement=1 - float(wrong_N.mean()) if rows else 0.0,
        shortlist=shortlist,
        corpus_rows=corpus.rows if corpus else None,
        known_rows=corpus.known if corpus else 0,
    )
