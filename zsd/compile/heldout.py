"""Rows that a form of a model is held to: the same rows through both, and in which of them the answer is the same.

Legend: N rows, K labels, P sequences (N * K pairs of a teacher, N texts of a student), B of them in a batch, L tokens,
C outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from zsd.batching import FloatArray, IntArray, PairSet, pair_layout
from zsd.checkpoint import Checkpoint, Sequences
from zsd.compile.probes import Run
from zsd.labels import LabelSet
from zsd.teachers.nli import NLITeacher

BoolArray = npt.NDArray[np.bool_]
Outcome = Callable[[FloatArray], BoolArray]
ROWS = 16
"""Sequences of a batch, all of about one length."""


class HeldOut:
    """Rows, and what the fp32 model says of them.

    Args:
        sequences: what the model reads: P of them.
        outcome: [P, C] logits to [N, K], which labels are the answer of each row.
        reference: the fp32 model.
    """

    def __init__(self, sequences: Sequences, outcome: Outcome, reference: Run) -> None:
        self.sequences = sequences
        self.outcome = outcome
        self.logits_PC = self._run(reference, np.arange(len(sequences.lengths)))
        self.outcome_NK = outcome(self.logits_PC)

    @classmethod
    def of_teacher(cls, teacher: NLITeacher, labels: LabelSet, texts: Sequence[str], reference: Run) -> HeldOut:
        """Texts against all labels: the top label is the answer, or where several may be true all entailed ones."""

        def outcome(logits_PC: FloatArray) -> BoolArray:
            entailment_NK = logits_PC[:, teacher.classes.entailment].reshape(-1, len(labels))
            if labels.multi_label:
                return entailment_NK > logits_PC[:, teacher.classes.contradiction].reshape(entailment_NK.shape)
            return _highest(entailment_NK)

        return cls(all_pairs(teacher, labels, texts), outcome, reference)

    @classmethod
    def of_student(cls, student: Checkpoint, texts: Sequence[str], reference: Run, *, multi_label: bool) -> HeldOut:
        """Texts by themselves: the top label is the answer, or where several may be true those above one half."""

        def outcome(logits_NK: FloatArray) -> BoolArray:
            return logits_NK > 0 if multi_label else _highest(logits_NK)

        return cls(student.sequences(texts, max_length=student.max_length), outcome, reference)

    def agreement(self, run: Run) -> float:
        """Share of the rows with the same top label (multi-label: the same labels) as the reference."""
        same_NK = self.outcome(self._run(run, np.arange(len(self.logits_PC)))) == self.outcome_NK
        return float(same_NK.all(axis=1).mean())

    def error(self, run: Run, count: int) -> float:
        """Root mean square of the differences to the reference's logits over some of the sequences."""
        chosen = np.unique(np.linspace(0, len(self.logits_PC) - 1, count).astype(np.int64))
        off = self._run(run, chosen)[chosen] - self.logits_PC[chosen]
        return float(np.sqrt(np.mean(off**2)))

    def _run(self, run: Run, chosen_P: IntArray) -> FloatArray:
        logits_PC: FloatArray | None = None
        for numbers, inputs in batches(self.sequences, chosen_P):
            found_BC = run(inputs)
            if logits_PC is None:
                logits_PC = np.zeros((len(self.sequences.lengths), found_BC.shape[1]), dtype=np.float32)
            logits_PC[numbers] = found_BC
        assert logits_PC is not None, "there are no rows"
        return logits_PC


def _highest(logits_NK: FloatArray) -> BoolArray:
    highest_NK: BoolArray = np.arange(logits_NK.shape[1]) == logits_NK.argmax(axis=1)[:, None]
    return highest_NK


def all_pairs(teacher: NLITeacher, labels: LabelSet, texts: Sequence[str]) -> PairSet:
    """Rows x labels, tokenized."""
    layout = pair_layout(teacher.tokenizer)
    return PairSet.build(teacher.tokenizer, layout, texts, labels.hypotheses, max_length=teacher.max_length)


def batches(sequences: Sequences, chosen_P: IntArray) -> Iterator[tuple[IntArray, dict[str, IntArray]]]:
    """Numbers of sequences and their named [B, L] inputs, those of about the same length together."""
    order = chosen_P[np.argsort(sequences.lengths[chosen_P], kind="stable")]
    for start in range(0, len(order), ROWS):
        some = order[start : start + ROWS]
        yield some, sequences.batch(some, length=int(sequences.lengths[some].max()))
