"""Rows that a form of a model is held to: the same rows through both, and in which of them the answer is the same.

Legend: N rows, K labels, P sequences (N * K pairs of a teacher, N texts of a student), B of them in a batch, L tokens,
C outputs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zsd.batching import FloatArray, IntArray, PairSet, pair_layout
from zsd.checkpoint import Checkpoint, Sequences
from zsd.compile.probes import Run
from zsd.console import Progress
from zsd.labels import LabelSet
from zsd.soft_labels.close import close_pairs
from zsd.teachers.nli import NLITeacher

BoolArray = npt.NDArray[np.bool_]
Outcome = Callable[[FloatArray], BoolArray]
Close = Callable[[FloatArray, float], BoolArray]
ROWS = 16
"""Sequences of a batch, all of about one length."""

SILENT = 4096
"""Sequences that need no line of progress."""

WITHIN = tuple(round(0.05 * step, 2) for step in range(1, 21))
"""How close is close, as differences of raw logits: what is tried where nothing else is said."""

DRAWS = 16
"""How often the rows are scored with the errors of others to see how close is close."""

SPARED = 1 / 3
"""Share of the disagreement that is allowed which a second look leaves: the rows it was fitted on are not all there
are. Fitted on 750 of 3,000 rows of AG News for 99 %, the others agreed in 99.7 %, in the worst of 30 draws in 99.5 %
(99.2 % where it left a half)."""


@dataclass(frozen=True, kw_only=True)
class Rechecked:
    """What a second look at close sequences brings.

    Attributes:
        alone: the agreement with the reference before it.
        agreement: the same after it.
        expected: the agreement if each row's logits were off by what those of another row are, the mean of `DRAWS`
            draws; of a student the agreement itself.
        within: how close is close; 0: there is no second look.
        share: of the sequences, looked at again.
    """

    alone: float
    agreement: float
    expected: float
    within: float
    share: float


@dataclass(frozen=True, kw_only=True)
class Looks:
    """What decides between close sequences where it is not the reference.

    Attributes:
        logits: [P, C] of the second look.
        exactly_within: how close these must be for the reference to decide, in a third; 0: it never does.
    """

    logits: FloatArray
    exactly_within: float


class HeldOut:
    """Rows, and what the fp32 model says of them.

    Args:
        sequences: what the model reads: P of them.
        outcome: [P, C] logits to [N, K], which labels are the answer of each row.
        reference: the fp32 model.
        close: [P, C] logits and how close is close to [P], which sequences a teacher looks at again
            (`zsd.teachers.recheck`); None of a student, which does not.
    """

    def __init__(self, sequences: Sequences, outcome: Outcome, reference: Run, close: Close | None = None) -> None:
        self.sequences = sequences
        self.outcome = outcome
        self.close = close
        self.logits_PC = self._run(reference, np.arange(len(sequences.lengths)))
        self.outcome_NK = outcome(self.logits_PC)

    @classmethod
    def of_teacher(
        cls,
        teacher: NLITeacher,
        labels: LabelSet,
        texts: Sequence[str],
        reference: Run,
        *,
        bias_K: FloatArray | None = None,
    ) -> HeldOut:
        """Texts against all labels: the top label is the answer, or where several may be true all entailed ones.

        With a bias two labels are: the top one, and the top one after it is taken off (N x 2 K).
        """

        def outcome(logits_PC: FloatArray) -> BoolArray:
            entailment_NK = logits_PC[:, teacher.classes.entailment].reshape(-1, len(labels))
            if labels.multi_label:
                return entailment_NK > logits_PC[:, teacher.classes.contradiction].reshape(entailment_NK.shape)
            plain_NK = _highest(entailment_NK)
            return plain_NK if bias_K is None else np.hstack([plain_NK, _highest(entailment_NK - bias_K)])

        def close(logits_PC: FloatArray, within: float) -> BoolArray:
            columns = (teacher.classes.entailment, teacher.classes.contradiction)
            logits = (logits_PC[:, column].reshape(-1, len(labels)) for column in columns)
            return close_pairs(
                *logits, templates=1, multi_label=labels.multi_label, within=within, bias_K=bias_K
            ).reshape(-1)

        return cls(all_pairs(teacher, labels, texts), outcome, reference, close)

    @classmethod
    def of_student(cls, student: Checkpoint, texts: Sequence[str], reference: Run, *, multi_label: bool) -> HeldOut:
        """Texts by themselves: the top label is the answer, or where several may be true those above one half."""

        def outcome(logits_NK: FloatArray) -> BoolArray:
            return logits_NK > 0 if multi_label else _highest(logits_NK)

        return cls(student.sequences(texts, max_length=student.max_length), outcome, reference)

    def agreement(self, run: Run) -> float:
        """Share of the rows with the same top label (multi-label: the same labels) as the reference."""
        return self._agreement(self.logits(run))

    def with_recheck(
        self,
        logits_PC: FloatArray,
        least: float,
        most: float,
        *,
        widths: Sequence[float] = WITHIN,
        at_least: float = 0.0,
        looks: Looks | None = None,
    ) -> Rechecked:
        """The agreement where sequences that are close are looked at again, and how close that is.

        As close as it takes to leave `SPARED` of the disagreement that is allowed, but no more sequences than may be
        looked at again. Few rows disagree at all, so that they alone would tell little: every row is also scored with
        the errors that the model makes on others, drawn `DRAWS` times.

        Args:
            logits_PC: of the model that looks first.
            least: agreement asked for.
            most: share of the sequences that may be looked at again.
            widths: how close is close, ascending: what is tried.
            at_least: how close is close even where no second look is needed.
            looks: what looks again; the reference where None.
        """
        alone = self._agreement(logits_PC)
        if self.close is None:
            return Rechecked(alone=alone, agreement=alone, expected=alone, within=0.0, share=0.0)
        looks = looks or Looks(logits=self.logits_PC, exactly_within=0.0)
        chosen = self._rechecked(logits_PC, looks, alone, at_least)
        for within in (width for width in widths if width > at_least):
            if min(chosen.agreement, chosen.expected) >= 1 - (1 - least) * SPARED:
                break
            wider = self._rechecked(logits_PC, looks, alone, within)
            if wider.share > most:
                break
            chosen = wider
        return chosen

    def _rechecked(self, logits_PC: FloatArray, looks: Looks, alone: float, within: float) -> Rechecked:
        draws = self._with_errors_of_others(logits_PC)
        expected = [self._agreement(self._looked_again(one_PC, looks, within)[0]) for one_PC in draws]
        final_PC, share = self._looked_again(logits_PC, looks, within)
        return Rechecked(
            alone=alone,
            agreement=self._agreement(final_PC),
            expected=float(np.mean(expected)),
            within=within,
            share=share,
        )

    def _looked_again(self, logits_PC: FloatArray, looks: Looks, within: float) -> tuple[FloatArray, float]:
        """[P, C] the logits after all looks, and the share of the sequences that the second one was for."""
        second_PC, again_P = self._replaced(logits_PC, looks.logits, within)
        return self._replaced(second_PC, self.logits_PC, looks.exactly_within)[0], float(again_P.mean())

    def _replaced(self, logits_PC: FloatArray, by_PC: FloatArray, within: float) -> tuple[FloatArray, BoolArray]:
        """The logits with others for all sequences that are close, also to what these others say; and which."""
        done_P = np.zeros(len(logits_PC), dtype=np.bool_)
        while self.close is not None and within:
            close_P = self.close(logits_PC, within) & ~done_P
            if not close_P.any():
                break
            logits_PC = np.where(close_P[:, None], by_PC, logits_PC)
            done_P |= close_P
        return logits_PC, done_P

    def _with_errors_of_others(self, logits_PC: FloatArray) -> Iterator[FloatArray]:
        """`DRAWS` times [P, C] the reference's logits, each row off by what another, drawn, is off by."""
        errors_NHC = (logits_PC - self.logits_PC).reshape(len(self.outcome_NK), -1, logits_PC.shape[1])
        generator = np.random.default_rng(0)
        for _ in range(DRAWS):
            yield self.logits_PC + errors_NHC[generator.permutation(len(errors_NHC))].reshape(logits_PC.shape)

    def error(self, run: Run, count: int) -> float:
        """Root mean square of the differences to the reference's logits over some of the sequences."""
        chosen = np.unique(np.linspace(0, len(self.logits_PC) - 1, count).astype(np.int64))
        off = self._run(run, chosen)[chosen] - self.logits_PC[chosen]
        return float(np.sqrt(np.mean(off**2)))

    def _agreement(self, logits_PC: FloatArray) -> float:
        return float((self.outcome(logits_PC) == self.outcome_NK).all(axis=1).mean())

    def logits(self, run: Run) -> FloatArray:
        """[P, C] what a model says of all sequences."""
        return self._run(run, np.arange(len(self.logits_PC)))

    def _run(self, run: Run, chosen_P: IntArray) -> FloatArray:
        logits_PC: FloatArray | None = None
        shown = Progress("compile: measuring", total=len(chosen_P), unit="sequences")
        for numbers, inputs in batches(self.sequences, chosen_P):
            started = time.time()
            found_BC = run(inputs)
            if logits_PC is None:
                logits_PC = np.zeros((len(self.sequences.lengths), found_BC.shape[1]), dtype=np.float32)
            logits_PC[numbers] = found_BC
            if len(chosen_P) > SILENT:
                shown.add(len(numbers), started=started)
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
