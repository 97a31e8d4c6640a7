from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.families import FAMILIES, LINES, NLI_2, NLI_3, tiny_teacher
from tests.unit.second_look import looked_again
from zsd.benchmark.lineup import line_up
from zsd.benchmark.rows import weights_mb
from zsd.buckets import LengthSample
from zsd.cli import main
from zsd.compile import draft, draft_logits, draft_training
from zsd.compile.compiled import RECHECK_DRAFT, Widths, draft_of, write_recheck
from zsd.compile.draft_training import DraftRows, asked_hypotheses, cut_to_layers, distance, save_draft, train_draft
from zsd.compile.heldout import HeldOut, Looks, Rechecked, all_pairs
from zsd.compile_config import CompileConfig
from zsd.corpus.normalize import NORMALIZATION
from zsd.encoder_layers import layer_list
from zsd.engines import load_engine
from zsd.engines.base import Placement
from zsd.engines.candidates import candidates
from zsd.engines.draft import half_precision
from zsd.engines.select import choose_engine, load_scorer
from zsd.errors import ConfigError, EngineError, OutputError, StoreError
from zsd.labels import LabelSet
from zsd.machine import has_amx
from zsd.reuse import check_reusable
from zsd.shards import SOFT_LABELS
from zsd.students import load_student
from zsd.teachers.nli import NLITeacher, load_teacher
from zsd.teachers.recheck import load_rechecks
from zsd.teachers.scoring import Scorer
from zsd.teachers.weights import input_names, load_weights

# Legend: N rows, H hypotheses, R rows of a batch, A hypotheses asked of each.

LABELS = LabelSet(names=("world", "sports", "business"))
WORDS = ("goal", "shares", "bank", "winner", "rate", "top", "time", "late")
TEXTS = [f"A {one} and a {two}: {one}." for one in WORDS for two in WORDS]
Refused = Callable[..., str]


@pytest.fixture
def teacher(teacher_of: Callable[..., str], shared_cache: Path) -> NLITeacher:
    return load_teacher(teacher_of("bert"))


@pytest.fixture
def rows(teacher: NLITeacher) -> DraftRows:
    scores = Scorer(teacher, load_engine("torch", teacher, Placement()), LABELS).score(TEXTS)
    known = np.stack([scores.raw_entailment, scores.raw_contradiction], axis=-1)
    return DraftRows(pairs=all_pairs(teacher, LABELS, TEXTS), logits=known, multi_label=False)


@pytest.fixture
def drafted(teacher: NLITeacher, tmp_path: Path) -> NLITeacher:
    """The teacher with an untrained draft, which looks again within 0.5."""
    directory = tmp_path / "drafted"
    shutil.copytree(teacher.path, directory)
    save_draft(cut_to_layers(teacher, 1), directory / "draft")
    write_recheck(directory, RECHECK_DRAFT, Widths(within=0.5))
    return load_teacher(str(directory))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_draft_is_the_last_layers_of_the_teacher_and_all_around_them(
    teacher_of: Callable[..., str], shared_cache: Path, tmp_path: Path, family: str
) -> None:
    teacher = load_teacher(teacher_of(family))
    whole: Any = load_weights(teacher, dtype=torch.float32)
    path, total = layer_list(whole)
    kept = 0 if family == "modernbert" else total - 1
    cut = cut_to_layers(teacher, 1)
    expected = {
        name.replace(f"{path}.{kept}.", f"{path}.0."): tensor
        for name, tensor in whole.state_dict().items()
        if not name.startswith(f"{path}.") or name.startswith(f"{path}.{kept}.")
    }
    assert cut.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in cut.state_dict().items())
    directory = Path(shutil.copytree(teacher.path, tmp_path / "drafted"))
    save_draft(cut, directory / "draft")
    its_draft = draft_of(load_teacher(str(directory)))
    assert its_draft is not None
    inputs = all_pairs(teacher, LABELS, LINES).batch(np.arange(3), length=48)
    names = input_names(cut, tuple(teacher.tokenizer.model_input_names))
    with torch.inference_mode():
        expected_BC = cut(**{name: torch.from_numpy(inputs[name]) for name in names}).logits.numpy()
    for name in ("torch", "openvino"):
        engine = load_engine(name, its_draft, Placement())
        np.testing.assert_allclose(engine.logits(inputs), expected_BC, atol=1e-3 * float(np.ptp(expected_BC)))
        engine.close()


def test_a_draft_needs_fewer_layers_than_its_teacher(teacher: NLITeacher) -> None:
    with pytest.raises(EngineError, match="has 2 layers: --draft 2 must be fewer"):
        cut_to_layers(teacher, 2)


@given(rows=st.integers(1, 5), hypotheses=st.integers(1, 60), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_a_step_asks_the_likeliest_hypotheses_and_as_many_others(rows: int, hypotheses: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    entailment_RH = generator.normal(size=(rows, hypotheses)).astype(np.float32)
    asked_RA = asked_hypotheses(entailment_RH, generator)
    asked = draft_training.asked_of_a_row(hypotheses)
    assert asked_RA.shape == (rows, min(hypotheses, draft_training.MOST_ASKED))
    assert (np.diff(asked_RA, axis=1) > 0).all() and asked_RA.min() >= 0 and asked_RA.max() < hypotheses
    if asked < hypotheses:
        for r in range(rows):
            assert set(np.argsort(-entailment_RH[r])[: asked // 2]) <= set(asked_RA[r])


def test_every_other_hypothesis_is_asked_some_time() -> None:
    entailment_RH = np.arange(60, dtype=np.float32)[None]
    seen = {int(h) for step in range(100) for h in asked_hypotheses(entailment_RH, np.random.default_rng(step))[0]}
    assert seen == set(range(60))


@pytest.mark.parametrize("multi_label", [False, True])
def test_the_distance_is_none_to_itself_and_tells_which_errors_matter(multi_label: bool) -> None:
    wanted = torch.randn(4, 5, 2, generator=torch.Generator().manual_seed(0))
    assert distance(wanted, wanted, multi_label=multi_label) == pytest.approx(0.0, abs=1e-6)
    shifted = wanted + 1.0  # no answer differs, only the scale of the logits
    assert distance(shifted, wanted, multi_label=multi_label) == pytest.approx(1.0, abs=1e-5)
    turned = wanted.clone()
    turned[..., 0] = wanted[..., 0].flip(1)
    assert distance(turned, wanted, multi_label=multi_label) > torch.nn.functional.mse_loss(turned, wanted)


def test_a_trained_draft_is_closer_to_its_teacher(teacher: NLITeacher, rows: DraftRows, tmp_path: Path) -> None:
    def error(model: Any) -> float:
        inputs = rows.pairs.batch(np.arange(len(rows.pairs)), length=int(rows.pairs.lengths.max()))
        with torch.inference_mode():
            logits = model(**{name: torch.from_numpy(array) for name, array in inputs.items()}).logits
        columns = [teacher.classes.entailment, teacher.classes.contradiction]
        return float(np.square(logits[:, columns].numpy().reshape(rows.logits.shape) - rows.logits).mean())

    model = cut_to_layers(teacher, 1)
    before, words = error(model), model.get_input_embeddings().weight.clone()  # type: ignore[operator]
    train_draft(model, teacher, rows, steps=150, state=tmp_path / "state")
    assert error(model) < 0.5 * before
    assert torch.equal(model.get_input_embeddings().weight, words)  # type: ignore[operator]


def test_a_training_that_was_killed_goes_on_to_the_same_weights(
    teacher: NLITeacher, rows: DraftRows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draft_training, "SAVE_EVERY", 4)
    whole = cut_to_layers(teacher, 1)
    loss = train_draft(whole, teacher, rows, steps=10, state=tmp_path / "whole")
    killed = cut_to_layers(teacher, 1)
    asked = 0

    def dies(*arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == 7:
            raise KeyboardInterrupt
        return asked_hypotheses(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(draft_training, "asked_hypotheses", dies)
        with pytest.raises(KeyboardInterrupt):
            train_draft(killed, teacher, rows, steps=10, state=tmp_path / "killed")
    resumed = cut_to_layers(teacher, 1)
    assert train_draft(resumed, teacher, rows, steps=10, state=tmp_path / "killed") == loss
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    (tmp_path / "killed").write_bytes(b"half")
    with pytest.raises(StoreError, match="delete it to start the training over"):
        train_draft(cut_to_layers(teacher, 1), teacher, rows, steps=10, state=tmp_path / "killed")


@pytest.mark.parametrize("engine", ["torch", "openvino", "native"])
def test_the_teacher_decides_where_its_draft_is_in_doubt_and_nowhere_else(drafted: NLITeacher, engine: str) -> None:
    lengths = LengthSample.of(all_pairs(drafted, LABELS, TEXTS).lengths, max_length=drafted.max_length)

    def scores(precision: str, teacher: NLITeacher = drafted) -> Any:
        scorer = load_scorer(engine, precision, teacher, LABELS, Placement(), lengths=lengths, long_text="truncate")
        found = scorer.score(TEXTS)
        scorer.close()
        return found

    half = half_precision(engine, Placement())
    its_draft = draft_of(drafted)
    assert its_draft is not None
    exact, alone = scores(half), scores(half, its_draft)
    first_N, second_N = -np.sort(-alone.raw_entailment, axis=1)[:, :2].T
    within = 1e-3 + float(np.median(first_N - second_N))  # half of the rows are close
    write_recheck(Path(drafted.path), RECHECK_DRAFT, Widths(within=within))
    both = scores("draft")
    first, second = ((one.raw_entailment, one.raw_contradiction) for one in (alone, exact))
    expected_NH, again_NH = looked_again(first, second, templates=1, within=within)
    assert 0 < again_NH.sum() < again_NH.size and both.rechecked == again_NH.sum()
    off = 0.02 * float(np.ptp(exact.raw_entailment))  # of bf16, whose rounding depends on the shape
    np.testing.assert_allclose(both.raw_entailment, expected_NH, atol=off)
    assert np.abs(exact.raw_entailment - alone.raw_entailment).max() > 3 * off


def test_an_engine_with_a_draft_is_told_from_the_teacher_on_it(teacher: NLITeacher, drafted: NLITeacher) -> None:
    assert drafted.fingerprint != teacher.fingerprint
    engine = load_engine("openvino", drafted, Placement(), "draft")
    assert (engine.name, engine.precision) == ("openvino", "draft")
    assert drafted.fingerprint in engine.fingerprint
    engine.close()
    before = drafted.fingerprint
    write_recheck(Path(drafted.path), RECHECK_DRAFT, Widths(within=0.6))
    assert load_teacher(drafted.path).fingerprint != before
    assert [one for one in candidates(drafted, Placement()) if one[1] == "draft"] == [
        ("native", "draft"),
        ("openvino", "draft"),
        ("torch", "draft"),
    ]
    assert not [one for one in candidates(teacher, Placement()) if one[1] == "draft"]
    assert {precision for _, precision in candidates(drafted, Placement(device="cuda"))} == {"draft", "bf16", "fp16"}


def test_what_is_wrong_with_a_draft_is_said(teacher: NLITeacher, drafted: NLITeacher, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"has no draft: make one with zsd compile --teacher .* --draft 1"):
        load_engine("torch", teacher, Placement(), "draft")
    with pytest.raises(EngineError, match="the onnxruntime engine has no precision 'draft'"):
        load_engine("onnxruntime", drafted, Placement(), "draft")
    lengths = LengthSample.of(np.array([20]), max_length=drafted.max_length)

    def load() -> Scorer:
        return load_scorer("torch", "draft", drafted, LABELS, Placement(), lengths=lengths, long_text="truncate")

    recheck = Path(drafted.path) / RECHECK_DRAFT
    recheck.write_text("{}")
    with pytest.raises(EngineError, match=r"recheck.json is damaged: make the form again"):
        load()
    recheck.unlink()
    with pytest.raises(EngineError, match=r"has a draft without a sound draft/recheck.json: make it again"):
        load()
    (Path(drafted.path) / "draft" / "config.json").write_text("{")
    with pytest.raises(EngineError, match=r"draft is damaged \(.*\): make it again with zsd compile"):
        load()


def test_a_student_has_no_draft(teacher_of: Callable[..., str], shared_cache: Path) -> None:
    with pytest.raises(EngineError, match="has no draft: a draft is made of a teacher only"):
        load_student(teacher_of("bert"), engine="torch", precision="draft", threads=1)


def test_engine_auto_takes_a_draft_that_agrees_and_no_other(
    teacher: NLITeacher, drafted: NLITeacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("zsd.engines.draft", "zsd.teachers.recheck"):  # bf16 may be too coarse for a random teacher
        monkeypatch.setattr(f"{module}.half_precision", lambda *_: "fp32")
    inverted: Any = cut_to_layers(teacher, 1)
    with torch.no_grad():
        for parameter in inverted.classifier.parameters():
            parameter.neg_()
    save_draft(inverted, Path(drafted.path) / "draft")
    pairs = all_pairs(drafted, LABELS, TEXTS)
    lengths = LengthSample.of(pairs.lengths, max_length=drafted.max_length)

    def chosen(within: float) -> tuple[str, dict[str, str]]:
        write_recheck(Path(drafted.path), RECHECK_DRAFT, Widths(within=within))
        teacher = load_teacher(drafted.path)
        scorer, trials = choose_engine(
            teacher, LABELS, Placement(), TEXTS * 4, pairs=10**9, precision="draft", lengths=lengths
        )
        scorer.close()
        return scorer.engine.precision, {one.engine: one.verdict for one in trials if one.precision == "draft"}

    precision, verdicts = chosen(1000.0)
    assert precision == "draft" and "chosen" in verdicts.values()
    with pytest.raises(EngineError, match="no engine of precision draft reaches --min-agreement"):
        chosen(1e-6)
    bare = load_teacher(teacher.path)
    with pytest.raises(EngineError, match="has no draft: make one"):
        choose_engine(bare, LABELS, Placement(), TEXTS * 4, pairs=10**9, precision="draft", lengths=lengths)


def compiling(teacher: str, output: Path, *more: str, texts: Sequence[str] = TEXTS) -> list[str]:
    """A ``zsd compile`` of a corpus, which is written beside the output."""
    data = output.parent / "rows.txt"
    data.write_text("\n".join(texts), encoding="utf-8")
    told = ["--data", str(data), "--label", "sports", "--label", "business", "--calibration-rows", "32"]
    return ["compile", "--teacher", teacher, "--output", str(output), *told, *more]


def test_a_teacher_is_compiled_with_a_draft_and_used(
    teacher_of: Callable[..., str], shared_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    argv = compiling(teacher_of("bert"), output, "--no-int8", "--draft", "1", "--draft-steps", "20")
    argv += ["--engine", "openvino", "--min-agreement", "0"]
    assert main([*argv, "--json", str(tmp_path / "figures.json")]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    made = figures["draft"]
    assert (made["layers"], made["steps"], made["rows"], made["pairs_of_a_step"]) == (1, 9, 36, 64)
    assert 0 <= made["agreement_alone"] <= 1 and 0 <= made["agreement"] <= 1 and 0 <= made["rechecked"] <= 1
    assert [(form["engine"], form["precision"]) for form in figures["forms"]] == [
        ("torch", "fp32"),
        ("openvino", "fp32"),
        *([("openvino", "bf16")] if half_precision("openvino", Placement()) == "bf16" else []),
        ("openvino", "draft"),
    ]
    assert all("error" not in form for form in figures["forms"])
    card = (output / "README.md").read_text()
    assert "1 of the teacher's layers, trained for 9 steps on 36 rows" in card
    assert "asking the teacher" in capsys.readouterr().err
    assert main(argv) == 0
    assert "is done already" in capsys.readouterr().err


def test_a_draft_is_made_for_the_teachers_bias_too(
    teacher_of: Callable[..., str], shared_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def bias(entailment_NK: Any) -> Any:
        asked.append(entailment_NK.shape)
        return np.array([0.75, -0.75], np.float32)

    monkeypatch.setattr(draft, "_bias", bias)
    output = tmp_path / "out"
    argv = compiling(teacher_of("bert"), output, "--no-int8", "--draft", "1", "--draft-steps", "2")
    assert main([*argv, "--engine", "torch", "--min-agreement", "0"]) == 0
    assert len(asked) == 1 and asked[0][1] == 2
    assert json.loads((output / RECHECK_DRAFT).read_text())["bias"] == [0.75, -0.75]
    assert json.loads((output / "compile.json").read_text())["draft"]["biased"]
    card = (output / "README.md").read_text()
    assert "(by its logits, and once the teacher's bias is taken off)" in card
    assert "of each other, also after the teacher's bias is taken off, they run again" in card


def test_the_bias_is_that_which_distillation_takes_off() -> None:
    drawn = np.random.default_rng(0)
    logits_NK = drawn.normal(0, 1, (400, 4)) + 4 * np.eye(4)[drawn.integers(0, 4, 400)] + np.array([2.0, 0, 0, 0])
    bias_K = draft._bias(logits_NK.astype(np.float32))
    assert bias_K.argmax() == 0 and bias_K[0] - bias_K[1:].mean() == pytest.approx(2.0, abs=0.5)
    assert not draft._bias(logits_NK[:20].astype(np.float32)).any()  # too few to tell


def test_a_draft_that_does_not_agree_is_one_line_and_leaves_nothing(
    teacher_of: Callable[..., str],
    shared_cache: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    half = Rechecked(alone=0.1, agreement=0.9, expected=0.5, within=0.3, share=0.42)
    monkeypatch.setattr(HeldOut, "with_recheck", lambda *_, **__: half)
    argv = compiling(teacher_of("bert"), tmp_path / "out", "--no-int8", "--draft", "1", "--draft-steps", "1")
    assert main([*argv, "--engine", "openvino", "--calibration-rows", "48"]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("zsd: error:")]
    assert len(errors) == 1 and "in 50.0% of the held-out rows with 42% of the pairs run again: give more" in errors[0]
    assert [path.name for path in tmp_path.iterdir() if path != shared_cache] == ["rows.txt"]


def test_a_draft_that_was_made_is_kept_where_no_int8_agrees(
    teacher_of: Callable[..., str],
    shared_cache: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise EngineError("it does not agree")

    monkeypatch.setattr("zsd.compile.job.write_int8", refuse)
    output = tmp_path / "out"
    argv = compiling(teacher_of("bert"), output, "--min-agreement", "0")
    assert main(argv) == 1
    assert main([*argv, "--draft", "1", "--engine", "openvino"]) == 0
    figures = json.loads((output / "compile.json").read_text())
    assert figures["draft"]["layers"] == 1 and figures["not_made"] == {"int8": "it does not agree"}
    assert {one["precision"] for one in figures["forms"]} >= {"fp32", "draft"}
    assert "int8" not in {one["precision"] for one in figures["forms"]}
    assert "compile: no int8: it does not agree" in capsys.readouterr().err
    assert "- not made: int8: it does not agree" in (output / "README.md").read_text()


def test_the_next_engine_asks_the_teacher_where_the_first_cannot(
    teacher_of: Callable[..., str],
    shared_cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(*_: Any) -> Any:
        raise EngineError("there is no compiler")

    monkeypatch.setattr("zsd.engines.native.engine.load_library", refuse)
    texts = [f"{text} {n} times" for n, text in enumerate(TEXTS)]  # of which nothing is in the cache
    argv = compiling(
        teacher_of("bert"), tmp_path / "out", "--no-int8", "--draft", "1", "--draft-steps", "2", texts=texts
    )
    assert main([*argv, "--engine", "openvino", "--min-agreement", "0"]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "the teacher is asked by" in line]
    assert said == (["zsd: compile: the teacher is asked by openvino: there is no compiler"] if has_amx() else [])


@pytest.mark.parametrize(
    ("engine", "draft_layers", "message"),
    [
        ("native", None, "--engine native has no int8 form: add --no-int8, or name another engine"),
        ("deepsparse", 1, "has no draft: leave --draft away, or add torch or openvino or native"),
    ],
)
def test_a_form_that_no_named_engine_runs_is_refused_at_once(
    engine: str, draft_layers: int | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        CompileConfig(output=str(tmp_path), engine=(engine,), draft=draft_layers)
    CompileConfig(output=str(tmp_path), engine=("native",), int8=False, draft=1)


def test_a_compilation_that_was_killed_asks_the_teacher_for_what_is_missing_only(
    teacher_of: Callable[..., str],
    shared_cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(draft_logits, "PART_PAIRS", 20)  # ten rows a part
    texts = [f"{text} {n}" for n, text in enumerate(TEXTS)]
    argv = compiling(teacher_of("bert"), tmp_path / "out", "--no-int8", "--draft", "1", texts=texts)
    argv += ["--engine", "openvino", "--draft-steps", "20", "--min-agreement", "0", "--output"]
    states = {*(shared_cache / "draft").glob("*")}
    asked: list[int] = []
    score = Scorer.score

    def counted(self: Scorer, texts: Any, *rest: Any) -> Any:
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(len(texts))
        return score(self, texts, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Scorer, "score", counted)
        assert main([*argv, str(tmp_path / "killed")]) == 130
    assert asked == [10, 10] and not (tmp_path / "killed").exists()
    again: list[int] = []

    def noted(self: Scorer, texts: Any, *rest: Any) -> Any:
        again.append(len(texts))
        return score(self, texts, *rest)

    monkeypatch.setattr(Scorer, "score", noted)
    assert main([*argv, str(tmp_path / "resumed")]) == 0
    assert again == [10, 6]
    assert {*(shared_cache / "draft").glob("*")} == states
    other = [*argv[:-1], "--nli-classes", "contradiction,entailment", "--output", str(tmp_path / "turned")]
    assert main(other) == 0
    assert again == [10, 6, 10, 10, 10, 6]
    for file in (shared_cache / "draft-logits").glob("*/logits.npy"):
        file.write_bytes(b"half")
    capsys.readouterr()
    assert main([*argv, str(tmp_path / "damaged")]) == 1
    assert "logits.npy is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("classes", [NLI_3, NLI_2])
@pytest.mark.parametrize("multi_label", [False, True])
def test_drafts_of_many_classes_and_of_several_true_ones_learn(
    shared_cache: Path, tmp_path: Path, classes: tuple[str, ...], multi_label: bool
) -> None:
    teacher = load_teacher(str(tiny_teacher(tmp_path / "teacher", classes=classes)))
    labels = LabelSet(names=tuple(f"{one} {other}" for one in WORDS for other in WORDS[:4]), multi_label=multi_label)
    scores = Scorer(teacher, load_engine("torch", teacher, Placement()), labels).score(TEXTS[:16])
    known = np.stack([scores.raw_entailment, scores.raw_contradiction], axis=-1)
    rows = DraftRows(pairs=all_pairs(teacher, labels, TEXTS[:16]), logits=known, multi_label=multi_label)
    model = cut_to_layers(teacher, 1)
    inputs = rows.pairs.batch(np.arange(64), length=int(rows.pairs.lengths[:64].max()))
    columns = [teacher.classes.entailment, teacher.classes.contradiction]

    def error() -> float:
        with torch.inference_mode():
            logits = model(**{name: torch.from_numpy(array) for name, array in inputs.items()}).logits
        return float(np.square(logits[:, columns].numpy() - known.reshape(-1, 2)[:64]).mean())

    before = error()
    train_draft(model, teacher, rows, steps=100, state=tmp_path / "state")
    assert error() < 0.7 * before


def test_what_bf16_cannot_decide_gets_a_third_look_where_that_was_measured(
    drafted: NLITeacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = LengthSample.of(all_pairs(drafted, LABELS, TEXTS).lengths, max_length=drafted.max_length)

    def looks(half: str, exactly: float | None) -> list[tuple[str, float]]:
        monkeypatch.setattr("zsd.teachers.recheck.half_precision", lambda *_: half)
        write_recheck(Path(drafted.path), RECHECK_DRAFT, Widths(within=0.5, exactly_within=exactly))
        found = load_rechecks("torch", "draft", drafted, LABELS, Placement(), lengths)
        for one in found:
            one.engine.close()
        return [(one.engine.precision, one.within) for one in found]

    assert looks("bf16", 0.0) == [("bf16", 0.5)]
    assert looks("bf16", 0.02) == [("bf16", 0.5), ("fp32", 0.02)]
    assert looks("fp32", 0.02) == [("fp32", 0.5)]
    assert looks("bf16", None) == [("fp32", 0.5)]


def test_bf16_is_repaired_by_fp32_where_it_is_off(teacher: NLITeacher, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = load_engine("torch", teacher, Placement())
    heldout = HeldOut.of_teacher(teacher, LABELS, TEXTS, exact.logits)
    shape = (len(TEXTS), len(LABELS))
    entailment_NK = np.random.default_rng(0).normal(size=shape)
    heldout.logits_PC[:, teacher.classes.entailment] = entailment_NK.reshape(-1)
    heldout.outcome_NK = heldout.outcome(heldout.logits_PC)
    off_PC = heldout.logits_PC + np.random.default_rng(1).normal(0, 0.03, heldout.logits_PC.shape).astype(np.float32)
    assert heldout.with_recheck(off_PC, 0.9, 0).alone < 1
    monkeypatch.setattr(heldout, "logits", lambda _: off_PC)
    exactly, looks = draft._third_look(teacher, heldout, 0.9999, Placement(), "bf16")
    assert 0 < exactly <= 0.2 and looks.exactly_within == exactly
    exact.close()
    far_PC = heldout.logits_PC + np.random.default_rng(2).normal(0, 0.5, heldout.logits_PC.shape).astype(np.float32)
    alone = heldout.with_recheck(far_PC, 0.9999, 1.0, widths=[100.0], looks=Looks(logits=off_PC, exactly_within=0.0))
    repaired = heldout.with_recheck(far_PC, 0.9999, 1.0, widths=[100.0], looks=looks)
    assert alone.agreement < repaired.agreement == 1.0
    assert alone.share == repaired.share == 1.0


def test_a_draft_is_for_the_labels_it_was_made_for(drafted: NLITeacher) -> None:
    lengths = LengthSample.of(np.array([20]), max_length=drafted.max_length)

    def load(labels: LabelSet) -> Any:
        scorer = load_scorer("torch", "draft", drafted, labels, Placement(), lengths=lengths, long_text="truncate")
        scorer.close()
        return scorer.rechecks[0].bias

    bias = tuple(map(float, range(len(LABELS))))
    widths = Widths(within=0.5, hypotheses=tuple(LABELS.hypotheses), bias=bias)
    write_recheck(Path(drafted.path), RECHECK_DRAFT, widths)
    np.testing.assert_array_equal(load(LABELS), bias)
    np.testing.assert_array_equal(load(LabelSet(names=LABELS.names[::-1])), bias[::-1])
    for names, differs in ((("sports", "world"), "business"), ((*LABELS.names, "health"), "health")):
        with pytest.raises(
            EngineError, match=rf"not for these classes and templates \('This text is about {differs}\.'"
        ):
            load(LabelSet(names=names))
    with pytest.raises(EngineError, match="has a draft not for --multi-label: make one"):
        load(LabelSet(names=LABELS.names, multi_label=True))
    write_recheck(Path(drafted.path), RECHECK_DRAFT, replace(widths, columns=(2, 0)))
    with pytest.raises(EngineError, match="has a draft for other --nli-classes: make one"):
        load(LABELS)
    write_recheck(Path(drafted.path), RECHECK_DRAFT, replace(widths, bias=bias[1:]))
    with pytest.raises(EngineError, match=r"recheck.json is damaged"):
        load(LABELS)


def test_texts_that_say_nothing_are_the_teachers_alone(drafted: NLITeacher) -> None:
    lengths = LengthSample.of(all_pairs(drafted, LABELS, TEXTS).lengths, max_length=drafted.max_length)
    scorer = load_scorer("torch", "draft", drafted, LABELS, Placement(), lengths=lengths, long_text="truncate")
    plain = load_scorer(
        *("torch", half_precision("torch", Placement()), drafted, LABELS, Placement()),
        lengths=lengths,
        long_text="truncate",
    )
    assert plain.by_teacher() is plain
    found, expected = scorer.by_teacher().score(TEXTS), plain.score(TEXTS)
    assert found.rechecked == 0
    np.testing.assert_array_equal(found.raw_entailment, expected.raw_entailment)


def test_a_store_that_a_draft_made_is_reused_for_its_own_classes_only() -> None:
    asked = {"teacher_fingerprint": "t", "nli_classes": None, "max_length": 64, "long_text": "truncate"}
    identity = asked | {"labels": LABELS.to_dict()}

    def check(precision: str, labels: LabelSet) -> None:
        engines = [{"engine": "openvino", "precision": precision, "rows": 8}]
        manifest = identity | {"normalization": NORMALIZATION, "folder": SOFT_LABELS, "engines": engines}
        store: Any = SimpleNamespace(manifest=manifest, root="old")
        check_reusable(store, identity | {"labels": labels.to_dict()})

    fewer = LabelSet(names=LABELS.names[:2])
    check("bf16", fewer)
    check("draft", LABELS)
    with pytest.raises(OutputError, match=r"--reuse old: .* a draft of the teacher made them, which decides between"):
        check("draft", fewer)


def test_flags_of_a_draft_that_make_no_sense_are_refused(
    teacher_of: Callable[..., str], shared_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "rows.txt"
    data.write_text("\n".join(TEXTS), encoding="utf-8")
    told = ["--data", str(data), "--label", "sports", "--label", "business", "--output", str(tmp_path / "out")]

    def refused(*argv: str) -> str:
        assert main(["compile", "--teacher", teacher_of("bert"), *told, *argv]) in (1, 2)
        return capsys.readouterr().err.splitlines()[-1]

    assert "--draft-steps is for a draft: give --draft 1 too" in refused("--draft-steps", "5")
    assert "--draft is 0: it must be 1 or more" in refused("--draft", "0")
    assert "--engine deepsparse has no draft" in refused("--draft", "1", "--engine", "deepsparse")
    assert "has 2 layers: --draft 2 must be fewer" in refused("--draft", "2")
    assert not (tmp_path / "out").exists()


def test_a_benchmark_shows_a_teacher_with_its_draft(drafted: NLITeacher) -> None:
    line = line_up(
        teacher=drafted.path,
        compiled=[drafted.path],
        students=[],
        labels=LABELS,
        nli_classes=None,
        engines=(),
        threads=1,
        recipe=False,
    )
    found = [one for one in line if one.precision == "draft"]
    assert {(one.kind, one.engine) for one in found} == {
        (kind, engine) for kind in ("teacher", "compiled") for engine in ("torch", "openvino", "native")
    }
    sizes = [(Path(drafted.path) / name).stat().st_size for name in ("model.safetensors", "draft/model.safetensors")]
    assert weights_mb(found[0]) == pytest.approx(sum(sizes) / 2**20)
