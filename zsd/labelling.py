"""One unit of labelling: read its rows, run the teacher, commit the soft labels.

A plain callable: loads the teacher when made, knows nothing of Ray. Two threads may call it: while one unit is in the
engine, the next can be read, tokenized and cut into batches, and the one before committed. Legend: N rows, K labels.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from zsd import storage
from zsd.buckets import LengthSample
from zsd.engines.base import Placement
from zsd.engines.choice import choice_name, one_at_a_time, read_choice, write_choice
from zsd.engines.select import SAMPLE_ROWS, choose_engine, load_scorer
from zsd.engines.trial import Trial
from zsd.labels import LabelSet
from zsd.shards import SOFT_LABELS, Unit, UnitRecord, commit_unit, read_unit, soft_label_schema, vectors
from zsd.soft_labels import soft_labels
from zsd.teachers.nli import NLITeacher, load_teacher
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
        precision: ``fp32``, ``bf16``, ... or None: fp32 for a named engine, any that agrees for ``auto``.
        min_agreement: for ``auto``.
        long_text: ``truncate`` or ``window``; see `zsd.windows`.
        lengths: of the pairs of the whole job.
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
    long_text: str
    lengths: LengthSample
    sample: tuple[Unit, ...]
    pairs: int

    def __call__(self, placement: Placement) -> LabelWorker:
        """Load the teacher here."""
        return LabelWorker(self, placement)


def sample_units(units: Sequence[Unit]) -> tuple[Unit, ...]:
    """Units from all over the corpus that hold `SAMPLE_ROWS` rows together: one file may hold one kind of text only."""
    count = max(SAMPLE_UNITS, -(-SAMPLE_ROWS // units[0].rows))
    return tuple(units[:: max(1, len(units) // count)][:count])


def sample_texts(corpus: str, sample: Sequence[Unit], rows: int) -> list[str]:
    """The first rows of each sample unit, the same number of each, `rows` or a few more in all where they hold so many.

    Raises:
        StoreError: a corpus shard is missing or damaged.
    """
    share = -(-rows // len(sample))
    tables = (read_unit(corpus, unit) for unit in sample)
    return [text for table in tables for text in table["text"][:share].to_pylist()]


class LabelWorker:
    """A teacher, loaded once, that labels unit after unit."""

    def __init__(self, task: LabelTask, placement: Placement) -> None:
        self.task = task
        self.corpus = storage.join(task.output, "corpus")
        self.directory = storage.join(task.output, SOFT_LABELS)
        teacher = load_teacher(task.teacher, max_length=task.max_length, nli_classes=task.nli_classes)
        self.choice = choice_name(placement)
        self.scorer = self._scorer(teacher, placement)
        self._tokenizer_free = threading.Lock()
        self._engine_free = threading.Lock()

    def __call__(self, unit: Unit, *, worker: str) -> UnitRecord:
        """Label one unit and commit its shard."""
        began = time.time()
        table = read_unit(self.corpus, unit)
        with self._tokenizer_free:
            prepared = self.scorer.prepare(table["text"].to_pylist())
        preparing = time.time() - began
        with self._engine_free:
            started = time.time() - preparing  # as if it had not waited for the engine
            scores = self.scorer.run(prepared)
            seconds = time.time() - started
        record = UnitRecord(
            part=unit.part,
            rows=table.num_rows,
            pairs=scores.pairs,
            tokens=scores.tokens,
            truncated=scores.truncated,
            windowed=scores.windowed,
            windows=scores.windows,
            padding_waste=round(scores.padding_waste, 4),
            seconds=round(seconds, 4),
            started=started,
            worker=worker,
            engine=self.scorer.engine.name,
            precision=self.scorer.engine.precision,
            choice=self.choice,
        )
        labelled = soft_label_table(table, scores, self.task.labels, self.task.temperature)
        return commit_unit(self.directory, labelled, record)

    def _scorer(self, teacher: NLITeacher, placement: Placement) -> Scorer:
        """The engine that was asked for; for ``auto`` the one chosen on this node, by trials if there were none yet."""
        task = self.task
        asked = {
            "engine": task.engine,
            "precision": task.precision,
            "min_agreement": task.min_agreement,
            "teacher_fingerprint": teacher.fingerprint,
        }

        def load(engine: str, precision: str) -> Scorer:
            return load_scorer(
                engine, precision, teacher, task.labels, placement, lengths=task.lengths, long_text=task.long_text
            )

        with one_at_a_time(task.output, self.choice):
            before = read_choice(task.output, self.choice, asked)
            if before is None:
                if task.engine == "auto":
                    scorer, trials = self._choose(teacher, placement)
                else:
                    scorer, trials = load(task.engine, task.precision or "fp32"), []
                write_choice(task.output, self.choice, asked, scorer, trials)
                return scorer
        return load(before["engine"], before["precision"])

    def _choose(self, teacher: NLITeacher, placement: Placement) -> tuple[Scorer, list[Trial]]:
        task = self.task
        return choose_engine(
            teacher,
            task.labels,
            placement,
            sample_texts(self.corpus, task.sample, SAMPLE_ROWS),
            pairs=task.pairs,
            precision=task.precision,
            min_agreement=task.min_agreement,
            lengths=task.lengths,
            long_text=task.long_text,
        )


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
