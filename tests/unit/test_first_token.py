"""Work on tokens that nobody reads is left out of an export, and the logits stay what they were."""

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest

from tests.families import FAMILIES
from zsd.batching import FloatArray, IntArray
from zsd.compile.export import exported_onnx
from zsd.compile.first_token import narrow_to_first_token
from zsd.teachers.nli import load_teacher

TEXTS = ["Shares fell after the central bank raised its rate.", "x", "naïve café 日本", "a b c"]
NARROWED = ("bert", "roberta", "electra", "distilbert")


def _logits(model: onnx.ModelProto, inputs: dict[str, IntArray]) -> FloatArray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (logits_BC,) = session.run(None, {value.name: inputs[value.name] for value in session.get_inputs()})
    found: FloatArray = logits_BC
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_the_logits_of_every_family_stay(family: str, teacher_of: Callable[..., str]) -> None:
    teacher = load_teacher(teacher_of(family))
    whole = onnx.load(str(exported_onnx(teacher)))
    narrowed = narrow_to_first_token(whole)
    onnx.checker.check_model(narrowed)
    more = len(narrowed.graph.node) - len(whole.graph.node)
    assert more == 2 * (family in NARROWED), "the last layer's input and its mask are cut, each once"
    sequences = teacher.sequences(TEXTS, max_length=64)
    for rows, longer in ((4, 0), (1, 0), (3, 9)):
        inputs = sequences.batch(np.arange(rows), length=int(sequences.lengths[:rows].max()) + longer)
        np.testing.assert_allclose(_logits(narrowed, inputs), _logits(whole, inputs), atol=1e-5)


def test_a_position_that_is_not_the_first_is_left_alone() -> None:
    graph = onnx.parser.parse_model(
        """
        <ir_version: 8, opset_import: ["" : 14]>
        g (float[B, L, 4] x) => (float[B, 4] logits) <int64 second = {1}> {
            y = Tanh(x)
            logits = Gather <axis: int = 1> (y, second)
        }
        """
    )
    assert narrow_to_first_token(graph).graph.node == graph.graph.node


def test_what_somebody_else_needs_whole_is_computed_whole() -> None:
    graph = onnx.parser.parse_model(
        """
        <ir_version: 8, opset_import: ["" : 14]>
        g (float[B, L, 4] x) => (float[B, 4] logits, float[B, L, 4] z) <int64 first = {0}> {
            y = Tanh(x)
            z = Relu(y)
            w = Sigmoid(y)
            logits = Gather <axis: int = 1> (w, first)
        }
        """
    )
    kinds = [node.op_type for node in narrow_to_first_token(graph).graph.node]
    assert kinds == ["Tanh", "Relu", "Gather", "Sigmoid", "Gather"]


def test_a_square_that_is_multiplied_with_itself_is_needed_whole() -> None:
    graph = onnx.parser.parse_model(
        """
        <ir_version: 8, opset_import: ["" : 14]>
        g (float[B, L, L] x) => (float[B, L] logits) <int64 first = {0}> {
            y = Tanh(x)
            z = MatMul(y, y)
            logits = Gather <axis: int = 1> (z, first)
        }
        """
    )
    assert narrow_to_first_token(graph).graph.node == graph.graph.node
