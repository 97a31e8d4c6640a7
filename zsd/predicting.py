"""One unit of prediction: read its rows, run the student, commit the probabilities.

With a referee, the teacher answers the rows that the student is not sure of, and a column says who answered. A plain
callable: loads the student when made, knows nothing of Ray. Two threads may call it: while one unit is in the models,
the next can be read and the one before committed.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from zsd import storage
from zsd.engines.base import Placement
from zsd.label_tables import prediction_columns
from zsd.referee import Referee, Refereed, RefereeTask
from zsd.shards import ANSWERED_BY, PREDICTIONS, UnitRecord, commit_unit, prediction_schema
from zsd.students import load_student
from zsd.unit_rows import Skip, probed_rows, unit_rows
from zsd.units import Unit

STUDENT, TEACHER = "student", "teacher"
"""What the column `ANSWERED_BY` holds."""


@dataclass(frozen=True, kw_only=True)
class PredictTask:
    """All that a predicting actor needs; picklable.

    Args:
        output: the job's output directory.
        model: the student's directory.
        engine: what runs it.
        precision: what it computes with.
        referee: who answers where it is not sure; None: nobody.
    """

    output: str
    model: str
    engine: str
    precision: str
    referee: RefereeTask | None = None

    def __call__(self, placement: Placement) -> PredictWorker:
        """Load the student here."""
        return PredictWorker(self, placement)


class PredictWorker:
    """A student, loaded once, that predicts unit after unit."""

    def __init__(self, task: PredictTask, placement: Placement) -> None:
        self.corpus = storage.join(task.output, "corpus")
        self.rejected = storage.join(task.output, "rejected")
        self.directory = storage.join(task.output, PREDICTIONS)
        self.student = load_student(
            task.model,
            engine=task.engine,
            precision=task.precision,
            threads=placement.threads,
            device=placement.device,
        )
        self.referee = Referee(task.referee, placement) if task.referee else None
        self._models_free = threading.Lock()

    def probe(self, unit: Unit, *, start: int, stop: int, skip: Skip = ()) -> None:
        """Run the models on some rows of a unit, and commit nothing."""
        rows = probed_rows(self.corpus, unit, start=start, stop=stop, skip=skip)
        if rows.num_rows:
            self._answers(rows["text"])

    def __call__(self, unit: Unit, *, worker: str, skip: Skip = ()) -> UnitRecord:
        """Predict one unit, but for the rows to skip, and commit it."""
        table = pa.concat_tables(unit_rows(self.corpus, self.rejected, unit, skip))
        asked = time.time()
        answers, waited = self._answers(table["text"])
        started, student = asked + waited, answers.student
        record = UnitRecord(
            part=unit.part,
            rows=table.num_rows,
            pairs=len(student.logits) if student else 0,
            tokens=answers.tokens + (student.tokens if student else 0),
            truncated=student.truncated if student else 0,
            padding_waste=round(student.padding_waste, 4) if student else 0.0,
            seconds=0.0,
            started=started,
            worker=worker,
            engine=self.student.engine,
            precision=self.student.precision,
            choice=self.referee.choice if self.referee else "",
            rejected=len(skip),
            by_teacher=int(answers.teacher.sum()),
            teacher_rows=answers.asked,
            teacher_pairs=answers.pairs,
            rechecked=answers.rechecked,
        )
        predicted = self._table(table, answers)
        return commit_unit(self.directory, predicted, replace(record, seconds=round(time.time() - started, 4)))

    def _answers(self, texts: pa.ChunkedArray) -> tuple[Refereed, float]:
        """The answers, and the seconds spent waiting for another thread's turn with the models."""
        asked = time.time()
        with self._models_free:
            waited = time.time() - asked
            if self.referee is not None:
                return self.referee.answer(self.student, texts), waited
            answer = self.student.answer(texts.to_pylist())
            nobody = np.zeros(len(answer.logits), dtype=np.bool_)
            alone = Refereed(probs=answer.probs, teacher=nobody, student=answer, asked=0, pairs=0, tokens=0)
            return alone, waited

    def _table(self, rows: pa.Table, answers: Refereed) -> pa.Table:
        columns: dict[str, Any] = prediction_columns(rows, answers.probs, self.student.names)
        if self.referee is not None:
            columns[ANSWERED_BY] = pa.array(np.where(answers.teacher, TEACHER, STUDENT), pa.string())
        refereed = self.referee is not None
        return pa.table(columns, schema=prediction_schema(len(self.student.names), answered_by=refereed))
