from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.families import LINES
from tests.unit.second_look import looked_again
from zsd.buckets import LengthSample
from zsd.compile.compiled import INT8_OPENVINO, RECHECK_OPENVINO, Widths, write_recheck
from zsd.compile.export import exported_onnx
from zsd.compile.heldout import WITHIN, HeldOut
from zsd.compile.probes import TOLERANCE
from zsd.compile.quantize_openvino import quantize_openvino
from zsd.confidence import BoolArray, FloatArray
from zsd.engines import load_engine
from zsd.engines.base import IntArray, Placement
from zsd.engines.openvino import OpenVINOEngine
from zsd.engines.select import load_scorer
from zsd.engines.torch import TorchEngine
from zsd.engines.trial import warm_up
from zsd.errors import EngineError
from zsd.labels import LabelSet
from zsd.soft_labels.close import close_pairs
from zsd.soft_labels.ensemble import mean_over_templates
from zsd.teachers.nli import NLITeacher, load_teacher
from zsd.teachers.recheck import Recheck, load_rechecks
from zsd.teachers.scoring import Scorer, Scores

# Legend: N rows, K labels, T templates, H = T * K hypotheses, B pairs in a batch, C NLI classes.

NOISE = 0.3
LABELS = LabelSet(names=("world", "sports", "business"), more_templates=("It is about {}.",))


class Noisy(TorchEngine):
    """The teacher's exact logits, each moved by up to `NOISE`, always the same for the same pair."""

    def logits(self, inputs: Mapping[str, IntArray]) -> FloatArray:
        exact_BC = super().logits(inputs)
        keys_B = inputs["input_ids"].sum(axis=1)
        moved = [np.random.default_rng(int(key)).uniform(-NOISE, NOISE, exact_BC.shape[1]) for key in keys_B]
        return exact_BC + np.array(moved, dtype=np.float32)


def logits(scores: Scores) -> tuple[FloatArray, FloatArray]:
    return scores.raw_entailment, scores.raw_contradiction


def answer(entailment_NH: FloatArray, contradiction_NH: FloatArray, templates: int, multi_label: bool) -> BoolArray:
    entailment_NK, contradiction_NK = (mean_over_templates(a, templates) for a in (entailment_NH, contradiction_NH))
    if multi_label:
        entailed_NK: BoolArray = entailment_NK > contradiction_NK
        return entailed_NK
    top_NK: BoolArray = entailment_NK == entailment_NK.max(axis=1, keepdims=True)
    return top_NK


@given(
    seed=st.integers(0, 2**32 - 1),
    templates=st.sampled_from([1, 3]),
    labels=st.integers(2, 6),
    spread=st.sampled_from([0.1, 1.0, 5.0]),
    multi_label=st.booleans(),
    biased=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_logits_that_are_off_by_half_of_it_give_the_exact_answer_after_the_second_look(
    seed: int, templates: int, labels: int, spread: float, multi_label: bool, biased: bool
) -> None:
    rng = np.random.default_rng(seed)
    shape = (50, templates * labels)
    exact = [rng.normal(0, spread, shape).astype(np.float32) for _ in range(2)]
    noisy = [logits_NH + rng.uniform(-NOISE, NOISE, shape).astype(np.float32) for logits_NH in exact]
    bias_K = rng.normal(0, 3, labels).astype(np.float32) if biased and not multi_label else None
    told: dict[str, Any] = {"templates": templates, "multi_label": multi_label, "bias_K": bias_K}
    close_NH = close_pairs(noisy[0], noisy[1], within=2 * NOISE, **told)
    decided = [np.where(close_NH, a, b) for a, b in zip(exact, noisy, strict=True)]
    for taken_off_K in (np.zeros(labels, np.float32), *(() if bias_K is None else (bias_K,))):
        found_NK, expected_NK = (
            answer(one[0] - np.tile(taken_off_K, templates), one[1], templates, multi_label) for one in (decided, exact)
        )
        np.testing.assert_array_equal(found_NK, expected_NK)
    assert spread < 5 or close_NH.mean() < 0.7


def test_what_was_not_asked_is_never_looked_at_again() -> None:
    minus = -np.inf
    entailment_NH = np.array([[1.0, 1.1, minus], [minus, 2.0, minus], [0.0, 5.0, 4.95]], dtype=np.float32)
    contradiction_NH = np.array([[1.0, 9.0, minus], [minus, 2.0, minus], [0.0, 0.0, 0.0]], dtype=np.float32)
    logits = (entailment_NH, contradiction_NH)
    found = close_pairs(*logits, templates=1, multi_label=False, within=0.2)
    assert found.tolist() == [[True, True, False], [False, False, False], [False, True, True]]
    found = close_pairs(*logits, templates=1, multi_label=True, within=0.2)
    assert found.tolist() == [[True, False, False], [False, True, False], [True, False, False]]


@pytest.fixture
def teacher(teacher_of: Callable[..., str], shared_cache: Path) -> NLITeacher:
    return load_teacher(teacher_of("bert"))


@pytest.fixture
def looked(teacher: NLITeacher) -> Callable[..., Scorer]:
    """A scorer of a noisy engine, the exact one looking again within so much; None: not at all."""

    def make(within: float | None, long_text: str = "truncate") -> Scorer:
        exact = load_engine("torch", teacher, Placement())
        again = () if within is None else (Recheck(engine=exact, buckets=None, most_tokens=256, within=within),)
        return Scorer(teacher, Noisy(teacher, Placement(), "fp32"), LABELS, long_text=long_text, rechecks=again)

    return make


@pytest.mark.parametrize("long_text", ["truncate", "window"])
def test_a_teacher_looks_again_at_close_pairs_and_at_no_others(
    looked: Callable[..., Scorer], teacher: NLITeacher, long_text: str
) -> None:
    texts = [*LINES, "x y " * 600]
    exact = Scorer(teacher, load_engine("torch", teacher, Placement()), LABELS, long_text=long_text).score(texts)
    noisy, all_of_them = looked(None, long_text).score(texts), looked(100.0, long_text).score(texts)
    assert noisy.rechecked == 0 and np.abs(noisy.entailment - exact.entailment).max() > 0.05
    assert all_of_them.rechecked == all_of_them.pairs == exact.pairs
    np.testing.assert_allclose(all_of_them.raw_entailment, exact.raw_entailment, atol=1e-5)
    np.testing.assert_allclose(all_of_them.raw_contradiction, exact.raw_contradiction, atol=1e-5)
    first_N, second_N = -np.sort(-noisy.entailment, axis=1)[:, :2].T
    within = 1e-3 + float(np.median(first_N - second_N))  # half of the rows are close
    expected_NH, again_NH = looked_again(logits(noisy), logits(exact), templates=2, within=within)
    some = looked(within, long_text).score(texts)
    assert 0 < again_NH.sum() <= some.rechecked < some.pairs
    np.testing.assert_allclose(some.raw_entailment, expected_NH, atol=1e-5)


def test_what_the_second_look_leaves_close_gets_a_third(teacher: NLITeacher) -> None:
    exact, noisy = load_engine("torch", teacher, Placement()), Noisy(teacher, Placement(), "fp32")
    alone, expected = (Scorer(teacher, engine, LABELS).score(LINES) for engine in (noisy, exact))
    first_N, second_N = -np.sort(-alone.entailment, axis=1)[:, :2].T
    within = 1e-3 + float(np.median(first_N - second_N))
    looks = [
        Recheck(engine=engine, buckets=None, most_tokens=256, within=width)
        for engine, width in ((noisy, 100.0), (exact, within))
    ]
    found = Scorer(teacher, noisy, LABELS, rechecks=looks).score(LINES)
    expected_NH, again_NH = looked_again(logits(alone), logits(expected), templates=2, within=within)
    assert 0 < again_NH.sum() < again_NH.size and found.rechecked == found.pairs + again_NH.sum()
    np.testing.assert_allclose(found.raw_entailment, expected_NH, atol=1e-5)


def test_a_bias_is_taken_off_to_see_what_is_close(teacher: NLITeacher) -> None:
    exact, noisy = load_engine("torch", teacher, Placement()), Noisy(teacher, Placement(), "fp32")
    labels = LabelSet(names=("sports", "business", "late"), template="This text is about {}.")
    alone, expected = (Scorer(teacher, engine, labels).score(LINES) for engine in (noisy, exact))
    highest_NK = np.sort(alone.entailment, axis=1)
    within = 1e-3 + float((highest_NK[:, -1] - highest_NK[:, -2]).min())
    last = alone.entailment.argmin(axis=1)[0]
    bias_K = np.zeros(3, np.float32)
    bias_K[last] = highest_NK[0, 0] - highest_NK[0, -1]  # puts the first row's last class beside its best
    rechecked = []
    for bias in (None, bias_K):
        again = (Recheck(engine=exact, buckets=None, most_tokens=256, within=within, bias=bias),)
        found = Scorer(teacher, noisy, labels, rechecks=again).score(LINES)
        rechecked.append(found.rechecked)
    assert rechecked[0] < rechecked[1]
    np.testing.assert_allclose(found.entailment[0, last], expected.entailment[0, last], atol=1e-5)


def test_what_is_known_of_a_row_decides_which_of_its_new_pairs_are_close(looked: Callable[..., Scorer]) -> None:
    whole = looked(None).score(LINES)
    known = (whole.raw_entailment.copy(), whole.raw_contradiction.copy())
    others_N = whole.entailment[:, [0, 2]].max(axis=1)
    within = 1e-3 + float(np.median(np.abs(whole.entailment[:, 1] - others_N)))  # class 1 is close in half of the rows
    close_NH = close_pairs(*known, templates=2, multi_label=False, within=within)[:, [1, 4]]
    assert 0 < close_NH.sum() < close_NH.size
    for logits_NH in known:
        logits_NH[:, [1, 4]] = np.nan
    new = looked(within).subset([1, 4])
    assert new.run(new.prepare(LINES), known=known).rechecked == close_NH.sum()


def test_an_openvino_int8_form_brings_its_second_look(
    teacher: NLITeacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TOLERANCE, "int8", np.inf)  # how far a random model is off in int8 is not the point
    compiled = tmp_path / "compiled"
    shutil.copytree(teacher.path, compiled)
    exact = load_engine("torch", teacher, Placement())
    labels = LabelSet(names=("so", "no"))
    heldout = HeldOut.of_teacher(teacher, labels, LINES, exact.logits)
    inputs = [heldout.sequences.batch(np.arange(2), length=64)]
    lengths = LengthSample.of(heldout.sequences.lengths, max_length=teacher.max_length)
    quantize_openvino(exported_onnx(teacher), inputs, heldout, compiled / INT8_OPENVINO, min_agreement=0.0, threads=1)
    assert load_rechecks("openvino", "int8", load_teacher(str(compiled)), labels, Placement(), lengths) == ()
    plain = load_teacher(str(compiled)).fingerprint
    write_recheck(compiled, RECHECK_OPENVINO, Widths(within=0.5))
    form = load_teacher(str(compiled))
    assert form.fingerprint != plain
    (again,) = load_rechecks("openvino", "int8", form, labels, Placement(), lengths)
    assert (again.within, again.engine.name) == (0.5, "openvino")
    assert again.engine.precision in ("bf16", "fp32")
    assert load_rechecks("openvino", "fp32", form, labels, Placement(), lengths) == ()

    write_recheck(compiled, RECHECK_OPENVINO, Widths(within=100.0))
    form = load_teacher(str(compiled))
    scorer = load_scorer("openvino", "int8", form, labels, Placement(), lengths=lengths, long_text="truncate")
    prepared = scorer.prepare(LINES)
    warm_up(scorer, prepared)
    with monkeypatch.context() as patch:
        patch.setattr(OpenVINOEngine, "_compile", lambda *_: pytest.fail("a shape was compiled after the warm-up"))
        assert scorer.run(prepared).rechecked == 2 * len(LINES)
    models = (scorer.engine, scorer.rechecks[0].engine)
    scorer.close()
    assert not any(hasattr(model, "_source") for model in models)

    (compiled / RECHECK_OPENVINO).write_text("{}")
    with pytest.raises(EngineError, match=r"recheck.json is damaged: make the form again"):
        load_rechecks("openvino", "int8", load_teacher(str(compiled)), labels, Placement(), lengths)


def test_as_close_as_it_takes_for_a_third_of_the_disagreement_that_is_allowed(teacher: NLITeacher) -> None:
    def logits(inputs: Mapping[str, IntArray], noise: float = 0.0) -> FloatArray:
        """Of every pair its own, drawn by its tokens."""
        keys_B = (inputs["input_ids"] * inputs["attention_mask"]) @ np.arange(1, inputs["input_ids"].shape[1] + 1)
        drawn_BC = np.array([np.random.default_rng(int(key)).normal(size=6) for key in keys_B])
        moved_BC: FloatArray = (drawn_BC[:, :3] + noise * np.clip(drawn_BC[:, 3:], -1, 1)).astype(np.float32)
        return moved_BC

    words = list(dict.fromkeys(word for word in " ".join(LINES).split() if word.isalpha()))
    texts = [f"{one} {other}" for one in words[:12] for other in words[:12]]
    heldout = HeldOut.of_teacher(teacher, LabelSet(names=tuple(words[:8])), texts, logits)
    alone = heldout.agreement(partial(logits, noise=NOISE))
    assert 0.5 < alone < 1
    found = heldout.with_recheck(heldout.logits(partial(logits, noise=NOISE)), 0.9999, 1.0)
    assert found.agreement == 1.0 and found.within in WITHIN and found.within <= 2 * NOISE
    assert 0 < found.share < 1
    half_way = 1 - (1 - alone) / 2
    some = heldout.with_recheck(heldout.logits(partial(logits, noise=NOISE)), half_way, 1.0)
    assert some.agreement >= 1 - (1 - half_way) / 3 and 0 < some.within < found.within
    enough = heldout.with_recheck(heldout.logits(partial(logits, noise=NOISE)), 1 - 6 * (1 - alone), 1.0)
    assert (enough.agreement, enough.within, enough.share) == (alone, 0.0, 0.0)
    bounded = heldout.with_recheck(heldout.logits(partial(logits, noise=NOISE)), 0.9999, some.share)
    assert 0 < bounded.share <= some.share and bounded.within < found.within


def test_rows_must_agree_after_the_bias_too(teacher: NLITeacher) -> None:
    labels, texts = LabelSet(names=("so", "no", "yes")), [f"{one} {LINES[0]}" for one in LINES]

    def nothing(inputs: Mapping[str, IntArray]) -> FloatArray:
        return np.zeros((len(inputs["input_ids"]), 3), np.float32)

    def logits_of(entailment_NK: list[list[float]]) -> FloatArray:
        found = np.zeros((len(texts) * 3, 3), np.float32)
        found[:, teacher.classes.entailment] = np.array(entailment_NK, np.float32).reshape(-1)
        return found

    exact = logits_of([[5.0, 0.0, 0.9]] * len(texts))
    off = logits_of([[5.0, 0.2, 0.1]] * len(texts))  # the best class is the same; the best but one is not
    for bias_K, agreement in ((None, 1.0), (np.array([5.0, 0.0, 0.0], np.float32), 0.0)):
        heldout = HeldOut.of_teacher(teacher, labels, texts, nothing, bias_K=bias_K)
        heldout.logits_PC = exact
        heldout.outcome_NK = heldout.outcome(exact)
        assert heldout.outcome_NK.shape == (len(texts), 3 if bias_K is None else 6)
        found = heldout.with_recheck(off, 0.99, 1.0)
        assert (found.alone, found.agreement) == (agreement, 1.0)
        assert (found.share > 0) == (bias_K is not None)  # 0.1 and 0.2 are close, once 5 is taken off


def test_how_close_is_close_is_told_by_the_errors_of_all_rows(teacher: NLITeacher) -> None:
    """No row disagrees here, since those that are off are sure: the next ones that are off may not be."""
    labels, texts = LabelSet(names=("so", "no")), [f"{one} {LINES[0]}" for one in LINES]

    def nothing(inputs: Mapping[str, IntArray]) -> FloatArray:
        return np.zeros((len(inputs["input_ids"]), 3), np.float32)

    heldout = HeldOut.of_teacher(teacher, labels, texts, nothing)
    rows = len(texts)
    entailment_NK = np.tile(np.array([[0.1, 0.0]]), (rows, 1))
    entailment_NK[0] = (9.0, 0.0)
    heldout.logits_PC = np.zeros((2 * rows, 3), np.float32)
    heldout.logits_PC[:, teacher.classes.entailment] = entailment_NK.reshape(-1)
    heldout.outcome_NK = heldout.outcome(heldout.logits_PC)
    off_PC = heldout.logits_PC.copy()
    off_PC[1, teacher.classes.entailment] += 0.42
    found = heldout.with_recheck(off_PC, 0.99, 1.0)
    assert heldout._agreement(off_PC) == 1.0
    assert (found.agreement, found.within) == (1.0, 0.35)
