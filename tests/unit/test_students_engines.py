"""An encoder student says the same on every engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from transformers import pipeline

from tests.families import LINES, tiny_checkpoint
from zsd.engines.registry import combinations
from zsd.errors import ConfigError, EngineError, StudentError
from zsd.students import load_student
from zsd.teachers.nli import model_max_length

NAMES = ["world", "sports/soccer", 'naïve "café"']
EXACT = [name for name, precision in combinations("cpu") if precision == "fp32"]
FAMILIES_TRIED = ("bert", "roberta")
# What DeepSparse compiles takes seconds a shape, and it is tried with teachers of all families.
PAIRS = [(engine, family) for engine in EXACT for family in FAMILIES_TRIED[: 1 if engine == "deepsparse" else 2]]
TEXTS = [*LINES, "x", "", "long " * 700, "日本 " * 40]


@pytest.fixture(scope="module")
def student_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A tiny student of a family, made once."""
    made: dict[str, Path] = {}

    def make(family: str) -> Path:
        if family not in made:
            multi_label = family == "roberta"
            made[family] = tiny_checkpoint(
                tmp_path_factory.mktemp(family),
                family,
                id2label=dict(enumerate(NAMES)),
                label2id={name: k for k, name in enumerate(NAMES)},
                problem_type="multi_label_classification" if multi_label else "single_label_classification",
                initializer_range=0.5,
            )
        return made[family]

    return make


@pytest.mark.parametrize(("engine", "family"), PAIRS)
def test_every_engine_gives_the_probabilities_of_transformers(
    engine: str, family: str, student_of: Callable[[str], Path], shared_cache: Path
) -> None:
    directory = student_of(family)
    student = load_student(directory, engine=engine, threads=2)
    found = student.predict(TEXTS)
    assert student.names == tuple(NAMES) and student.multi_label == (family == "roberta")
    np.testing.assert_allclose(found, student.predict(TEXTS[::-1])[::-1], atol=1e-4)
    student.close()
    classify = pipeline("text-classification", model=str(directory), top_k=None)
    limit = model_max_length(classify.tokenizer, classify.model.config)
    for text, row in zip(TEXTS, found, strict=True):
        known = {one["label"]: one["score"] for one in classify([text], truncation=True, max_length=limit)[0]}
        np.testing.assert_allclose(row, [known[name] for name in NAMES], atol=1e-4, err_msg=text[:20])


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_bf16_is_near(engine: str, student_of: Callable[[str], Path], shared_cache: Path) -> None:
    exact = load_student(student_of("bert"), threads=1).predict(TEXTS)
    try:
        student = load_student(student_of("bert"), engine=engine, precision="bf16", threads=1)
    except EngineError as error:
        assert "bf16" in str(error)  # a processor without it refuses, and says so
        return
    np.testing.assert_allclose(student.predict(TEXTS), exact, atol=0.1)


def test_what_was_cut_is_counted(student_of: Callable[[str], Path]) -> None:
    answer = load_student(student_of("bert"), threads=1).answer(TEXTS)
    assert answer.truncated == 1 and answer.tokens > 512 and 0 <= answer.padding_waste < 1
    assert load_student(student_of("bert"), threads=1).answer([]).logits.shape == (0, 3)


def test_a_missing_int8_form_is_told(student_of: Callable[[str], Path], shared_cache: Path) -> None:
    with pytest.raises(EngineError, match="int8"):
        load_student(student_of("bert"), engine="onnxruntime", precision="int8")
    with pytest.raises(ConfigError, match="there is no engine 'abacus'"):
        load_student(student_of("bert"), engine="abacus")


def test_a_checkpoint_without_an_output_layer_is_no_student(tmp_path: Path) -> None:
    directory = tiny_checkpoint(tmp_path, "bert")
    from safetensors.torch import load_file, save_file

    weights = load_file(directory / "model.safetensors")
    save_file({name: w for name, w in weights.items() if "classifier" not in name}, directory / "model.safetensors")
    with pytest.raises(StudentError, match="classifier"):
        load_student(directory)
