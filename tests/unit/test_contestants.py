"""How each contestant classifies: whatever the way, the teacher's probabilities are the same."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.families import tiny_teacher
from zsd.benchmark.contestants import (
    PART_PAIRS,
    RECIPE_LENGTH,
    Contestant,
    Question,
    make_contestant,
    recipe_length,
)
from zsd.benchmark.rows import weights_mb
from zsd.benchmark.timing import FloatArray
from zsd.benchmark.workload import pipeline_waste, sequence_lengths
from zsd.buckets import LengthSample
from zsd.compile.compiled import INT8_ONNX, INT8_OPENVINO
from zsd.labels import LabelSet
from zsd.teachers.nli import load_teacher

TEXTS = ("A goal in stoppage time!", "Shares fell after the central bank raised its rate.", "naïve café – 42% 日本")
NAMES = ("sports", "business", "that one")
LABELS = LabelSet(names=NAMES, template="This text is about {}.")
MULTI = LabelSet(names=NAMES, template="This text is about {}.", multi_label=True)
SEVERAL = replace(LABELS, more_templates=("{}", "It is {}."))


def contestant(model: str, kind: str, engine: str = "torch", labels: LabelSet = LABELS) -> Contestant:
    made = Contestant(
        name=kind, kind=kind, engine=engine, precision="fp32", model=model, labels=labels, nli_classes=None, threads=1
    )
    lengths = LengthSample.of(sequence_lengths(made, TEXTS).reshape(-1), max_length=load_teacher(model).max_length)
    return replace(made, lengths=lengths)


def classify(one: Contestant, texts: tuple[str, ...] = TEXTS) -> tuple[FloatArray, float]:
    _, answer = make_contestant(one)
    measurement = answer(Question(texts=texts, least_seconds=0.0, most_seconds=float("inf")))
    return measurement.probs, measurement.padding_waste


@pytest.mark.usefixtures("shared_cache")
@pytest.mark.parametrize("labels", [LABELS, MULTI, SEVERAL], ids=["single", "multi", "several templates"])
def test_the_old_recipe_and_the_pipeline_say_what_the_teacher_says(
    teacher_of: Callable[..., str], labels: LabelSet
) -> None:
    model = teacher_of("bert")
    expected_NK, _ = classify(contestant(model, "teacher", labels=labels))
    recipe_NK, waste = classify(contestant(model, "recipe", "deepsparse", labels=labels))
    pipeline_NK, _ = classify(contestant(model, "pipeline", labels=labels))
    np.testing.assert_allclose(recipe_NK, expected_NK, atol=1e-4)
    np.testing.assert_allclose(pipeline_NK, expected_NK, atol=1e-4)
    lengths_NK = sequence_lengths(contestant(model, "recipe", labels=labels), TEXTS)
    assert waste == pytest.approx(1 - lengths_NK.mean() / 64), "all is padded to the limit of this tiny model"


def test_the_old_recipe_pads_to_its_own_length_or_the_models_limit() -> None:
    assert recipe_length(512) == RECIPE_LENGTH == 128
    assert recipe_length(64) == 64


@pytest.mark.usefixtures("shared_cache")
def test_the_old_recipe_cuts_the_text_and_never_the_hypothesis(teacher_of: Callable[..., str]) -> None:
    model = teacher_of("bert")
    long = ("goal " * 300,)
    cut_NK, waste = classify(contestant(model, "recipe", "deepsparse"), long)
    expected_NK, _ = classify(contestant(model, "teacher"), long)
    assert waste == 0
    np.testing.assert_allclose(cut_NK, expected_NK, atol=1e-4)


@pytest.mark.usefixtures("shared_cache")
def test_the_old_recipe_reads_which_class_is_entailment(tmp_path: Path) -> None:
    model = str(tiny_teacher(tmp_path, "bert", classes=("contradiction", "neutral", "entailment")))
    expected_NK, _ = classify(contestant(model, "teacher"))
    recipe_NK, _ = classify(contestant(model, "recipe", "deepsparse"))
    np.testing.assert_allclose(recipe_NK, expected_NK, atol=1e-4)


def test_loading_tells_what_it_took(teacher_of: Callable[..., str]) -> None:
    about, _ = make_contestant(contestant(teacher_of("bert"), "teacher"))
    assert about["load_seconds"] >= 0
    assert about["peak_memory_mb"] > 10


def test_parts_hold_as_many_rows_as_their_pairs_allow_and_at_least_one(teacher_of: Callable[..., str]) -> None:
    model = teacher_of("bert")
    many = LabelSet(names=tuple(f"class {k}" for k in range(2000)))
    assert contestant(model, "teacher").part_rows == PART_PAIRS // 3
    assert replace(contestant(model, "teacher"), labels=many).part_rows == 1
    assert replace(contestant(model, "pipeline"), labels=many).part_rows == 1


def test_lengths_are_those_of_the_pairs_and_the_pipelines_waste_is_that_of_its_batches(
    teacher_of: Callable[..., str],
) -> None:
    model = teacher_of("bert")
    lengths_NK = sequence_lengths(contestant(model, "teacher"), TEXTS)
    tokenizer = load_teacher(model).tokenizer
    expected = [[len(tokenizer(text, hypothesis)["input_ids"]) for hypothesis in LABELS.hypotheses] for text in TEXTS]
    assert lengths_NK.tolist() == expected
    two_batches_NK = np.array([[10] * 16 + [4] * 16])
    assert pipeline_waste(two_batches_NK) == 0
    assert pipeline_waste(np.array([[10] * 8 + [5] * 8])) == pytest.approx(1 - 120 / 160)


def test_the_weights_are_those_of_the_form_that_runs(teacher_of: Callable[..., str], tmp_path: Path) -> None:
    model = tmp_path / "form"
    shutil.copytree(teacher_of("bert"), model)
    stored = (model / "model.safetensors").stat().st_size / 2**20
    for name, size in ((INT8_OPENVINO, 3), (INT8_OPENVINO.replace("xml", "bin"), 2**20), (INT8_ONNX, 2**19)):
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_bytes(bytes(size))
    one = replace(contestant(str(model), "teacher"), engine="openvino")
    assert weights_mb(one) == stored
    assert weights_mb(replace(one, precision="int8")) == pytest.approx(1, abs=1e-4)
    assert weights_mb(replace(one, precision="int8", engine="deepsparse")) == 0.5
    student = replace(one, kind="student", precision="int8", engine="onnxruntime")
    assert (weights_mb(replace(student, precision="bf16")), weights_mb(student)) == (stored, 0.5)
