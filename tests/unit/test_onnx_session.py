from __future__ import annotations

import numpy as np
import onnx
import pytest

from zsd.compile.onnx_session import OnnxSession
from zsd.errors import EngineError

MODEL = """
<ir_version: 8, opset_import: ["" : 14]>
g (int64[rows, length] input_ids, int64[rows] chosen) => (int64[rows, length] logits) <int64 one = {1}> {
    more = Add(input_ids, one)
    logits = Gather(more, chosen)
}
"""


def test_any_tensor_of_a_model_can_be_seen() -> None:
    session = OnnxSession(onnx.parser.parse_model(MODEL), threads=1, tensors=["more"])
    inputs = {"input_ids": np.array([[1, 2], [3, 4]]), "chosen": np.array([1, 0])}
    more, logits = session.run(inputs, ["more", "logits"])
    np.testing.assert_array_equal(more, [[2, 3], [4, 5]])
    np.testing.assert_array_equal(logits, [[4, 5], [2, 3]])


def test_a_model_that_fails_or_is_none_is_one_line() -> None:
    session = OnnxSession(onnx.parser.parse_model(MODEL), threads=1)
    with pytest.raises(EngineError, match=r"^ONNX Runtime cannot run this model: .*out of data bounds.*$") as caught:
        session.logits({"input_ids": np.array([[1, 2]]), "chosen": np.array([7])})
    assert "\n" not in str(caught.value)
    with pytest.raises(EngineError, match=r"^ONNX Runtime cannot run this model: .*$"):
        OnnxSession(onnx.ModelProto(), threads=1)
