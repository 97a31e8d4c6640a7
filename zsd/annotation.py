"""How many rows of a corpus the teacher has to see for the whole corpus to get its labels: the plan of `zsd annotate`.

The sample has three parts, each drawn by a hash of the row's id, so that each is a random part of the corpus and a
larger one holds the smaller::

    proof rows     never trained on; the threshold of the final student is fitted on them, once
    pilot rows     whether another student pays is decided on them; only the final student is trained on them
    trained rows   growing from sample to sample

Decisions are made on other rows than the proof: the bound of `zsd.deferral` holds for whichever student comes out.

What is made small is the number of pairs that the teacher sees: all classes of the sample, and, of the rows of the
rest that the student will not answer, the classes that it finds probable.

Legend: N rows, K labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import norm

from zsd.batching import IntArray
from zsd.confidence import BoolArray, FloatArray, confidence, differs
from zsd.deferral import Corpus, missed, most_differing
from zsd.errors import ConfigError
from zsd.row_hash import hash_mask

PILOT_SHARE = 1 / 3
"""Pilot rows for each proof row."""

DEFERRED_FOR_RISK = 4.0
"""Rows more that are deferred for each row fewer that may differ: about what it takes where 97 % are asked for."""

FIRST_GAIN = 0.85
"""What the cost of deferral is expected to fall to with twice the trained rows, before anything is known: what it fell
to on AG News from 1,000 to 2,000 rows."""

LEAST_CORPUS = 4
"""How many times the held-out rows a corpus must have for a sample of it to save anything worth the trouble."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which part of the corpus is sampled first.

    Attributes:
        corpus_rows: N.
        proof: share of the rows that are proof rows.
        heldout: share of the rows that are proof or pilot rows.
        first: rows that the first student is trained on.
        min_agreement: see `zsd.deferral`.
        alpha: see `zsd.deferral`.
    """

    corpus_rows: int
    proof: float
    heldout: float
    first: int
    min_agreement: float
    alpha: float

    @property
    def heldout_rows(self) -> int:
        """Proof and pilot rows, about."""
        return round(self.heldout * self.corpus_rows)

    @property
    def pilot_rows(self) -> int:
        """Pilot rows, about."""
        return round((self.heldout - self.proof) * self.corpus_rows)

    def risk(self, rows: int) -> float:
        """Share of the proof rows that may differ where the teacher has answered so many rows of the corpus."""
        proof = round(self.proof * self.corpus_rows)
        corpus = Corpus(rows=self.corpus_rows, known=rows)
        return most_differing(proof, self.min_agreement, self.alpha, corpus) / proof

    def trained_share(self, rows: int) -> float:
        """Share of the rows that are not held out that so many trained rows are."""
        return min(1.0, rows / max(1, self.corpus_rows - self.heldout_rows))


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What came of one sample.

    Attributes:
        rows: rows that the teacher has seen, all in all.
        trained: rows of these that the student was trained on.
        deferred: share of the corpus that its student is expected to defer, by the pilot rows.
        cost: what that takes, as a share of the teacher's full pass; less than ``deferred`` with a shortlist.
        shortlist: see `zsd.deferral.Deferral`.
        agreement: share of the pilot rows on which the student alone answers as the teacher.
    """

    rows: int
    trained: int
    deferred: float
    cost: float
    shortlist: int | None
    agreement: float

    def total(self, plan: Plan) -> float:
        """What the teacher will have cost if it stays at this sample, in rows asked about all classes.

        The student that will answer is taught the pilot rows, too.
        """
        cost = self.cost * gain((self.trained + plan.pilot_rows) / self.trained)
        return self.rows + cost * (plan.corpus_rows - self.rows)


def make_plan(
    corpus_rows: int, *, min_agreement: float, alpha: float, judging_rows: int | None, first_rows: int | None
) -> Plan:
    """Choose the sizes.

    Args:
        corpus_rows: N.
        min_agreement: see `zsd.deferral`.
        alpha: see `zsd.deferral`.
        judging_rows: proof rows, where the user says how many.
        first_rows: rows that the first student is trained on, likewise.

    Raises:
        ConfigError: the corpus is too small, or so many judging rows can prove nothing.
    """
    proof = judging_rows or proof_rows(corpus_rows, min_agreement=min_agreement, alpha=alpha)
    if most_differing(proof, min_agreement, alpha) < 0:
        least = math.ceil(math.log(alpha) / math.log(min_agreement))
        raise ConfigError(
            f"--judging-rows {proof} cannot show an agreement of {min_agreement} if all agree: give {least} or more"
        )
    heldout = proof + math.ceil(PILOT_SHARE * proof)
    first = first_rows or proof
    if LEAST_CORPUS * heldout > corpus_rows:
        raise ConfigError(
            f"a corpus of {corpus_rows:,} rows is too small to sample (at least {LEAST_CORPUS * heldout:,} for "
            f"--min-agreement {min_agreement}): label all of it with zsd label"
        )
    return Plan(
        corpus_rows=corpus_rows,
        proof=proof / corpus_rows,
        heldout=heldout / corpus_rows,
        first=min(first, corpus_rows - heldout),
        min_agreement=min_agreement,
        alpha=alpha,
    )


def proof_rows(corpus_rows: int, *, min_agreement: float, alpha: float) -> int:
    """How many proof rows pay for themselves.

    With n of them the bound lies about z * sqrt(a (1 - a) / n) below what is observed; each row that may therefore not
    differ costs `DEFERRED_FOR_RISK` deferred rows. The sum of both costs is least where its derivative is 0. There are
    at least as many as can prove the agreement where one row in three that is allowed differs.
    """
    spread: float = norm.isf(alpha) * math.sqrt(min_agreement * (1 - min_agreement))
    best: float = (max(0.0, spread) * DEFERRED_FOR_RISK * corpus_rows / 2) ** (2 / 3)
    least = 1
    while most_differing(least, min_agreement, alpha) < least * (1 - min_agreement) / 3:
        least += 1
    return max(round(best), least)


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What a student promises, as some rows suggest.

    Attributes:
        deferred: share of the rows that it will defer.
        shortlist: about how many of its best classes the teacher is best asked then; None: about all.
        cost: share of the full pass over the rows it does not know that this takes.
        agreement: share of the rows on which it alone answers as the teacher.
    """

    deferred: float
    shortlist: int | None
    cost: float
    agreement: float


def outlook(
    student_NK: FloatArray, teacher_NK: FloatArray, *, multi_label: bool, risk: float, some_classes: bool = True
) -> Outlook:
    """What a student promises, with the shortlist that makes it cheapest.

    Args:
        student_NK: its probabilities of rows that it was not trained on.
        teacher_NK: the teacher's.
        multi_label: what the rows' answers are; there is no shortlist then.
        risk: share of these rows that may differ.
        some_classes: whether the teacher may be asked about some classes only.
    """
    wrong_N = differs(student_NK, teacher_NK, multi_label=multi_label)
    order_N = np.argsort(-confidence(student_NK, multi_label=multi_label), kind="stable")
    rows, labels = student_NK.shape
    found: list[Outlook] = []
    for size in (None, *(range(2, labels) if some_classes and not multi_label else ())):
        missed_N = missed(student_NK, teacher_NK, size)
        if size is not None and missed_N.sum() > risk * rows:
            continue
        differing_N = missed_N.sum() + np.cumsum(wrong_N[order_N].astype(np.int64) - missed_N[order_N])
        deferred = 1 - _answered(differing_N, risk * rows) / rows
        cost = deferred * (labels if size is None else size) / labels
        found.append(Outlook(deferred=deferred, shortlist=size, cost=cost, agreement=1 - float(wrong_N.mean())))
    return min(found, key=lambda one: one.cost)


def _answered(differing_N: IntArray, allowed: float) -> float:
    """How many rows a student may answer, between those of the two whole numbers that may differ: of some hundred pilot
    rows only a few may, and 3.67 of 180, say, taken as 3 are a fifth too few."""

    def upto(most: int) -> int:
        passed = np.flatnonzero(differing_N <= most)
        return int(passed[-1]) + 1 if len(passed) else 0

    whole = math.floor(allowed)
    fewer = upto(whole)
    return fewer + (allowed - whole) * (upto(whole + 1) - fewer)


def next_trained(samples: Sequence[Sample], plan: Plan, growth: float) -> int | None:
    """How many rows the next student is to be trained on; None where the last one is to be kept.

    What deferral costs is expected to shrink as it shrank last time. Another sample is drawn only if the teacher then
    costs less in all.
    """
    last = samples[-1]
    trained = round(last.trained * growth)
    rows = last.rows + trained - last.trained
    if rows >= min(last.total(plan), plan.corpus_rows):
        return None
    falls_to = gain(growth)
    if len(samples) > 1 and samples[-2].cost:
        falls_to = min(1.0, last.cost / samples[-2].cost)
    following = replace(last, rows=rows, trained=trained, cost=falls_to * last.cost)
    return trained if following.total(plan) < last.total(plan) else None


def gain(growth: float) -> float:
    """What the cost of deferral is expected to fall to with so many times the trained rows."""
    return math.pow(FIRST_GAIN, math.log2(growth))


def sample_mask(ids: Sequence[str], share: float) -> BoolArray:
    """[N] the rows that a random sample of this share takes; a larger share takes the same rows and more."""
    return hash_mask(ids, share, b"zsd-sample")
