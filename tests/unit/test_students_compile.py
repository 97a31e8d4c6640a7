"""An encoder student is compiled as a teacher is, on its own texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.families import tiny_checkpoint
from zsd.compile_config import CompileConfig
from zsd.errors import ConfigError, OutputError
from zsd.students import load_student
from zsd.students.checkpoint import save_student
from zsd.students.compile_job import compile_student
from zsd.students.layers import build_student
from zsd.students.spec import parse_student

NAMES = ("sports", 'naïve "café"')
WORDS = ("goal", "bank", "rain", "match", "shares", "new", "the", "of", "moon", "café")


@pytest.fixture(scope="module", params=["layers:2", "joint"])
def student(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that reads the text alone, and one that reads the class names before it."""
    names = dict(enumerate(NAMES))
    settings: dict[str, Any] = {"id2label": names, "label2id": {name: k for k, name in names.items()}}
    folder = tmp_path_factory.mktemp("student")
    directory = tiny_checkpoint(folder, "bert", num_labels=2, initializer_range=0.3, **settings)
    if request.param == "joint":
        spec, source = parse_student("joint"), directory
        model, tokenizer = build_student(spec, teacher=source, names=NAMES, multi_label=False, seed=0)
        torch.nn.init.normal_(model.classifier.weight, std=0.3)
        directory = folder / "joint"
        save_student(model, tokenizer, directory)
    (directory / "zsd.json").write_text(json.dumps({"student": request.param}))
    return directory


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    rng = np.random.default_rng(0)
    lines = [" ".join(rng.choice(WORDS, rng.integers(2, 12))) + f" {n}" for n in range(64)]
    file = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    file.write_text("\n".join(lines), encoding="utf-8")
    return str(file)


def config(student: Path, corpus: str, output: Path, **changes: Any) -> CompileConfig:
    asked: dict[str, Any] = {"calibration_rows": 64, "min_agreement": 0.9, "engine": ("onnxruntime",)}
    return CompileConfig(student=str(student), data=(corpus,), output=str(output), **(asked | changes))


def test_the_int8_form_is_served_and_agrees(student: Path, corpus: str, tmp_path: Path, shared_cache: Path) -> None:
    output = tmp_path / "compiled"
    figures = compile_student(config(student, corpus, output))
    assert json.loads((output / "compile.json").read_text(encoding="utf-8")) == figures
    forms = {(one["engine"], one["precision"]): one for one in figures["forms"]}
    assert forms.keys() == {("torch", "fp32"), ("onnxruntime", "fp32"), ("onnxruntime", "int8")}
    assert forms["onnxruntime", "fp32"]["agreement"] == forms["torch", "fp32"]["agreement"] == 1
    integer = load_student(output, engine="onnxruntime", precision="int8", threads=1)
    texts = ["goal match of the moon", "new café", "bank shares"]
    off = np.abs(integer.predict(texts) - load_student(student, threads=1).predict(texts))
    assert integer.names == NAMES and 0 < off.max() < 0.2
    assert (output / "zsd.json").read_bytes() == (student / "zsd.json").read_bytes()
    assert compile_student(config(student, corpus, output)) == figures, "done once, it is not done again"
    with pytest.raises(OutputError, match="min_agreement"):
        compile_student(config(student, corpus, output, min_agreement=0.5))


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"data": ()}, "--data"), ({"label": ("a", "b")}, "--labels"), ({"int8": False}, "--int8")],
)
def test_what_is_not_for_students_is_refused(student: Path, corpus: str, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        CompileConfig(**({"student": str(student), "data": (corpus,), "output": "o"} | changes))


def test_a_student_that_is_no_encoder_is_refused(corpus: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "zsd-linear"}')
    with pytest.raises(ConfigError, match="a linear student has no forms"):
        compile_student(config(tmp_path, corpus, tmp_path / "o"))
