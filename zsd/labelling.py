"""One unit of labelling: read its rows, run the teacher, commit the soft labels.

A plain callable: loads the teacher when made, knows nothing of Ray. Legend: N rows, K labels.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from zsd import storage
from zsd.engines import load_engine
from zsd.engines.base import Placement
from zsd.engines.select import SAMPLE_ROWS, Trial, choose_engine
from zsd.labels import LabelSet
from zsd.shards import SOFT_LABELS, Unit, UnitRecord, commit_unit, read_unit, soft_label_schema, vectors, write_json
from zsd.soft_labels import soft_labels
from zsd.teachers.nli import load_teacher
from zsd.teachers.scoring import Scorer, Scores

SAMPLE_UNITS = 8
"""Fewest units, where there are that many, that the rows for `--engine auto` are taken from."""


@dataclass(frozen=True, kw_only=True)
class LabelTask:
    """All that a labelling actor needs; picklable.

    Args:
        output: the job's output directory.
        labels: what is asked.
        teacher: checkpoint name or path.
        nli_classes: see `zsd.teachers.nli.find_nli_classes`.
        max_length: most tokens of a pair.
        temperature: of the soft labels.
        engine: engine name or ``auto``.
        precision: ``fp32``, ``bf16`` or None: fp32 for a named engine, any that agrees for ``auto``.
        min_agreement: for ``auto``.
        sample: units on whose first rows ``auto`` measures; see `sample_units`.
        pairs: pairs that one actor may expect.
    """

    output: str
    labels: LabelSet
    teacher: str
    nli_classes: str | None
    max_length: int | None
    temperature: float
    engine: str
    precision: str | None
    min_agreement: float
    sample: tuple[Unit, ...]
    pairs: int

    def __call__(self, placement: Placement) -> LabelWorker:
        """Load the teacher here."""
        return LabelWorker(self, placement)


def sample_units(units: Sequence[Unit]) -> tuple[Unit, ...]:
    """Units from all over the corpus that hold `SAMPLE_ROWS` rows together: one file may hold one kind of text only."""
    count = max(SAMPLE_UNITS, -(-SAMPLE_ROWS // units[0].rows))
    return tuple(units[:: max(1, len(units) // count)][:count])


class LabelWorker:
    """A teacher, loaded once, that labels unit after unit."""

    def __init__(self, task: LabelTask, placement: Placement) -> None:
        self.task = task
        self.corpus = storage.join(task.output, "corpus")
        self.directory = storage.join(task.output, SOFT_LABELS)
        teacher = load_teacher(task.teacher, max_length=task.max_length, nli_classes=task.nli_classes)
        self.trials: list[Trial] = []
        if task.engine == "auto":
            self.scorer, self.trials = choose_engine(
                teacher,
                task.labels,
                placement,
                self._sample_texts(),
                pairs=task.pairs,
                precision=task.precision,
                min_agreement=task.min_agreement,
            )
        else:
            engine = load_engine(task.engine, teacher, placement, task.precision or "fp32")
            self.scorer = Scorer(teacher, engine, task.labels)

    def __call__(self, unit: Unit, *, worker: str) -> UnitRecord:
        """Label one unit and commit its shard."""
        if self.trials:
            self._record_trials(worker)
        started = time.time()
        table = read_unit(self.corpus, unit)
        scores = self.scorer.score(table["text"].to_pylist())
        record = UnitRecord(
            part=unit.part,
            rows=table.num_rows,
            pairs=table.num_rows * len(self.task.labels),
            tokens=scores.tokens,
            truncated=scores.truncated,
            padding_waste=round(scores.padding_waste, 4),
            seconds=0.0,
            started=started,
            worker=worker,
            engine=self.scorer.engine.name,
            precision=self.scorer.engine.precision,
        )
        labelled = soft_label_table(table, scores, self.task.labels, self.task.temperature)
        return commit_unit(self.directory, labelled, replace(record, seconds=round(time.time() - started, 4)))

    def _sample_texts(self) -> list[str]:
        """As many rows of each sample unit, `SAMPLE_ROWS` in all."""
        share = -(-SAMPLE_ROWS // len(self.task.sample))
        tables = (read_unit(self.corpus, unit) for unit in self.task.sample)
        return [text for table in tables for text in table["text"][:share].to_pylist()]

    def _record_trials(self, worker: str) -> None:
        """Keep what ``auto`` measured in this actor, for the manifest."""
        file = storage.join(self.task.output, "engines", f"{worker.replace(' ', '-')}.json")
        write_json(file, {"worker": worker, "trials": [asdict(trial) for trial in self.trials]})
        self.trials = []


def soft_label_table(rows: pa.Table, scores: Scores, labels: LabelSet, temperature: float) -> pa.Table:
    """The (id, text) rows with their soft labels and raw logits, in the store's schema."""
    probs_NK = soft_labels(
        scores.entailment, scores.contradiction, multi_label=labels.multi_label, temperature=temperature
    )
    columns: dict[str, Any] = {
        **prediction_columns(rows, probs_NK, labels.names),
        "entailment": vectors(scores.entailment),
        "contradiction": vectors(scores.contradiction),
    }
    return pa.table(columns, schema=soft_label_schema(len(labels)))


def prediction_columns(rows: pa.Table, probs_NK: np.ndarray[Any, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """id, text, the most probable label, its score, and all probabilities."""
    best_N = probs_NK.argmax(axis=1)
    return {
        "id": rows["id"].cast(pa.string()),
        "text": rows["text"].cast(pa.string()),
        "label": pa.array([names[k] for k in best_N], pa.string()),
        "score": pa.array(probs_NK[np.arange(len(best_N)), best_N], pa.float32()),
        "probs": vectors(probs_NK),
    }
