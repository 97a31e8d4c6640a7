from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from zsd.engines import select
from zsd.engines.base import Placement
from zsd.engines.select import SAMPLE_ROWS, Trial, candidates, choose_engine, trial_rows
from zsd.errors import EngineError
from zsd.labels import LabelSet
from zsd.teachers.nli import NLITeacher, load_teacher
from zsd.teachers.scoring import Scores

LABELS = LabelSet(names=("world", "sports"))
TEXTS = [f"{word} {number}" for number in range(100) for word in ("a goal", "shares fell in", "this one")][:SAMPLE_ROWS]
LARGE = 1_000_000


class Fake:
    """Logits by arithmetic on the token ids, time by a clock of the test's own."""

    buckets: tuple[int, ...] | None = None
    token_budget = 4096

    def __init__(self, clock: list[float], name: str, precision: str, seconds: float, wrong: float) -> None:
        self.clock, self.name, self.precision, self.seconds, self.wrong = clock, name, precision, seconds, wrong
        self.closed = False

    def logits(self, inputs: Mapping[str, Any]) -> Any:
        ids = inputs["input_ids"]
        self.clock[0] += self.seconds * len(ids)
        premise = np.where(inputs["token_type_ids"] == 0, ids, 0).sum(axis=1) * 7919 % 997
        hypothesis = np.where(inputs["token_type_ids"] == 1, ids, 0).sum(axis=1)
        entailment = np.where(premise < 997 * self.wrong, -1.0, 1.0) * hypothesis
        return np.stack([entailment, np.zeros_like(entailment), np.zeros_like(entailment)], axis=1)

    def close(self) -> None:
        self.closed = True


class Lab:
    """Which engines there are, in place of `load_engine`: {(name, precision): (seconds a pair, share wrong)}."""

    def __init__(self, behaviour: Mapping[tuple[str, str], tuple[float, float] | str]) -> None:
        self.behaviour = behaviour
        self.clock = [0.0]
        self.made: list[Fake] = []

    def load_engine(self, name: str, teacher: Any, placement: Any, precision: str = "fp32") -> Fake:
        found = self.behaviour[name, precision]
        if isinstance(found, str):
            raise EngineError(found)
        self.made.append(Fake(self.clock, name, precision, *found))
        return self.made[-1]

    def perf_counter(self) -> float:
        return self.clock[0]


TORCH, BF16, DEEPSPARSE = ("torch", "fp32"), ("torch", "bf16"), ("deepsparse", "fp32")


@pytest.fixture
def teacher(teacher_of: Callable[..., str]) -> NLITeacher:
    return load_teacher(teacher_of("bert"))


def choose(
    monkeypatch: pytest.MonkeyPatch, teacher: NLITeacher, behaviour: Mapping[tuple[str, str], Any], **options: Any
) -> tuple[Lab, Any, dict[tuple[str, str], Trial]]:
    lab = Lab(behaviour)
    monkeypatch.setattr(select, "load_engine", lab.load_engine)
    monkeypatch.setattr("zsd.engines.select.time.perf_counter", lab.perf_counter)
    scorer, trials = choose_engine(teacher, LABELS, Placement(), TEXTS, **{"pairs": LARGE, **options})
    return lab, scorer, {(trial.engine, trial.precision): trial for trial in trials}


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [((3.0, 1.0, 2.0), BF16), ((3.0, 2.0, 1.0), DEEPSPARSE), ((1.0, 2.0, 3.0), TORCH), ((1.0, 1.0, 1.0), TORCH)],
)
def test_the_fastest_that_agrees_is_chosen_and_the_others_are_freed(
    seconds: tuple[float, ...], chosen: tuple[str, str], teacher: NLITeacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    behaviour = {key: (s, 0.0) for key, s in zip((TORCH, BF16, DEEPSPARSE), seconds, strict=True)}
    lab, scorer, trials = choose(monkeypatch, teacher, behaviour)
    assert (scorer.engine.name, scorer.engine.precision) == chosen
    assert [key for key, trial in trials.items() if trial.verdict == "chosen"] == [chosen]
    assert {engine.closed for engine in lab.made if engine is not scorer.engine} == {True}
    assert not scorer.engine.closed
    assert trials[chosen].rows == SAMPLE_ROWS and trials[chosen].agreement == 1.0
    assert trials[TORCH].rows_per_second == pytest.approx(1 / (2 * seconds[0]), abs=0.01)


def test_a_fast_engine_that_disagrees_is_not_admitted(teacher: NLITeacher, monkeypatch: pytest.MonkeyPatch) -> None:
    behaviour = {TORCH: (3.0, 0.0), BF16: (0.1, 0.3), DEEPSPARSE: (2.0, 0.0)}
    _, scorer, trials = choose(monkeypatch, teacher, behaviour)
    assert scorer.engine.name == "deepsparse"
    assert trials[BF16].verdict == "too low agreement" and trials[BF16].agreement < 0.99
    _, scorer, trials = choose(monkeypatch, teacher, behaviour, min_agreement=0.2)
    assert (scorer.engine.precision, trials[BF16].verdict) == ("bf16", "chosen")


def test_an_engine_that_does_not_run_is_listed_with_its_reason(
    teacher: NLITeacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, scorer, trials = choose(
        monkeypatch, teacher, {TORCH: (2.0, 0.0), BF16: (1.0, 0.0), DEEPSPARSE: "not installed here"}
    )
    assert scorer.engine.precision == "bf16"
    assert (trials[DEEPSPARSE].verdict, trials[DEEPSPARSE].rows) == ("not installed here", 0)


def test_a_reference_that_does_not_run_is_an_error(teacher: NLITeacher, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineError, match="no torch"):
        choose(monkeypatch, teacher, {TORCH: "no torch", BF16: (1.0, 0.0)})


def test_a_slow_candidate_costs_no_more_than_the_best_so_far(
    teacher: NLITeacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, scorer, trials = choose(monkeypatch, teacher, {TORCH: (1.0, 0.0), BF16: (50.0, 0.0), DEEPSPARSE: (1.5, 0.0)})
    assert scorer.engine.precision == "fp32" and trials[BF16].verdict == trials[DEEPSPARSE].verdict == "slower"
    assert trials[BF16].rows == select.CHUNK_ROWS < trials[DEEPSPARSE].rows < SAMPLE_ROWS


def test_a_precision_that_is_asked_for_is_kept_to(teacher: NLITeacher, monkeypatch: pytest.MonkeyPatch) -> None:
    _, scorer, trials = choose(monkeypatch, teacher, {TORCH: (1.0, 0.0), BF16: (2.0, 0.0)}, precision="bf16")
    assert scorer.engine.precision == "bf16"
    assert [trials[TORCH].verdict, trials[BF16].verdict] == ["reference", "chosen"]
    with pytest.raises(EngineError, match=r"no engine of precision bf16 reaches --min-agreement 0.99"):
        choose(monkeypatch, teacher, {TORCH: (1.0, 0.0), BF16: (2.0, 0.5)}, precision="bf16")


@pytest.mark.parametrize("precision", [None, "fp32", "bf16"])
def test_a_small_job_gets_torch_untried(
    precision: str | None, teacher: NLITeacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, scorer, trials = choose(
        monkeypatch, teacher, {TORCH: (3.0, 0.0), BF16: (1.0, 0.0)}, pairs=1000, precision=precision
    )
    assert len(lab.made) == 1 and (scorer.engine.name, scorer.engine.precision) == ("torch", precision or "fp32")
    (trial,) = trials.values()
    assert trial.rows == 0 and "too small" in trial.verdict


def test_a_multi_label_row_agrees_only_with_all_its_classes() -> None:
    scores = Scores(
        entailment=np.array([[1.0, 1.0], [1.0, -1.0]], np.float32),
        contradiction=np.zeros((2, 2), np.float32),
        tokens=0,
        padding_waste=0.0,
        truncated=0,
    )
    assert select._outcome(scores, multi_label=True).tolist() == [[True, True], [True, False]]
    assert select._outcome(scores, multi_label=False).tolist() == [[True, False], [True, False]]


def test_a_trial_is_large_enough_for_its_threshold_and_small_beside_the_job() -> None:
    def rows(pairs: int, min_agreement: float = 0.99, available: int = 10_000) -> int:
        return trial_rows(available=available, pairs=pairs, labels=4, min_agreement=min_agreement)

    assert (rows(2044), rows(3999), rows(4000), rows(LARGE)) == (0, 0, 100, SAMPLE_ROWS)
    assert rows(LARGE, available=99) == 0
    assert rows(800, min_agreement=0.95) == 20
    assert rows(LARGE, min_agreement=1.0) == SAMPLE_ROWS


def test_deepsparse_is_tried_only_where_compiling_can_pay() -> None:
    assert candidates(Placement(), None, 1000) == [TORCH, BF16]
    assert candidates(Placement(), None, LARGE) == [TORCH, BF16, DEEPSPARSE]
    assert candidates(Placement(device="cuda"), None, LARGE) == [TORCH, BF16]
    assert candidates(Placement(), "fp32", LARGE) == [TORCH, DEEPSPARSE]
    assert candidates(Placement(), "bf16", LARGE) == [TORCH, BF16]
