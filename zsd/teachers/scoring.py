"""The teacher pass: rows of text in, raw NLI logits out, exactly once for every row and class.

Pure: knows files and clusters from nothing. Legend: N rows, K labels, P = N * K pairs, L tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zsd.batching import FloatArray, PairSet, padding_waste, pair_layout, plan_batches
from zsd.engines.base import Engine
from zsd.errors import EngineError
from zsd.labels import LabelSet
from zsd.teachers.nli import NLITeacher


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Raw logits of one group of rows, and what they cost.

    Attributes:
        entailment: [N, K] raw logits.
        contradiction: [N, K] raw logits (``not_entailment`` for a 2-class teacher).
        tokens: real tokens run, padding not counted.
        padding_waste: share of the computed tokens that was padding.
        truncated: rows of which the text was cut to fit.
    """

    entailment: FloatArray
    contradiction: FloatArray
    tokens: int
    padding_waste: float
    truncated: int


class Scorer:
    """A teacher on an engine, with the hypotheses of one label set.

    Raises:
        TeacherError: the tokenizer cannot be batched pairwise, or a hypothesis does not fit.
    """

    def __init__(self, teacher: NLITeacher, engine: Engine, labels: LabelSet) -> None:
        self.teacher = teacher
        self.engine = engine
        self.labels = labels
        self.hypotheses = labels.hypotheses
        self.layout = pair_layout(teacher.tokenizer)
        self._pairs(["probe"])

    def score(self, texts: Sequence[str]) -> Scores:
        """Logits of N texts against all K hypotheses.

        Raises:
            EngineError: the engine returned a number that is not finite, or the wrong number of classes.
        """
        pairs = self._pairs(texts)
        batches = plan_batches(
            pairs.lengths,
            token_budget=self.engine.token_budget,
            buckets=self.engine.buckets,
            max_length=self.teacher.max_length,
        )
        classes = self.teacher.classes
        logits_PC = np.empty((len(pairs), classes.count), dtype=np.float32)
        for batch in batches:
            inputs = pairs.batch(batch.pairs, length=batch.length, rows=batch.rows)
            out = self.engine.logits(inputs)
            if out.shape != (batch.rows, classes.count) or not np.isfinite(out).all():
                raise EngineError(
                    f"engine {self.engine.name} returned shape {out.shape} or a number that is not finite for a batch "
                    f"of {batch.rows} pairs of {batch.length} tokens: try --engine torch --precision fp32"
                )
            logits_PC[batch.pairs] = out[: len(batch.pairs)]
        shape_NK = (len(texts), len(self.hypotheses))
        return Scores(
            entailment=np.ascontiguousarray(logits_PC[:, classes.entailment]).reshape(shape_NK),
            contradiction=np.ascontiguousarray(logits_PC[:, classes.contradiction]).reshape(shape_NK),
            tokens=int(pairs.lengths.sum()),
            padding_waste=padding_waste(pairs.lengths, batches),
            truncated=pairs.truncated,
        )

    def _pairs(self, texts: Sequence[str]) -> PairSet:
        teacher = self.teacher
        return PairSet.build(teacher.tokenizer, self.layout, texts, self.hypotheses, max_length=teacher.max_length)
