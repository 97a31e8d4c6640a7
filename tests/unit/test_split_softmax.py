from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.families import FAMILIES, LINES
from zsd.compile.export import exported_onnx
from zsd.compile.openvino_core import openvino_core
from zsd.compile.split_softmax import split_softmax
from zsd.engines import load_engine, openvino
from zsd.engines.base import Placement
from zsd.labels import LabelSet
from zsd.teachers.nli import load_teacher
from zsd.teachers.scoring import Scorer


def softmaxes(model: Any) -> int:
    return sum(node.get_type_name() == "Softmax" for node in model.get_ordered_ops())


@pytest.mark.parametrize("family", FAMILIES)
def test_every_attention_is_split_and_the_logits_are_the_same(
    family: str, teacher_of: Callable[..., str], shared_cache: Path
) -> None:
    teacher = load_teacher(teacher_of(family), max_length=64)
    core = openvino_core()
    model = core.read_model(str(exported_onnx(teacher)))
    inputs = teacher.sequences(LINES, max_length=64).batch(np.arange(len(LINES)), length=64)
    model.reshape({port.any_name: [len(LINES), 64] for port in model.inputs})
    given = {port.any_name: inputs[port.any_name] for port in model.inputs}
    hint = {"INFERENCE_PRECISION_HINT": "f32"}
    before = core.compile_model(model, "CPU", hint)(given)[0].copy()
    there = softmaxes(model)
    assert there == teacher.config.num_hidden_layers
    split = split_softmax(model)
    # Those of DeBERTa and ModernBERT are read by a mask that comes after them.
    assert split == (0 if family in ("deberta-v2", "modernbert") else there)
    assert softmaxes(model) == there - split
    np.testing.assert_allclose(core.compile_model(model, "CPU", hint)(given)[0], before, atol=1e-5)


def test_a_softmax_that_something_else_reads_stays() -> None:
    from openvino import Model, Type
    from openvino import opset13 as ops

    scores = ops.parameter([2, 4, 4], Type.f32, name="scores")
    values = ops.parameter([2, 4, 3], Type.f32, name="values")
    both = ops.softmax(scores, 2)
    across = ops.softmax(scores, 1)
    outputs = [ops.result(ops.matmul(both, values, False, False)), ops.result(both)]
    outputs.append(ops.result(ops.matmul(across, values, False, False)))
    model = Model(outputs, [scores, values], "softmaxes")
    assert split_softmax(model) == 0
    assert softmaxes(model) == 2


def test_the_engine_splits_short_shapes_where_it_pays_and_scores_the_same(
    teacher_of: Callable[..., str], shared_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[int] = []

    def counted(model: Any) -> int:
        compiled.append(split_softmax(model))
        return compiled[-1]

    monkeypatch.setattr(openvino, "split_softmax", counted)
    monkeypatch.setattr(openvino, "precision_hint", lambda core, precision: "f32")
    monkeypatch.setattr(openvino, "has_bf16", lambda core: True)
    teacher = load_teacher(teacher_of("bert"), max_length=64)
    labels, found = LabelSet(names=("so", "no")), []
    for amx in (False, True):
        monkeypatch.setattr(openvino, "has_amx", lambda amx=amx: amx)
        engine = load_engine("openvino", teacher, Placement(), "bf16")
        for length in (48, 64):
            found.append(Scorer(teacher, engine, labels, buckets=(length,)).score(LINES).entailment)
        assert bool(compiled) == amx
    for other in found[1:]:
        np.testing.assert_allclose(found[0], other, atol=1e-5)
    layers = teacher.config.num_hidden_layers
    assert compiled == [layers, layers], "the engine's least shape and that of 48 tokens, but not that of 64"


def test_a_shape_that_comes_out_wrong_when_it_is_split_runs_as_exported(
    teacher_of: Callable[..., str], shared_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from openvino import opset13 as ops

    spoiled: list[Any] = []

    def spoil(model: Any) -> int:
        result = model.get_results()[0]
        wrong = ops.multiply(result.input_value(0), ops.constant(np.float32(-3.0)))
        result.input(0).replace_source_output(wrong.output(0))
        spoiled.append(model)
        return 1

    monkeypatch.setattr(openvino, "split_softmax", spoil)
    monkeypatch.setattr(openvino, "precision_hint", lambda core, precision: "f32")
    monkeypatch.setattr(openvino, "has_bf16", lambda core: True)
    monkeypatch.setattr(openvino, "has_amx", lambda: True)
    teacher = load_teacher(teacher_of("bert"), max_length=64)
    labels = LabelSet(names=("so", "no"))
    exact = Scorer(teacher, load_engine("torch", teacher, Placement()), labels).score(LINES).entailment
    engine = load_engine("openvino", teacher, Placement(), "bf16")
    np.testing.assert_allclose(Scorer(teacher, engine, labels, buckets=(48,)).score(LINES).entailment, exact, atol=1e-4)
    assert len(spoiled) == 2
