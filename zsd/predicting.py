"""One unit of prediction: read its rows, run the student, commit the probabilities.

A plain callable: loads the student when made, knows nothing of Ray.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import pyarrow as pa
import torch

from zsd import storage
from zsd.engines.base import Placement
from zsd.inference import predict
from zsd.labelling import prediction_columns
from zsd.shards import PREDICTIONS, UnitRecord, commit_unit, prediction_schema
from zsd.students.checkpoint import load_checkpoint, student_names
from zsd.unit_rows import Skip, probed_rows, unit_rows
from zsd.units import Unit

CPU_TOKEN_BUDGET = 2048
CUDA_TOKEN_BUDGET = 65536
"""Padded tokens a call."""


@dataclass(frozen=True, kw_only=True)
class PredictTask:
    """All that a predicting actor needs; picklable.

    Args:
        output: the job's output directory.
        model: the student's checkpoint directory.
        precision: ``fp32`` or ``bf16``.
    """

    output: str
    model: str
    precision: str

    def __call__(self, placement: Placement) -> PredictWorker:
        """Load the student here."""
        return PredictWorker(self, placement)


class PredictWorker:
    """A student, loaded once, that predicts unit after unit."""

    def __init__(self, task: PredictTask, placement: Placement) -> None:
        torch.set_num_threads(placement.threads)
        self.precision = task.precision
        self.corpus = storage.join(task.output, "corpus")
        self.rejected = storage.join(task.output, "rejected")
        self.directory = storage.join(task.output, PREDICTIONS)
        self.model, self.tokenizer = load_checkpoint(task.model, task.precision)
        self.model.to(placement.device)
        self.token_budget = CUDA_TOKEN_BUDGET if placement.device == "cuda" else CPU_TOKEN_BUDGET
        self.names = tuple(student_names(self.model)[0])

    def probe(self, unit: Unit, *, start: int, stop: int, skip: Skip = ()) -> None:
        """Run the student on some rows of a unit, and commit nothing."""
        texts = probed_rows(self.corpus, unit, start=start, stop=stop, skip=skip)["text"].to_pylist()
        if texts:
            predict(self.model, self.tokenizer, texts, token_budget=self.token_budget)

    def __call__(self, unit: Unit, *, worker: str, skip: Skip = ()) -> UnitRecord:
        """Predict one unit, but for the rows to skip, and commit it."""
        started = time.time()
        table = pa.concat_tables(unit_rows(self.corpus, self.rejected, unit, skip))
        result = predict(self.model, self.tokenizer, table["text"].to_pylist(), token_budget=self.token_budget)
        record = UnitRecord(
            part=unit.part,
            rows=table.num_rows,
            pairs=table.num_rows,
            tokens=result.tokens,
            truncated=result.truncated,
            padding_waste=round(result.padding_waste, 4),
            seconds=0.0,
            started=started,
            worker=worker,
            engine="torch",
            precision=self.precision,
            rejected=len(skip),
        )
        columns = prediction_columns(table, result.probs, self.names)
        predicted = pa.table(columns, schema=prediction_schema(len(self.names)))
        return commit_unit(self.directory, predicted, replace(record, seconds=round(time.time() - started, 4)))
