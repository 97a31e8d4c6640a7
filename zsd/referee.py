"""The teacher as the one who is asked where the student is not sure: its answers, stored ones before new ones.

Legend: N rows, K labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from zsd.confidence import BoolArray, FloatArray
from zsd.deferral import deferred, shortlisted
from zsd.engines.base import Placement
from zsd.known_logits import KnownLogits
from zsd.labelling import LabelTask, LabelWorker
from zsd.shards import Store
from zsd.soft_labels import Recipe
from zsd.students.base import Answer, Student
from zsd.teachers.scoring import Scores


@dataclass(frozen=True, kw_only=True)
class RefereeTask:
    """All that an actor needs to ask the teacher; picklable.

    Args:
        store: a store of soft labels; what it knows is not asked again.
        threshold: see `zsd.deferral.Deferral`.
        shortlist: see there.
        recipe: makes probabilities of the teacher's logits.
        teacher: how it is run.
    """

    store: str
    threshold: float
    shortlist: int | None
    recipe: Recipe
    teacher: LabelTask


@dataclass(frozen=True, kw_only=True)
class Refereed:
    """The answers to N rows, and who gave them.

    Attributes:
        probs: [N, K].
        teacher: [N] the rows that the teacher answered, from the store or anew.
        student: what the student's part cost; None where it was not asked.
        asked: rows that the teacher was asked about now.
        pairs: premise/hypothesis pairs of these.
        tokens: real tokens of these.
        rechecked: how often one of these was run again, by a second look or a third.
    """

    probs: FloatArray
    teacher: BoolArray
    student: Answer | None
    asked: int
    pairs: int
    tokens: int
    rechecked: int = 0


class Referee:
    """A teacher beside a student, loaded once; for one thread at a time."""

    def __init__(self, task: RefereeTask, placement: Placement) -> None:
        self.task = task
        self.known = KnownLogits(Store(task.store))
        self._placement = placement
        self._worker: LabelWorker | None = None

    @property
    def choice(self) -> str:
        """Which file says what runs the teacher; empty as long as it has not been asked."""
        return self._worker.choice if self._worker else ""

    def answer(self, student: Student, texts: pa.ChunkedArray) -> Refereed:
        """Ask the store, then the student, then the teacher about the rows of which the student is not sure.

        Raises:
            EngineError: an engine cannot run these rows here.
        """
        places_N = self.known.find(texts)
        known_N = places_N >= 0
        probs_NK = np.empty((len(places_N), len(student.names)), dtype=np.float32)
        probs_NK[known_N] = self.task.recipe.probs(*self.known.take(places_N[known_N]))
        answer: Answer | None = None
        asked_N = np.zeros(len(places_N), dtype=np.bool_)
        pairs = tokens = rechecked = 0
        if not known_N.all():
            answer = student.answer(texts.filter(pa.array(~known_N)).to_pylist())
            probs_NK[~known_N] = answer.probs
            unsure_N = deferred(probs_NK, self.task.threshold, multi_label=student.multi_label)
            asked_N = unsure_N & ~known_N
        if asked_N.any():
            scores = self._ask(texts.filter(pa.array(asked_N)).to_pylist(), probs_NK[asked_N])
            probs_NK[asked_N] = self.task.recipe.probs(scores.entailment, scores.contradiction)
            pairs, tokens, rechecked = scores.pairs, scores.tokens, scores.rechecked
        return Refereed(
            probs=probs_NK,
            teacher=known_N | asked_N,
            student=answer,
            asked=int(asked_N.sum()),
            pairs=pairs,
            tokens=tokens,
            rechecked=rechecked,
        )

    def _ask(self, texts: list[str], student_NK: FloatArray) -> Scores:
        scorer = self._teacher().scorer
        if self.task.shortlist is None:
            return scorer.score(texts)
        wanted_NK = shortlisted(student_NK, self.task.shortlist)
        return scorer.score(texts, np.tile(wanted_NK, (1, scorer.templates)))

    def _teacher(self) -> LabelWorker:
        """Loaded when a row is to be asked: a student that is sure of all needs no teacher."""
        if self._worker is None:
            self._worker = LabelWorker(self.task.teacher, self._placement)
        return self._worker
