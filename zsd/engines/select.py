"""`--engine auto`: time the candidates on real rows where they will run, admit those that agree, take the fastest.

Which CPU engine is fastest depends on the processor (AMX, AVX-512 bf16, VNNI, AVX2), so it is measured, on each node.
Speed is timed; agreement depends on the rows alone, so the verdict on an engine that scored them is always the same.

What trials cost is bounded. A candidate is tried while all trials together stay within `TRIAL_SHARE` of the time that
the reference, torch fp32, would need for this actor's part of the job, and while the candidate itself is expected to
cost no more than `WORTH_SHARE` of what the best engine so far needs for it. The likeliest winners come first.

Legend: N rows, K labels.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace

from zsd.bisection import without_bad
from zsd.buckets import LengthSample
from zsd.engines import load_engine
from zsd.engines.base import Placement
from zsd.engines.candidates import candidates
from zsd.engines.on_trial import OnTrial
from zsd.engines.registry import DRAFT
from zsd.engines.trial import BoolArray, Trial, disagreement, not_run, outcome, rows_in_bins, timed, warm_up
from zsd.errors import EngineError
from zsd.labels import LabelSet
from zsd.storage import first_line
from zsd.teachers.nli import NLITeacher
from zsd.teachers.recheck import check_draft, load_rechecks
from zsd.teachers.scoring import Prepared, Scorer, Scores

REFERENCE = ("torch", "fp32")

SAMPLE_ROWS = 256
"""Most rows of a trial: agreement is known to 1/256, and 0.99 lets two rows differ."""

REFERENCE_SHARE = 0.1
"""Most of the job's own rows that the reference scores in a trial."""

TRIAL_SHARE = 0.3
"""Most of the reference's time for the job that all trials together take, its own pass among them."""

BAD_SHARE = 0.1
"""Most of the sample rows that torch fp32 may fail on; where it fails on more, it is not the rows."""

WORTH_SHARE = 0.25
"""Most of the best engine's time for the job that one more candidate may cost: if it is a third faster, that pays."""

LOADING = {
    "torch": (3.0, 0.0),
    "native": (4.0, 0.0),
    "onnxruntime": (6.0, 0.0),
    "openvino": (6.0, 0.4),
    "deepsparse": (9.0, 2.2),
}
"""Seconds an engine is expected to need before its first pair, and more for each length it compiles: the bundled
teacher on two cores, with a few seconds for the ONNX export or the native engine's compiler, whose files may lie in the
cache."""

UNTRIED = "chosen untried: the job is too small for a trial to pay"
UNTRIED_AFTER_CRASH = "chosen untried: a process died while it scored sample rows with torch fp32"
NOT_AFTER_CRASH = "not tried: another precision of this engine killed its process"
CRASHED = "its process died while it was on trial"
NOT_WORTH = "not tried: would cost more than it could save"
SLOWER = "slower"
ADMITTED = "admitted"


def load_scorer(
    engine: str,
    precision: str,
    teacher: NLITeacher,
    labels: LabelSet,
    placement: Placement,
    *,
    lengths: LengthSample,
    long_text: str,
) -> Scorer:
    """A teacher on an engine, and its second look; one of fixed shapes with the buckets that suit the job's lengths.

    Raises:
        EngineError: the engine cannot run this teacher here.
        TeacherError: the checkpoint's weights cannot be loaded.
    """
    if precision == DRAFT:
        check_draft(teacher, labels)
    with ExitStack() as loaded:
        first = load_engine(engine, teacher, placement, precision)
        loaded.callback(first.close)
        buckets = None if first.buckets is None else lengths.buckets(first.most_buckets)
        rechecks = load_rechecks(engine, precision, teacher, labels, placement, lengths)
        for recheck in rechecks:
            loaded.callback(recheck.engine.close)
        scorer = Scorer(teacher, first, labels, buckets=buckets, long_text=long_text, rechecks=rechecks)
        loaded.pop_all()
    return scorer


def trial_rows(*, available: int, pairs: int, labels: int, min_agreement: float) -> int:
    """How many of the available rows a trial takes; 0 where the job is too small for one to pay.

    As many as `REFERENCE_SHARE` of the job and at most `SAMPLE_ROWS`, but enough for a single differing row to be
    within ``1 - min_agreement`` (100 rows for 0.99; never more than `SAMPLE_ROWS`: above 0.996 all rows must agree). A
    job of which that many rows are more than its share gets no trial: with K = 4 and 0.99, one below 4,000 pairs.
    """
    fewest = min(SAMPLE_ROWS, math.ceil(round(1 / max(1 - min_agreement, 1e-9), 6)))
    rows = min(available, SAMPLE_ROWS, int(REFERENCE_SHARE * pairs / labels))
    return rows if rows >= fewest else 0


def choose_engine(
    teacher: NLITeacher,
    labels: LabelSet,
    placement: Placement,
    texts: Sequence[str],
    *,
    pairs: int,
    precision: str | None = None,
    min_agreement: float = 0.99,
    lengths: LengthSample,
    long_text: str = "truncate",
    on_trial: OnTrial | None = None,
) -> tuple[Scorer, list[Trial]]:
    """Time every candidate that is worth it on the same real rows and keep the fastest that agrees.

    A job too small for a trial (`trial_rows`) gets torch at once, in fp32 unless a precision is asked for. Sample rows
    that torch fp32 fails on are left out of the sample. An engine that killed a process in a trial is not tried again;
    where that was torch fp32, a row may be to blame, and torch is taken untried.

    Args:
        teacher: what is run.
        labels: what is asked.
        placement: where.
        texts: rows from all over the corpus, `SAMPLE_ROWS` of them; `trial_rows` of them, evenly spaced, are used.
        pairs: pairs that this actor will run, to know what can pay.
        precision: only this one, or any where None.
        min_agreement: least share of rows with the same outcome as torch fp32.
        lengths: of the job's pairs; the rows of every bucket that suits it must agree, whatever the engine.
        long_text: see `Scorer`.
        on_trial: what earlier processes died of, and where to say what this one tries.

    Returns:
        the chosen engine, loaded and warm, and a `Trial` for every candidate.

    Raises:
        EngineError: torch fp32 cannot run, or no candidate of the asked precision agrees.
    """
    if precision == DRAFT:
        check_draft(teacher, labels)
    rows = trial_rows(available=len(texts), pairs=pairs, labels=len(labels.hypotheses), min_agreement=min_agreement)
    crashed = on_trial.crashed if on_trial else ()
    if rows == 0 or REFERENCE in crashed:
        precision = precision or "fp32"
        scorer = load_scorer("torch", precision, teacher, labels, placement, lengths=lengths, long_text=long_text)
        return scorer, [not_run("torch", precision, UNTRIED_AFTER_CRASH if REFERENCE in crashed else UNTRIED)]

    def load(name: str, precision: str) -> Scorer:
        return load_scorer(name, precision, teacher, labels, placement, lengths=lengths, long_text=long_text)

    sample = list(texts[:: len(texts) // rows])[:rows]
    tried = [one for one in candidates(teacher, placement) if precision in (None, one[1])]
    contest = _Contest(load, sample, lengths.buckets(), job_rows=pairs / len(labels.hypotheses), least=min_agreement)
    begin = on_trial.begin if on_trial else lambda candidate: None
    begin(REFERENCE)
    contest.run_reference(may_win=precision in (None, REFERENCE[1]))
    guilty = {name for name, candidate in crashed if candidate != DRAFT}  # which is several models, and may be too many
    for name, candidate in tried:
        if (name, candidate) in crashed or name in guilty:
            contest.trials.append(
                not_run(name, candidate, CRASHED if (name, candidate) in crashed else NOT_AFTER_CRASH)
            )
            continue
        begin((name, candidate))
        contest.run(name, candidate)
    if on_trial:
        on_trial.over()
    if contest.best is None:
        raise EngineError(
            f"no engine of precision {precision} reaches --min-agreement {min_agreement} with torch fp32: lower it, or "
            "use --precision fp32"
        )
    return contest.best, contest.verdicts()


class _Contest:
    """The trials of one actor: its best engine so far is the only one loaded beside the one on trial."""

    def __init__(
        self,
        load: Callable[[str, str], Scorer],
        sample: list[str],
        bins: tuple[int, ...],
        *,
        job_rows: float,
        least: float,
    ) -> None:
        self.load = load
        self.sample = sample
        self.bins = bins
        self.least = least
        self.job_rows = job_rows
        self.trials: list[Trial] = []
        self.best: Scorer | None = None
        self.best_seconds = math.inf
        self.started = time.perf_counter()

    def run_reference(self, *, may_win: bool) -> None:
        """Score the sample with torch fp32; where it may not win, it is only compared with."""
        scorer = self.load(*REFERENCE)

        def score(texts: list[str]) -> tuple[Prepared, Scores, float, float]:
            prepared = scorer.prepare(texts)
            warm_up(scorer, prepared)
            loading = time.perf_counter() - self.started
            return prepared, *timed(scorer, prepared, within=math.inf), loading

        (prepared, scores, seconds, loading), self.sample = without_bad(self.sample, score, share=BAD_SHARE)
        self.inside_NB = rows_in_bins(prepared.pairs, self.bins)
        self.passes = self.job_rows / len(self.sample)
        self.outcome_NK = outcome(scores, multi_label=scorer.labels.multi_label)
        self.most_seconds = TRIAL_SHARE * self.passes * seconds
        self._judge(scorer, self.outcome_NK, seconds, loading, None if may_win else "reference")

    def run(self, name: str, precision: str) -> None:
        """Try one more candidate, if that can pay."""
        if not self._worth(name, precision):
            self.trials.append(not_run(name, precision, NOT_WORTH))
            return
        started, loading, scorer = time.perf_counter(), 0.0, None
        try:
            scorer = self.load(name, precision)
            prepared = scorer.prepare(self.sample)
            warm_up(scorer, prepared)
            loading = time.perf_counter() - started
            scores, seconds = timed(scorer, prepared, within=self.best_seconds)
        except (EngineError, TimeoutError, RuntimeError) as error:  # RuntimeError: of the engine's own library
            if scorer is not None:
                scorer.close()
            verdict = SLOWER if isinstance(error, TimeoutError) else first_line(error)
            self.trials.append(not_run(name, precision, verdict, loading))
            return
        outcome_NK = outcome(scores, multi_label=scorer.labels.multi_label)
        same_N = (outcome_NK == self.outcome_NK).all(axis=1)
        refused = disagreement(same_N, self.inside_NB, self.bins, least=self.least)
        self._judge(scorer, outcome_NK, seconds, loading, refused)

    def verdicts(self) -> list[Trial]:
        """All trials; the last one that was admitted is the chosen one."""
        last = max(n for n, trial in enumerate(self.trials) if trial.verdict == ADMITTED)
        return [replace(trial, verdict="chosen") if n == last else trial for n, trial in enumerate(self.trials)]

    def _worth(self, name: str, precision: str) -> bool:
        if self.best is None:
            return True
        at_once, each_length = LOADING[name]
        models = 3 if precision == DRAFT else 1  # the teacher comes with it, in two precisions
        cost = models * (at_once + each_length * int(self.inside_NB.any(axis=0).sum())) + self.best_seconds
        spent = time.perf_counter() - self.started
        return spent + cost <= self.most_seconds and cost <= WORTH_SHARE * self.passes * self.best_seconds

    def _judge(
        self, scorer: Scorer, outcome_NK: BoolArray, seconds: float, loading: float, refused: str | None
    ) -> None:
        """Keep the engine, which was faster than the best so far, or close it where it is refused."""
        loser = scorer if refused else self.best
        if loser is not None:
            loser.close()
        if not refused:
            self.best, self.best_seconds = scorer, seconds
        self.trials.append(
            Trial(
                engine=scorer.engine.name,
                precision=scorer.engine.precision,
                rows=len(self.sample),
                rows_per_second=round(len(self.sample) / seconds, 2),
                agreement=round(float((outcome_NK == self.outcome_NK).all(axis=1).mean()), 4),
                loading_seconds=round(loading, 2),
                verdict=refused or ADMITTED,
            )
        )
