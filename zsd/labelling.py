"""One unit of labelling: read its rows, run the teacher, commit the soft labels.

A plain callable: loads the teacher when made, knows nothing of Ray. Two threads may call it: while one unit is in the
engine, the next can be read, tokenized and cut into batches, and the one before committed.

Legend: N rows, K labels, T templates, H = T * K hypotheses.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from zsd import storage
from zsd.buckets import LengthSample
from zsd.engines.base import Placement
from zsd.engines.choice import FOLDER, choice_name, one_at_a_time, read_choice, write_choice
from zsd.engines.on_trial import OnTrial
from zsd.engines.registry import default_precision
from zsd.engines.select import SAMPLE_ROWS, choose_engine, load_scorer
from zsd.engines.trial import Trial
from zsd.label_tables import soft_label_table
from zsd.labels import LabelSet
from zsd.shards import (
    LOGITS,
    SOFT_LABELS,
    UnitRecord,
    commit_unit,
    matrix,
    read_row_groups,
    soft_label_schema,
)
from zsd.soft_labels.content_free import CONTENT_FREE, ContentFree, content_free_texts, write_content_free
from zsd.teachers.nli import NLITeacher, load_teacher
from zsd.teachers.scoring import Known, Scorer, Scores
from zsd.unit_rows import Skip, probed_rows, unit_rows
from zsd.units import Unit

SAMPLE_UNITS = 8
"""Fewest units, where there are that many, that the rows for `--engine auto` are taken from."""


@dataclass(frozen=True, kw_only=True)
class TeacherChoices:
    """How the teacher of a job is run.

    Args:
        teacher: checkpoint name or path.
        nli_classes: see `zsd.teachers.nli.find_nli_classes`.
        max_length: most tokens of a pair.
        temperature: of the soft labels.
        engine: engine name or ``auto``.
        precision: ``fp32``, ``bf16``, ... or None: fp32 for a named engine, any that agrees for ``auto``.
        min_agreement: for ``auto``.
        long_text: ``truncate`` or ``window``; see `zsd.windows`.
    """

    teacher: str
    nli_classes: str | None
    max_length: int | None
    temperature: float
    engine: str
    precision: str | None
    min_agreement: float
    long_text: str


@dataclass(frozen=True, kw_only=True)
class LabelTask(TeacherChoices):
    """All that a labelling actor needs; picklable.

    Args:
        output: the job's output directory.
        labels: what is asked.
        lengths: of the pairs of the whole job.
        sample: units on whose first rows ``auto`` measures; see `sample_units`.
        pairs: pairs that one actor may expect.
        run: names this run of the job, see `zsd.engines.on_trial`.
        content_free: whether texts that say nothing are scored too; see `zsd.soft_labels.content_free`.
    """

    output: str
    labels: LabelSet
    lengths: LengthSample
    sample: tuple[Unit, ...]
    pairs: int
    run: str = ""
    content_free: bool = False

    def __call__(self, placement: Placement) -> LabelWorker:
        """Load the teacher here."""
        return LabelWorker(self, placement)


def sample_units(units: Sequence[Unit]) -> tuple[Unit, ...]:
    """Row groups from all over the corpus that hold `SAMPLE_ROWS` rows together: one file may hold one kind of text."""
    groups = [group for unit in units for group in unit.single()]
    count = max(SAMPLE_UNITS, -(-SAMPLE_ROWS // groups[0].rows))
    return tuple(groups[:: max(1, len(groups) // count)][:count])


def sample_texts(corpus: str, sample: Sequence[Unit], rows: int) -> list[str]:
    """The first rows of each sample unit, the same number of each, `rows` or a few more in all where they hold so many.

    Raises:
        StoreError: a corpus shard is missing or damaged.
    """
    share = -(-rows // len(sample))
    tables = (table for unit in sample for table in read_row_groups(corpus, unit))
    return [text for table in tables for text in table["text"][:share].to_pylist()]


class LabelWorker:
    """A teacher, loaded once, that labels unit after unit."""

    def __init__(self, task: LabelTask, placement: Placement) -> None:
        self.task = task
        self.corpus = storage.join(task.output, "corpus")
        self.rejected = storage.join(task.output, "rejected")
        self.directory = storage.join(task.output, SOFT_LABELS)
        teacher = load_teacher(task.teacher, max_length=task.max_length, nli_classes=task.nli_classes)
        self.choice = choice_name(placement)
        self.scorer = self._scorer(teacher, placement)
        self._tokenizer_free = threading.Lock()
        self._engine_free = threading.Lock()
        if task.content_free and not storage.exists(storage.join(task.output, CONTENT_FREE)):
            self._score_content_free()

    def __call__(self, unit: Unit, *, worker: str, skip: Skip = ()) -> UnitRecord:
        """Label one unit, but for the rows to skip, and commit it.

        Row groups are scored one by one: a row's logits depend on its row group and not on how units are cut.
        """
        started, waited = time.time(), 0.0
        tables = [table for table in unit_rows(self.corpus, self.rejected, unit, skip) if table.num_rows]
        done: list[Scores] = []
        for table in tables:
            scores, seconds = self._scores(table)
            done.append(scores)
            waited += seconds
        tokens = sum(scores.tokens for scores in done)
        computed = sum(scores.tokens / (1 - scores.padding_waste) for scores in done)
        record = UnitRecord(
            part=unit.part,
            rows=sum(table.num_rows for table in tables),
            pairs=sum(scores.pairs for scores in done),
            tokens=tokens,
            truncated=sum(scores.truncated for scores in done),
            windowed=sum(scores.windowed for scores in done),
            windows=sum(scores.windows for scores in done),
            rechecked=sum(scores.rechecked for scores in done),
            padding_waste=round(1 - tokens / max(1.0, computed), 4),
            seconds=round(time.time() - started - waited, 4),
            started=started + waited,  # as if it had not waited for the engine
            worker=worker,
            engine=self.scorer.engine.name,
            precision=self.scorer.engine.precision,
            choice=self.choice,
            rejected=len(skip),
        )
        labels = self.task.labels
        labelled = [soft_label_schema(len(labels), len(labels.templates)).empty_table()]
        for table, scores in zip(tables, done, strict=True):
            raw = (scores.raw_entailment, scores.raw_contradiction)
            labelled.append(soft_label_table(table, *raw, labels, self.task.temperature))
        return commit_unit(self.directory, pa.concat_tables(labelled), record)

    def probe(self, unit: Unit, *, start: int, stop: int, skip: Skip = ()) -> None:
        """Run the teacher on some rows of a unit, and commit nothing."""
        texts = probed_rows(self.corpus, unit, start=start, stop=stop, skip=skip)["text"].to_pylist()
        if texts:
            self._score(self.scorer, texts)

    def _score_content_free(self) -> None:
        texts = content_free_texts(sample_texts(self.corpus, self.task.sample, SAMPLE_ROWS))
        scores, _ = self._score(self.scorer.by_teacher(), texts)
        content = ContentFree(texts=tuple(texts), entailment=scores.entailment, contradiction=scores.contradiction)
        write_content_free(self.task.output, content)

    def _scores(self, table: pa.Table) -> tuple[Scores, float]:
        """Logits of all hypotheses; where the corpus shard has some from an earlier store, only the others run."""
        texts = table["text"].to_pylist()
        if LOGITS[0] not in table.column_names:
            return self._score(self.scorer, texts)
        known = (matrix(table[LOGITS[0]]).copy(), matrix(table[LOGITS[1]]).copy())
        missing = np.flatnonzero(np.isnan(known[0]).all(axis=0))
        scores, waited = self._score(self.scorer.subset(missing.tolist()), texts, known)
        for logits_NH, new in zip(known, (scores.raw_entailment, scores.raw_contradiction), strict=True):
            logits_NH[:, missing] = new
        return replace(scores, raw_entailment=known[0], raw_contradiction=known[1]), waited

    def _score(self, scorer: Scorer, texts: list[str], known: Known | None = None) -> tuple[Scores, float]:
        """The rows' logits, and the seconds spent waiting for another thread's turn with the engine."""
        with self._tokenizer_free:
            prepared = scorer.prepare(texts)
        asked = time.time()
        with self._engine_free:
            waited = time.time() - asked
            return scorer.run(prepared, known=known), waited

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
                    scorer, trials = load(task.engine, task.precision or default_precision(task.engine)), []
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
            on_trial=OnTrial(storage.join(task.output, FOLDER, f"trial-{self.choice}"), task.run),
        )
