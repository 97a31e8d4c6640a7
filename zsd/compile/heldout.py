"""Rows that a form of a teacher is held to: the same pairs through both, and in which rows the answer is the same.

Legend: N rows, K labels, P = N * K pairs, B pairs in a batch, L tokens, C NLI classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from zsd.batching import FloatArray, IntArray, PairSet, pair_layout
from zsd.compile.probes import Run
from zsd.labels import LabelSet
from zsd.teachers.nli import NLITeacher

ROWS = 16
"""Pairs of a batch, all of about one length."""


class HeldOut:
    """Rows of a corpus against all labels, and what the fp32 model says of them.

    Args:
        teacher: whose pairs.
        labels: what is asked.
        texts: N rows.
        reference: the fp32 model.
    """

    def __init__(self, teacher: NLITeacher, labels: LabelSet, texts: Sequence[str], reference: Run) -> None:
        self.labels = labels
        self.column = teacher.classes.entailment
        self.against = teacher.classes.contradiction
        self.pairs = all_pairs(teacher, labels, texts)
        self.logits_PC = self._run(reference, np.arange(len(self.pairs)))
        self.outcome_NK = self._outcome(self.logits_PC)

    def agreement(self, run: Run) -> float:
        """Share of the rows with the same top label (multi-label: the same labels) as the reference."""
        same_NK = self._outcome(self._run(run, np.arange(len(self.pairs)))) == self.outcome_NK
        return float(same_NK.all(axis=1).mean())

    def error(self, run: Run, pairs: int) -> float:
        """Root mean square of the differences to the reference's logits over some of the pairs."""
        chosen = np.unique(np.linspace(0, len(self.pairs) - 1, pairs).astype(np.int64))
        off = self._run(run, chosen)[chosen] - self.logits_PC[chosen]
        return float(np.sqrt(np.mean(off**2)))

    def _run(self, run: Run, chosen_P: IntArray) -> FloatArray:
        logits_PC: FloatArray | None = None
        for pairs, inputs in batches(self.pairs, chosen_P):
            found_BC = run(inputs)
            if logits_PC is None:
                logits_PC = np.zeros((len(self.pairs), found_BC.shape[1]), dtype=np.float32)
            logits_PC[pairs] = found_BC
        assert logits_PC is not None, "there are no pairs"
        return logits_PC

    def _outcome(self, logits_PC: FloatArray) -> npt.NDArray[np.bool_]:
        """[N, K] which labels are the answer."""
        entailment_NK = logits_PC[:, self.column].reshape(-1, len(self.labels))
        answer_NK: npt.NDArray[np.bool_] = np.arange(len(self.labels)) == entailment_NK.argmax(axis=1)[:, None]
        if self.labels.multi_label:
            answer_NK = entailment_NK > logits_PC[:, self.against].reshape(entailment_NK.shape)
        return answer_NK


def all_pairs(teacher: NLITeacher, labels: LabelSet, texts: Sequence[str]) -> PairSet:
    """Rows x labels, tokenized."""
    layout = pair_layout(teacher.tokenizer)
    return PairSet.build(teacher.tokenizer, layout, texts, labels.hypotheses, max_length=teacher.max_length)


def batches(pairs: PairSet, chosen_P: IntArray) -> Iterator[tuple[IntArray, dict[str, IntArray]]]:
    """Numbers of pairs and their named [B, L] inputs, pairs of about the same length together."""
    order = chosen_P[np.argsort(pairs.lengths[chosen_P], kind="stable")]
    for start in range(0, len(order), ROWS):
        some = order[start : start + ROWS]
        yield some, pairs.batch(some, length=int(pairs.lengths[some].max()))
