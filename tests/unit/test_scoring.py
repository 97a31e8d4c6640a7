from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.families import FAMILIES, LINES
from tests.parity import pipeline_probs
from zsd.assets import bundled_teacher_path, sample_path
from zsd.engines import load_engine
from zsd.engines.base import Placement
from zsd.engines.lanes import Lanes
from zsd.engines.registry import combinations
from zsd.errors import EngineError
from zsd.labels import LabelSet
from zsd.soft_labels import soft_labels
from zsd.teachers.nli import load_teacher
from zsd.teachers.scoring import Scorer, Scores
from zsd.windows import window_starts

LABELS = LabelSet(names=("world", "sports", "business"))
TEXTS = [*LINES, "", "x " * 400, "日本"]
TOLERANCE = {"torch": 1e-4, "deepsparse": 1e-3, "openvino": 1e-3, "onnxruntime": 1e-3}


def scorer_of(
    path: str,
    engine: str = "torch",
    labels: LabelSet = LABELS,
    *,
    buckets: tuple[int, ...] | None = None,
    long_text: str = "truncate",
    **options: Any,
) -> Scorer:
    teacher = load_teacher(path, **options)
    return Scorer(teacher, load_engine(engine, teacher, Placement()), labels, buckets=buckets, long_text=long_text)


@functools.cache
def expected_probs(path: Path, texts: tuple[str, ...], labels: LabelSet) -> Any:
    return pipeline_probs(str(path), texts, labels)


@pytest.mark.parametrize("engine", [name for name, precision in combinations() if precision == "fp32"])
def test_scores_are_those_of_the_transformers_pipeline(engine: str, shared_cache: Path) -> None:
    names = tuple(sample_path("labels.txt").read_text().splitlines())
    lines = sample_path("corpus.txt").read_text().splitlines()[::40]
    texts = (*lines, "The home side scored again before the break. " * 80)
    scorer = scorer_of("bundled", engine, LabelSet(names=names), buckets=(64, 512))
    scores = scorer.score(texts)
    assert scores.truncated == 1
    for multi_label in (False, True):
        probs = soft_labels(scores.entailment, scores.contradiction, multi_label=multi_label)
        expected = expected_probs(bundled_teacher_path(), texts, LabelSet(names=names, multi_label=multi_label))
        np.testing.assert_allclose(probs, expected, atol=TOLERANCE[engine])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_scores_as_the_pipeline_does(family: str, teacher_of: Callable[..., str]) -> None:
    texts = [text for text in TEXTS if text]  # the pipeline refuses an empty text
    scores = scorer_of(teacher_of(family), max_length=64).score(texts)
    for multi_label in (False, True):
        labels = LabelSet(names=LABELS.names, multi_label=multi_label)
        path = Path(teacher_of(family))
        short = [text for text in texts if len(text) < 80]
        rows = [texts.index(text) for text in short]
        probs = soft_labels(scores.entailment, scores.contradiction, multi_label=multi_label)[rows]
        np.testing.assert_allclose(probs, expected_probs(path, tuple(short), labels), atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_score_depends_neither_on_the_order_nor_on_the_company(family: str, teacher_of: Callable[..., str]) -> None:
    scorer = scorer_of(teacher_of(family))
    together = scorer.score(TEXTS)
    assert np.ptp(together.entailment) > 0.05
    order = np.random.default_rng(0).permutation(len(TEXTS))
    shuffled = scorer.score([TEXTS[n] for n in order])
    alone = [scorer.score([text]) for text in TEXTS]
    for name in ("entailment", "contradiction"):
        logits = getattr(together, name)
        np.testing.assert_allclose(getattr(shuffled, name), logits[order], atol=1e-5)
        np.testing.assert_allclose(np.concatenate([getattr(one, name) for one in alone]), logits, atol=1e-5)


def test_no_text_has_no_score_and_long_texts_are_counted(teacher_of: Callable[..., str]) -> None:
    scorer = scorer_of(teacher_of("bert"))
    empty = scorer.score([])
    assert empty.entailment.shape == (0, 3) and empty.tokens == 0 and empty.padding_waste == 0.0
    assert scorer.score(["a goal", "x " * 100, "y " * 100_000]).truncated == 2


class Spoiled:
    """An engine that returns what it is told."""

    name, precision, fingerprint, token_budget = "spoiled", "fp32", "spoiled", 512
    threads, lanes, most_buckets, pads = 1, Lanes(1), 8, True
    buckets: tuple[int, ...] | None = None

    def __init__(self, out: Callable[[int], Any]) -> None:
        self.out = out

    def logits(self, inputs: Mapping[str, Any]) -> Any:
        return self.out(len(inputs["input_ids"]))

    def close(self) -> None: ...


@pytest.mark.parametrize(
    "out",
    [
        lambda rows: np.full((rows, 3), np.nan),
        lambda rows: np.full((rows, 3), np.inf),
        lambda rows: np.zeros((rows, 2)),
    ],
    ids=["nan", "inf", "2 classes"],
)
def test_logits_that_cannot_be_are_refused(out: Callable[[int], Any], teacher_of: Callable[..., str]) -> None:
    scorer = Scorer(load_teacher(teacher_of("bert")), Spoiled(out), LABELS)
    with pytest.raises(EngineError, match="returned shape"):
        scorer.score(["a goal"] * 100)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("zsd-ahead")]


def test_rows_keep_their_place(teacher_of: Callable[..., str]) -> None:
    """An engine whose logits are the number of real tokens: arithmetic instead of a model."""

    class Counting(Spoiled):
        def logits(self, inputs: Mapping[str, Any]) -> Any:
            return inputs["attention_mask"].sum(axis=1)[:, None] * np.array([[1.0, 2.0, 3.0]])

    teacher = load_teacher(teacher_of("bert"))
    scores: Scores = Scorer(teacher, Counting(lambda rows: None), LABELS).score(TEXTS)
    for n, text in enumerate(TEXTS):
        for k, hypothesis in enumerate(LABELS.hypotheses):
            ids = teacher.tokenizer(text, hypothesis, truncation="only_first", max_length=64)["input_ids"]
            assert scores.entailment[n, k] == len(ids)
            assert scores.contradiction[n, k] == 3 * len(ids)


class Shapes(Spoiled):
    """An engine of fixed shapes that keeps the shapes it was given; its logits are the number of real tokens."""

    buckets: tuple[int, ...] | None = (16, 64)

    def __init__(self) -> None:
        self.shapes: set[tuple[int, ...]] = set()

    def logits(self, inputs: Mapping[str, Any]) -> Any:
        self.shapes.add(inputs["input_ids"].shape)
        return np.repeat(inputs["attention_mask"].sum(axis=1)[:, None], 3, axis=1).astype(np.float32)


def test_an_engine_of_fixed_shapes_runs_the_jobs_lengths_or_else_its_own(teacher_of: Callable[..., str]) -> None:
    teacher = load_teacher(teacher_of("bert"))
    for asked, used in ((None, {16, 64}), ((24, 40, 64), {24, 40, 64})):
        engine = Shapes()
        scores = Scorer(teacher, engine, LABELS, buckets=asked).score(TEXTS)
        assert {length for _, length in engine.shapes} <= used
        assert engine.shapes == {(512 // length, length) for _, length in engine.shapes}
        assert 0 < scores.padding_waste < 1 and scores.pairs == 3 * len(TEXTS)


def test_a_run_that_takes_too_long_is_stopped(teacher_of: Callable[..., str]) -> None:
    scorer = Scorer(load_teacher(teacher_of("bert")), Shapes(), LABELS)
    with pytest.raises(TimeoutError, match="was not done within"):
        scorer.run(scorer.prepare(TEXTS), within=0.0)


LONG = ["x " * 400, "a goal " * 70 + "shares fell " * 30, "one this text " * 25]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_that_fits_has_the_same_logits_cut_or_windowed(family: str, teacher_of: Callable[..., str]) -> None:
    short = [text for text in TEXTS if len(text) < 80]
    cut, windowed = (scorer_of(teacher_of(family), long_text=mode).score(short) for mode in ("truncate", "window"))
    np.testing.assert_array_equal(cut.entailment, windowed.entailment)
    np.testing.assert_array_equal(cut.contradiction, windowed.contradiction)
    assert (windowed.truncated, windowed.windowed, windowed.windows) == (0, 0, 0)
    among = scorer_of(teacher_of(family), long_text="window").score([*LONG, *short])
    np.testing.assert_allclose(among.entailment[len(LONG) :], cut.entailment, atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "distilbert", "electra"])
def test_a_long_text_has_the_best_of_its_windows_scored_by_themselves(
    family: str, teacher_of: Callable[..., str]
) -> None:
    scorer = scorer_of(teacher_of(family), long_text="window")
    tokenizer = scorer.teacher.tokenizer
    together = scorer.score([*LONG, "a goal"])
    asked = [len(ids) for ids in tokenizer(LABELS.hypotheses, add_special_tokens=False)["input_ids"]]
    room = 64 - scorer.layout.special_tokens - max(asked)
    count = 0
    for n, text in enumerate(LONG):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        windows = [tokenizer.decode(ids[start : start + room]) for start in window_starts(len(ids), room)]
        count += len(windows)
        alone = scorer_of(teacher_of(family)).score(windows)
        assert alone.truncated == 0 and len(windows) > 1
        best_K = alone.entailment.argmax(axis=0)
        np.testing.assert_allclose(together.entailment[n], alone.entailment.max(axis=0), atol=1e-5)
        expected_K = alone.contradiction[best_K, np.arange(len(LABELS))]
        np.testing.assert_allclose(together.contradiction[n], expected_K, atol=1e-4)
    assert (together.truncated, together.windowed, together.windows) == (0, len(LONG), count)
    assert together.pairs == (count + 1) * len(LABELS)


def test_windows_do_not_mix_rows(teacher_of: Callable[..., str]) -> None:
    scorer = scorer_of(teacher_of("roberta"), long_text="window")
    texts = [*TEXTS, *LONG]
    order = np.random.default_rng(0).permutation(len(texts))
    together, shuffled = scorer.score(texts), scorer.score([texts[n] for n in order])
    np.testing.assert_allclose(shuffled.entailment, together.entailment[order], atol=1e-5)


@pytest.mark.parametrize("long_text", ["truncate", "window"])
@pytest.mark.parametrize("more_templates", [(), ("It is {}.",)])
def test_what_is_asked_is_answered_as_in_the_full_pass_and_nothing_else_is(
    teacher_of: Callable[..., str], long_text: str, more_templates: tuple[str, ...]
) -> None:
    texts = [f"The winner {'scored late ' * n}" for n in range(1, 40, 3)]
    labels = LabelSet(names=("sports", "business", "science"), more_templates=more_templates)
    teacher = load_teacher(teacher_of("bert"))
    scorer = Scorer(teacher, load_engine("torch", teacher, Placement(), "fp32"), labels, long_text=long_text)
    wanted_NK = np.random.default_rng(0).random((len(texts), 3)) < 0.5
    wanted_NK[:, 0] |= ~wanted_NK.any(axis=1)
    wanted_NH = np.tile(wanted_NK, (1, scorer.templates))
    some, full = scorer.score(texts, wanted_NH), scorer.score(texts)
    np.testing.assert_allclose(some.raw_entailment[wanted_NH], full.raw_entailment[wanted_NH], atol=1e-4)
    np.testing.assert_allclose(some.entailment[wanted_NK], full.entailment[wanted_NK], atol=1e-4)
    assert np.isneginf(some.entailment[~wanted_NK]).all()
    if long_text == "truncate":
        assert some.pairs == wanted_NH.sum()
    assert some.pairs < full.pairs
    assert some.tokens < full.tokens
