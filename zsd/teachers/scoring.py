"""The teacher pass: rows of text in, raw NLI logits out, exactly once for every row and class.

Pure: knows files and clusters from nothing. Legend: N rows, K labels, W premises (N, and more where long texts are
windowed), H hypotheses (K of each template), P = W * H pairs, L tokens, C NLI classes.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from zsd.batching import FloatArray, IntArray, PairSet, pair_layout
from zsd.engines.base import Engine
from zsd.engines.registry import DRAFT
from zsd.engines.run import run_batches
from zsd.labels import LabelSet
from zsd.planning import Batch, padding_waste, plan_batches
from zsd.soft_labels.close import close_pairs
from zsd.soft_labels.ensemble import mean_over_templates
from zsd.teachers.nli import NLITeacher
from zsd.teachers.recheck import Recheck
from zsd.windows import pool_windows


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Raw logits of one group of rows, and what they cost.

    Attributes:
        raw_entailment: [N, H] raw logits.
        raw_contradiction: [N, H] raw logits (``not_entailment`` for a 2-class teacher).
        pairs: P, premise/hypothesis pairs run.
        tokens: real tokens run, padding not counted.
        padding_waste: share of the computed tokens that was padding.
        truncated: rows of which the text was cut to fit.
        windowed: rows of which the text was split into windows.
        windows: how many windows these have together.
        templates: how many hypotheses each class has.
        rechecked: how often one of these was run again, by a second look or a third: see `zsd.teachers.recheck`.
    """

    raw_entailment: FloatArray
    raw_contradiction: FloatArray
    pairs: int
    tokens: int
    padding_waste: float
    truncated: int
    windowed: int
    windows: int
    templates: int = 1
    rechecked: int = 0

    @property
    def entailment(self) -> FloatArray:
        """[N, K] entailment logits, the mean over the templates."""
        return mean_over_templates(self.raw_entailment, self.templates)

    @property
    def contradiction(self) -> FloatArray:
        """[N, K] contradiction logits, the mean over the templates."""
        return mean_over_templates(self.raw_contradiction, self.templates)


Known = tuple[FloatArray, FloatArray]
"""[N, H] raw entailment logits and [N, H] raw contradiction logits."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Rows as the engine will see them: tokenized pairs, which of them are asked, and the batches these run in."""

    rows: int
    pairs: PairSet
    asked: IntArray
    batches: list[Batch]


class Scorer:
    """A teacher on an engine, with the hypotheses of one label set.

    Args:
        teacher: what is scored.
        engine: what runs it.
        labels: what is asked.
        buckets: lengths for an engine of fixed shapes, in place of its own; ignored by one that runs any length.
        long_text: ``truncate`` or ``window``: see `zsd.windows`.
        rechecks: each runs pairs again that what ran before it cannot decide between.

    Raises:
        TeacherError: the tokenizer cannot be batched pairwise, or a hypothesis does not fit.
    """

    def __init__(
        self,
        teacher: NLITeacher,
        engine: Engine,
        labels: LabelSet,
        *,
        buckets: tuple[int, ...] | None = None,
        long_text: str = "truncate",
        rechecks: Sequence[Recheck] = (),
    ) -> None:
        self.teacher = teacher
        self.engine = engine
        self.rechecks = tuple(rechecks)
        self.labels = labels
        self.buckets = None if engine.buckets is None else buckets or engine.buckets
        self.windows = long_text == "window"
        self.hypotheses = labels.hypotheses
        self.templates = len(labels.templates)
        self.columns = np.arange(len(self.hypotheses))
        self.layout = pair_layout(teacher.tokenizer)
        self.prepare(["probe"])

    def score(self, texts: Sequence[str], wanted_NH: npt.NDArray[np.bool_] | None = None) -> Scores:
        """Logits of N texts against all hypotheses, or against those that are wanted of each.

        Of every row at least one must be wanted. What is not has minus infinity, so that a softmax over the entailment
        logits is one over what was asked.

        Raises:
            EngineError: the engine returned a number that is not finite, or the wrong number of classes.
        """
        return self.run(self.prepare(texts, wanted_NH))

    def by_teacher(self) -> Scorer:
        """The same without a draft: for texts that it was not trained on, such as random words."""
        if self.engine.precision != DRAFT:
            return self
        other = copy.copy(self)
        first, *rest = self.rechecks
        other.engine, other.buckets, other.rechecks = first.engine, first.buckets, tuple(rest)
        return other

    def subset(self, columns: Sequence[int]) -> Scorer:
        """The same teacher and engine with some of the hypotheses, by their number, each as a class of its own."""
        other = copy.copy(self)
        other.templates = 1
        other.columns = np.asarray(columns, dtype=np.int64)
        other.hypotheses = [self.hypotheses[k] for k in columns]
        return other

    def close(self) -> None:
        """Free the models; the scorer cannot be used after it."""
        self.engine.close()
        for recheck in self.rechecks:
            recheck.engine.close()

    def prepare(self, texts: Sequence[str], wanted_NH: npt.NDArray[np.bool_] | None = None) -> Prepared:
        """Tokenize N texts and plan the batches of what is wanted of them (None: of all pairs).

        Not for two threads at once: the tokenizer is one.
        """
        teacher = self.teacher
        pairs = PairSet.build(
            teacher.tokenizer,
            self.layout,
            texts,
            self.hypotheses,
            max_length=teacher.max_length,
            windows=self.windows,
        )
        asked_P = np.arange(len(pairs)) if wanted_NH is None else np.flatnonzero(wanted_NH[pairs.rows])
        batches = self._planned(pairs, asked_P, self.engine, self.buckets, self.engine.token_budget)
        return Prepared(rows=len(texts), pairs=pairs, asked=asked_P, batches=batches)

    def run(self, prepared: Prepared, *, within: float = math.inf, known: Known | None = None) -> Scores:
        """Run the engine over prepared rows: see `zsd.engines.run`.

        Args:
            prepared: the rows.
            within: seconds.
            known: of a `subset`: raw logits [N, H] of all hypotheses, those of other columns known.

        Raises:
            EngineError: the engine returned a number that is not finite, or the wrong number of classes.
            TimeoutError: it was not done within so many seconds.
        """
        started, pairs = time.perf_counter(), prepared.pairs
        logits_PC = np.full((len(pairs), self.teacher.classes.count), -np.inf, dtype=np.float32)
        self._fill(logits_PC, self.batches(prepared), started, within)
        entailment_NH, contradiction_NH = self._of_rows(logits_PC, pairs)
        rechecked = 0
        for recheck in self.rechecks:
            done_P = np.empty(0, dtype=np.int64)
            # Where the teacher puts the best classes of a row lower, others come close to them.
            while len(
                again_P := np.setdiff1d(
                    self._close_pairs(recheck, pairs, (entailment_NH, contradiction_NH), known), done_P
                )
            ):
                self._fill(logits_PC, self.batches_again(recheck, pairs, again_P), started, within)
                entailment_NH, contradiction_NH = self._of_rows(logits_PC, pairs)
                done_P = np.union1d(done_P, again_P)
            rechecked += len(done_P)
        lengths = pairs.lengths[prepared.asked]
        return Scores(
            raw_entailment=entailment_NH,
            raw_contradiction=contradiction_NH,
            templates=self.templates,
            pairs=len(lengths),
            tokens=int(lengths.sum()),
            padding_waste=padding_waste(lengths, prepared.batches) if self.engine.pads else 0.0,
            truncated=pairs.truncated,
            windowed=pairs.windowed,
            windows=len(pairs.rows) - (prepared.rows - pairs.windowed) if pairs.windowed else 0,
            rechecked=rechecked,
        )

    def _fill(
        self,
        logits_PC: FloatArray,
        batches: Generator[tuple[Batch, FloatArray], None, None],
        started: float,
        within: float,
    ) -> None:
        """The batches' logits in their places.

        Raises:
            TimeoutError: so many seconds have passed since then (`time.perf_counter`).
        """
        with closing(batches) as done:
            for batch, logits_BC in done:
                logits_PC[batch.pairs] = logits_BC
                if time.perf_counter() - started >= within:
                    raise TimeoutError(f"engine {self.engine.name} was not done within {within:.1f} seconds")

    def _of_rows(self, logits_PC: FloatArray, pairs: PairSet) -> Known:
        """[N, H] entailment and contradiction logits of the pairs' rows."""
        shape_WH = (len(pairs.rows), len(self.hypotheses))
        columns = (self.teacher.classes.entailment, self.teacher.classes.contradiction)
        entailment_WH, contradiction_WH = (np.ascontiguousarray(logits_PC[:, c]).reshape(shape_WH) for c in columns)
        return pool_windows(entailment_WH, contradiction_WH, pairs.rows)

    def _close_pairs(self, recheck: Recheck, pairs: PairSet, new: Known, known: Known | None) -> IntArray:
        """Numbers of the pairs to run again; the answer of a row is one of all hypotheses, known ones among them."""
        entailment_NH, contradiction_NH = (logits_NH.copy() for logits_NH in known or new)
        entailment_NH[:, self.columns if known else slice(None)] = new[0]
        contradiction_NH[:, self.columns if known else slice(None)] = new[1]
        close_NH = close_pairs(
            entailment_NH,
            contradiction_NH,
            templates=len(self.labels.templates) if known else self.templates,
            multi_label=self.labels.multi_label,
            within=recheck.within,
            bias_K=recheck.bias if known or recheck.bias is None else recheck.bias[self.columns],
        )
        close_NH = close_NH[:, self.columns] if known else close_NH
        return np.flatnonzero(close_NH[pairs.rows])

    def _planned(
        self, pairs: PairSet, asked_P: IntArray, engine: Engine, buckets: tuple[int, ...] | None, token_budget: int
    ) -> list[Batch]:
        planned = plan_batches(
            pairs.lengths[asked_P],
            token_budget=token_budget,
            buckets=buckets,
            max_length=self.teacher.max_length,
            lanes=engine.lanes.count,
        )
        return [replace(batch, pairs=asked_P[batch.pairs]) for batch in planned]

    def batches(self, prepared: Prepared) -> Generator[tuple[Batch, FloatArray], None, None]:
        """Every batch with the [B, C] logits of its own pairs, longest first.

        Raises:
            EngineError: see `run`.
        """
        return run_batches(self.engine, prepared.pairs, prepared.batches, self.teacher.classes.count)

    def batches_again(
        self, recheck: Recheck, pairs: PairSet, again_P: IntArray, *, each_shape_once: bool = False
    ) -> Generator[tuple[Batch, FloatArray], None, None]:
        """The same of the second look, for the pairs of these numbers, or for one batch of every shape they need.

        Raises:
            EngineError: see `run`.
        """
        planned = self._planned(pairs, again_P, recheck.engine, recheck.buckets, recheck.token_budget)
        if each_shape_once:
            planned = [*{(batch.rows, batch.length): batch for batch in planned}.values()]
        return run_batches(recheck.engine, pairs, planned, self.teacher.classes.count)
