from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tests.families import FAMILIES
from zsd.batching import PairSet, pair_layout
from zsd.compile.export import exported_onnx
from zsd.compile.onnx_session import OnnxSession
from zsd.compile.quantize import FloatArray, byte_scale, matrix_products, quantize, quantize_weight
from zsd.compile.ranges import best_range, measure_ranges
from zsd.engines.deepsparse import _deepsparse_engine, _write_static
from zsd.teachers.nli import load_teacher

TEXTS = ["A goal in stoppage time!", "Shares fell after the central bank raised its rate.", "naïve café 日本", "x"]


def product(weight_IO: FloatArray, bias_O: FloatArray) -> onnx.ModelProto:
    """x [rows, I] @ W + b."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["xw"], name="p"), helper.make_node("Add", ["xw", "b"], ["logits"])],
        "product",
        [value("x", TensorProto.FLOAT, ["rows", weight_IO.shape[0]])],
        [value("logits", TensorProto.FLOAT, ["rows", weight_IO.shape[1]])],
        [numpy_helper.from_array(weight_IO, "w"), numpy_helper.from_array(bias_O, "b")],
    )
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 14)])


@given(seed=st.integers(0, 2**32 - 1), zero=st.integers(0, 255))
@settings(max_examples=30, deadline=None)
def test_a_product_of_numbers_that_bytes_hold_exactly_is_exact_wherever_zero_lies(seed: int, zero: int) -> None:
    rng = np.random.default_rng(seed)
    weight = (rng.integers(-127, 128, (8, 4)) * np.array([2.0, 0.5, 1.0, 0.125])).astype(np.float32)
    weight[0] = 127 * np.array([2.0, 0.5, 1.0, 0.125])
    bias = rng.normal(size=4).astype(np.float32)
    x = (rng.integers(-zero, 256 - zero, (5, 8)) * 0.25).astype(np.float32)
    source = product(weight, bias)
    made = quantize(source, {"x": (-zero * 0.25, (255 - zero) * 0.25)}, ["p"])
    (got,) = OnnxSession(made, threads=1).run({"x": x}, ["logits"])  # type: ignore[dict-item]
    np.testing.assert_allclose(got, x @ weight + bias, rtol=1e-5, atol=1e-4)


def test_each_output_column_has_a_scale_of_its_own_and_zeros_stay_zeros() -> None:
    rng = np.random.default_rng(0)
    weight = (rng.normal(size=(64, 3)) * np.array([1e-4, 1.0, 1e4])).astype(np.float32)
    weight[rng.random(weight.shape) < 0.8] = 0
    whole, scale = quantize_weight(weight)
    assert (whole[weight == 0] == 0).all()
    assert (np.abs(whole * scale - weight).max(axis=0) <= scale * 0.5001).all()


@given(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))
def test_zero_is_always_one_of_the_bytes(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    scale, zero = byte_scale((low, high))
    assert 0 <= zero <= 255
    assert (0 - float(zero)) * float(scale) <= min(low, 0) + float(scale)
    assert (255 - float(zero)) * float(scale) >= max(high, 0) - float(scale)


def test_a_range_gives_up_outliers_but_not_what_is_common() -> None:
    values = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
    plain = best_range(values, float(values.min()), float(values.max()))
    with_outlier = np.append(values, np.float32(40))
    _, high = best_range(with_outlier, float(values.min()), 40.0)
    assert 3 < plain[1] <= values.max()
    assert 3 < high < 40
    flat = np.linspace(-1, 1, 10_000, dtype=np.float32)
    assert best_range(flat, -1.0, 1.0) == (-1.0, 1.0)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_runs_in_int8_on_both_engines_with_about_the_same_logits(
    family: str, teacher_of: Callable[..., str], shared_cache: Path, tmp_path: Path
) -> None:
    teacher = load_teacher(teacher_of(family))
    file = exported_onnx(teacher)
    source = onnx.load(str(file))
    products = matrix_products(source)
    tensors = list(dict.fromkeys(name for one in products for name in one.activations))
    session = OnnxSession(source, threads=1, tensors=tensors)
    pairs = PairSet.build(
        teacher.tokenizer, pair_layout(teacher.tokenizer), TEXTS, ["It is so.", "No"], max_length=teacher.max_length
    )
    alone = [pairs.batch(np.array([p]), length=int(pairs.lengths[p])) for p in range(len(pairs))]
    ranges = measure_ranges(session, tensors, alone)
    assert sum(one.constant for one in products) >= 8
    made = quantize(source, ranges, [one.name for one in products])
    assert {node.op_type for node in made.graph.node} >= {"QuantizeLinear", "MatMulInteger"}
    inputs = pairs.batch(np.arange(len(pairs)), length=int(pairs.lengths.max()))
    fp32, int8 = session.logits(inputs), OnnxSession(made, threads=1).logits(inputs)
    spread = np.ptp(fp32)
    assert np.abs(int8 - fp32).max() < 0.5 * spread
    assert np.abs(int8 - fp32).max() > 0
    onnx.save(made, str(tmp_path / "int8.onnx"))
    static = tmp_path / "static.onnx"
    names = _write_static(tmp_path / "int8.onnx", static, *inputs["input_ids"].shape)
    model = _deepsparse_engine()(str(static), batch_size=len(pairs), num_cores=1)
    (sparse,) = model([np.ascontiguousarray(inputs[name]) for name in names])
    assert np.abs(sparse - int8).max() < 0.15 * spread


def test_with_no_product_chosen_the_logits_are_equal_to_the_bit(
    teacher_of: Callable[..., str], shared_cache: Path
) -> None:
    teacher = load_teacher(teacher_of("bert"))
    source = onnx.load(str(exported_onnx(teacher)))
    pairs = PairSet.build(
        teacher.tokenizer, pair_layout(teacher.tokenizer), TEXTS, ["It is so."], max_length=teacher.max_length
    )
    inputs = pairs.batch(np.arange(len(pairs)), length=int(pairs.lengths.max()))
    untouched = quantize(source, {}, [])
    np.testing.assert_array_equal(
        OnnxSession(untouched, threads=1).logits(inputs), OnnxSession(source, threads=1).logits(inputs)
    )


def test_a_tensor_that_three_products_read_is_quantized_once(
    teacher_of: Callable[..., str], shared_cache: Path
) -> None:
    source = onnx.load(str(exported_onnx(load_teacher(teacher_of("bert")))))
    products = matrix_products(source)
    spans = {name: (-1.0, 1.0) for one in products for name in one.activations}
    made = quantize(source, spans, [one.name for one in products])
    read = [node.input[0] for node in made.graph.node if node.op_type == "QuantizeLinear"]
    assert len(read) == len(set(read)) == len(spans)
    floats = {tensor.name for tensor in made.graph.initializer}
    assert not floats & {one.right for one in products if one.constant}
