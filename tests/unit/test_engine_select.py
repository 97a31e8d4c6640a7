from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zsd.batching import PairSet, pair_layout
from zsd.buckets import LengthSample
from zsd.engines import select
from zsd.engines.base import Placement
from zsd.engines.candidates import LIKELY, candidates
from zsd.engines.lanes import Lanes
from zsd.engines.on_trial import OnTrial
from zsd.engines.registry import combinations
from zsd.engines.select import LOADING, NOT_WORTH, REFERENCE, SAMPLE_ROWS, choose_engine, trial_rows
from zsd.engines.trial import Trial
from zsd.errors import EngineError
from zsd.labels import LabelSet
from zsd.teachers.nli import NLITeacher, load_teacher

LABELS = LabelSet(names=("world", "sports"))
TEXTS = [f"{word} {number}" for number in range(100) for word in ("a goal", "shares fell in", "this one")][:SAMPLE_ROWS]
LARGE = 1_000_000


class Fake:
    """Logits by arithmetic on the token ids, time by a clock of the test's own."""

    token_budget = 4096
    threads, lanes, most_buckets, pads, fingerprint = 1, Lanes(1), 8, True, "fake"

    def __init__(
        self,
        clock: list[float],
        name: str,
        precision: str,
        seconds: float,
        wrong: float = 0.0,
        wrong_length: int | None = None,
        compiling: float | None = None,
    ) -> None:
        self.clock, self.name, self.precision = clock, name, precision
        self.seconds, self.wrong, self.wrong_length, self.compiling = seconds, wrong, wrong_length, compiling
        self.buckets: tuple[int, ...] | None = None if compiling is None else (64,)
        self.shapes: set[tuple[int, ...]] = set()
        self.closed = False

    def logits(self, inputs: Mapping[str, Any]) -> Any:
        ids = inputs["input_ids"]
        self.clock[0] += self.seconds * len(ids)
        if self.compiling is not None and ids.shape not in self.shapes:
            self.clock[0] += self.compiling
            self.shapes.add(ids.shape)
        premise = np.where(inputs["token_type_ids"] == 0, ids, 0).sum(axis=1) * 7919 % 997
        hypothesis = np.where(inputs["token_type_ids"] == 1, ids, 0).sum(axis=1)
        wrong = premise < 997 * self.wrong
        if self.wrong_length is not None:
            wrong |= inputs["attention_mask"].sum(axis=1) >= self.wrong_length
        entailment = np.where(wrong, -1.0, 1.0) * hypothesis
        return np.stack([entailment, np.zeros_like(entailment), np.zeros_like(entailment)], axis=1)

    def close(self) -> None:
        self.closed = True


class Lab:
    """Which engines there are, in place of `load_engine`: {(name, precision): (seconds a pair, share wrong, ...)}."""

    def __init__(self, behaviour: Mapping[tuple[str, str], tuple[Any, ...] | str], loading: float) -> None:
        self.behaviour = behaviour
        self.loading = loading
        self.clock = [0.0]
        self.made: list[Fake] = []

    def load_engine(self, name: str, teacher: Any, placement: Any, precision: str = "fp32") -> Fake:
        self.clock[0] += self.loading
        found = self.behaviour[name, precision]
        if isinstance(found, str):
            raise EngineError(found)
        self.made.append(Fake(self.clock, name, precision, *found))
        return self.made[-1]

    def candidates(self, teacher: Any, placement: Any) -> list[tuple[str, str]]:
        return [name for name in LIKELY if name in self.behaviour]

    def perf_counter(self) -> float:
        return self.clock[0]


TORCH, BF16, DEEPSPARSE = ("torch", "fp32"), ("torch", "bf16"), ("deepsparse", "fp32")


@pytest.fixture
def teacher(teacher_of: Callable[..., str]) -> NLITeacher:
    return load_teacher(teacher_of("bert"))


def choose(
    monkeypatch: pytest.MonkeyPatch,
    teacher: NLITeacher,
    behaviour: Mapping[tuple[str, str], Any],
    texts: list[str] = TEXTS,
    loading: float = 0.0,
    **options: Any,
) -> tuple[Lab, Any, dict[tuple[str, str], Trial]]:
    lab = Lab(behaviour, loading)
    monkeypatch.setattr(select, "load_engine", lab.load_engine)
    monkeypatch.setattr(select, "candidates", lab.candidates)
    monkeypatch.setattr("zsd.engines.select.time.perf_counter", lab.perf_counter)
    layout = pair_layout(teacher.tokenizer)
    pairs = PairSet.build(teacher.tokenizer, layout, texts, LABELS.hypotheses, max_length=64)
    asked = {"pairs": LARGE, "lengths": LengthSample.of(pairs.lengths, max_length=64), **options}
    scorer, trials = choose_engine(teacher, LABELS, Placement(), texts, **asked)
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
    behaviour = {TORCH: (3.0, 0.0), BF16: (0.1, 1.0), DEEPSPARSE: (2.0, 0.0)}
    _, scorer, trials = choose(monkeypatch, teacher, behaviour)
    assert scorer.engine.name == "deepsparse"
    assert trials[BF16].verdict == "too low agreement" and trials[BF16].agreement < 0.99
    _, scorer, trials = choose(monkeypatch, teacher, behaviour, min_agreement=0.0)
    assert (scorer.engine.precision, trials[BF16].verdict) == ("bf16", "chosen")


def test_an_engine_that_is_wrong_on_one_length_only_is_not_admitted(
    teacher: NLITeacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two rows of 256 are within 0.99 on average, and all there are of their length."""
    texts = [*TEXTS[:100], "a goal " * 12, "this one " * 12, *TEXTS[102:]]
    _, scorer, trials = choose(monkeypatch, teacher, {TORCH: (3.0, 0.0), BF16: (1.0, 0.0, 24)}, texts=texts)
    assert scorer.engine.precision == "fp32"
    assert trials[BF16].agreement >= 0.99
    assert "too low agreement on pairs of up to" in trials[BF16].verdict


def test_an_engine_that_does_not_run_is_listed_with_its_reason(
    teacher: NLITeacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, scorer, trials = choose(
        monkeypatch, teacher, {TORCH: (2.0, 0.0), BF16: (1.0, 0.0), DEEPSPARSE: "not installed here"}
    )
    assert scorer.engine.precision == "bf16"
    assert (trials[DEEPSPARSE].verdict, trials[DEEPSPARSE].rows) == ("not installed here", 0)


def test_compiling_is_not_counted_as_speed_but_as_loading(teacher: NLITeacher, monkeypatch: pytest.MonkeyPatch) -> None:
    _, scorer, trials = choose(monkeypatch, teacher, {TORCH: (2.0,), DEEPSPARSE: (0.1, 0.0, None, 50.0)})
    assert scorer.engine.name == "deepsparse" and len(scorer.engine.shapes) > 1
    assert trials[DEEPSPARSE].loading_seconds >= 50.0 * len(scorer.engine.shapes)
    assert trials[DEEPSPARSE].rows_per_second > 5 * trials[TORCH].rows_per_second
    assert scorer.buckets is not None and scorer.buckets[-1] == 64 != scorer.buckets[0]


def test_an_engine_that_fails_while_it_scores_is_freed(teacher: NLITeacher, monkeypatch: pytest.MonkeyPatch) -> None:
    behaviour = {TORCH: (2.0, 0.0), BF16: (np.nan, 0.0)}
    monkeypatch.setattr(Fake, "logits", _not_finite_in_bf16(Fake.logits))
    lab, scorer, trials = choose(monkeypatch, teacher, behaviour | {BF16: (1.0, 0.0)})
    assert scorer.engine.precision == "fp32" and "not finite" in trials[BF16].verdict
    assert [engine.closed for engine in lab.made] == [False, True]


def _not_finite_in_bf16(logits: Callable[..., Any]) -> Callable[..., Any]:
    def spoiled(self: Fake, inputs: Mapping[str, Any]) -> Any:
        out = logits(self, inputs)
        return out * np.nan if self.precision == "bf16" else out

    return spoiled


def test_a_reference_that_does_not_run_is_an_error(teacher: NLITeacher, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineError, match="no torch"):
        choose(monkeypatch, teacher, {TORCH: "no torch", BF16: (1.0, 0.0)})


def test_a_slow_candidate_costs_no_more_than_the_best_so_far(
    teacher: NLITeacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, scorer, trials = choose(monkeypatch, teacher, {TORCH: (1.0, 0.0), BF16: (1.9, 0.0), DEEPSPARSE: (1.5, 0.0)})
    assert scorer.engine.precision == "fp32" and trials[BF16].verdict == trials[DEEPSPARSE].verdict == "slower"
    whole, batch = 2 * SAMPLE_ROWS * 1.0, 4096 / 8
    assert lab.clock[0] <= 3 * whole + 3 * 2 * batch * 1.9


def test_the_cost_of_all_trials_is_bounded(teacher: NLITeacher, monkeypatch: pytest.MonkeyPatch) -> None:
    others = [name for name in LIKELY if name[1] != "draft"]
    behaviour = {REFERENCE: (0.01, 0.0)} | {name: (0.01 * 0.95 ** (n + 1), 0.0) for n, name in enumerate(others)}
    counts: list[int] = []
    for pairs in (3000, 8000, 200_000):
        lab, _, trials = choose(monkeypatch, teacher, behaviour, pairs=pairs, loading=1.0)
        job_seconds = 0.01 * pairs
        tried = [key for key, trial in trials.items() if trial.rows]
        assert lab.clock[0] <= select.TRIAL_SHARE * job_seconds + 1.0 + 0.01 * 2 * SAMPLE_ROWS
        untried = {trial.verdict for key, trial in trials.items() if key not in tried}
        assert untried <= {NOT_WORTH}
        counts.append(len(tried))
    assert counts[0] == 1 < counts[1] < counts[2]


def test_what_the_best_engine_will_have_done_soon_is_not_worth_a_trial(
    teacher: NLITeacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    behaviour = {REFERENCE: (1.0, 0.0), ("openvino", "bf16"): (0.001, 0.0), DEEPSPARSE: (0.0001, 0.0)}
    _, scorer, trials = choose(monkeypatch, teacher, behaviour, pairs=20_000)
    assert sum(LOADING["deepsparse"]) > 0.001 * 20_000 * select.WORTH_SHARE
    assert scorer.engine.name == "openvino" and trials[DEEPSPARSE].verdict == NOT_WORTH


def test_a_precision_that_is_asked_for_is_kept_to(teacher: NLITeacher, monkeypatch: pytest.MonkeyPatch) -> None:
    _, scorer, trials = choose(monkeypatch, teacher, {TORCH: (1.0, 0.0), BF16: (2.0, 0.0)}, precision="bf16")
    assert scorer.engine.precision == "bf16"
    assert [trials[TORCH].verdict, trials[BF16].verdict] == ["reference", "chosen"]
    with pytest.raises(EngineError, match=r"no engine of precision bf16 reaches --min-agreement 0.99"):
        choose(monkeypatch, teacher, {TORCH: (1.0, 0.0), BF16: (2.0, 1.0)}, precision="bf16")


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


def test_a_trial_is_large_enough_for_its_threshold_and_small_beside_the_job() -> None:
    def rows(pairs: int, min_agreement: float = 0.99, available: int = 10_000) -> int:
        return trial_rows(available=available, pairs=pairs, labels=4, min_agreement=min_agreement)

    assert (rows(2044), rows(3999), rows(4000), rows(LARGE)) == (0, 0, 100, SAMPLE_ROWS)
    assert rows(LARGE, available=99) == 0
    assert rows(800, min_agreement=0.95) == 20
    assert rows(LARGE, min_agreement=1.0) == SAMPLE_ROWS


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_engine_and_precision_of_a_device_is_a_candidate(device: str, teacher: NLITeacher) -> None:
    found = candidates(teacher, Placement(device=device))
    assert {REFERENCE, *found} == {name for name in combinations(device) if name[1] not in ("int8", "draft")}
    assert REFERENCE not in found and {REFERENCE, *LIKELY} == {*combinations("cpu"), *combinations("cuda")}
    assert {name for name, _ in combinations(device)} <= LOADING.keys()


def test_int8_is_a_candidate_where_the_teacher_has_the_engines_form(teacher: NLITeacher, tmp_path: Path) -> None:
    compiled = replace(teacher, path=str(tmp_path))
    forms = {"onnx/int8.onnx": {"deepsparse", "onnxruntime"}, "openvino/int8.xml": {"openvino"}}
    for form, engines in forms.items():
        before = {name for name, precision in candidates(compiled, Placement()) if precision == "int8"}
        (tmp_path / form).parent.mkdir()
        (tmp_path / form).write_bytes(b"")
        now = {name for name, precision in candidates(compiled, Placement()) if precision == "int8"}
        assert now - before == engines
        assert not [name for name in candidates(compiled, Placement(device="cuda")) if name[1] == "int8"]


def test_rows_that_the_reference_fails_on_are_left_out_of_the_sample(
    teacher: NLITeacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer_of = select.load_scorer

    def load(*asked: Any, **options: Any) -> Any:
        scorer = scorer_of(*asked, **options)
        prepare = scorer.prepare

        def fails_on_some(texts: list[str]) -> Any:
            if bad & set(texts):
                raise KeyError("labels")
            return prepare(texts)

        monkeypatch.setattr(scorer, "prepare", fails_on_some)
        return scorer

    monkeypatch.setattr(select, "load_scorer", load)
    bad = {TEXTS[0], TEXTS[77]}
    _, scorer, trials = choose(monkeypatch, teacher, {TORCH: (3.0, 0.0), BF16: (1.0, 0.0)})
    assert (scorer.engine.precision, trials[BF16].verdict) == ("bf16", "chosen")
    assert trials[TORCH].rows == trials[BF16].rows == SAMPLE_ROWS - 2
    bad = set(TEXTS)
    with pytest.raises(KeyError):
        choose(monkeypatch, teacher, {TORCH: (3.0, 0.0), BF16: (1.0, 0.0)})


class Dies(BaseException):
    """The process ends: nothing may catch it."""


def test_an_engine_that_kills_its_process_is_not_tried_again(
    teacher: NLITeacher, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = str(tmp_path / "trial.json")
    int8 = ("deepsparse", "int8")
    behaviour: dict[tuple[str, str], Any] = {
        TORCH: (3.0, 0.0),
        int8: (0.1, 0.0),
        DEEPSPARSE: (0.5, 0.0),
        BF16: (1.0, 0.0),
    }

    def load_engine(self: Lab, name: str, *rest: Any) -> Any:
        if name == "deepsparse":
            raise Dies
        return load(self, name, *rest)

    load = Lab.load_engine
    monkeypatch.setattr(Lab, "load_engine", load_engine)
    with pytest.raises(Dies):
        choose(monkeypatch, teacher, behaviour, on_trial=OnTrial(file, "run 1"))
    _, scorer, trials = choose(monkeypatch, teacher, behaviour, on_trial=OnTrial(file, "run 1"))
    assert (scorer.engine.name, scorer.engine.precision) == BF16
    assert trials[int8].verdict == "its process died while it was on trial"
    assert trials[DEEPSPARSE].verdict == "not tried: another precision of this engine killed its process"
    assert not Path(file).exists()


def test_nobody_is_accused_where_the_whole_job_was_killed(tmp_path: Path) -> None:
    file = str(tmp_path / "trial.json")
    OnTrial(file, "run 1").begin(BF16)
    assert OnTrial(file, "run 2").crashed == ()
    assert OnTrial(file, "run 1").crashed == (BF16,)


def test_torch_is_taken_untried_where_the_reference_killed_its_process(
    teacher: NLITeacher, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = str(tmp_path / "trial.json")
    OnTrial(file, "run 1").begin(REFERENCE)
    _, scorer, trials = choose(monkeypatch, teacher, {TORCH: (3.0, 0.0)}, on_trial=OnTrial(file, "run 1"))
    assert (scorer.engine.name, scorer.engine.precision) == TORCH
    assert "a process died" in trials[TORCH].verdict
