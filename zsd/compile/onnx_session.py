"""A model run by ONNX Runtime while it is being compiled: any tensor of it, any length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, ValueInfoProto

from zsd.batching import FloatArray, IntArray
from zsd.errors import EngineError


class OnnxSession:
    """A model in ONNX Runtime.

    Args:
        model: what to run.
        threads: processor threads.
        tensors: of the graph's inside that `run` may be asked for.

    Raises:
        EngineError: ONNX Runtime is not installed here, or cannot run this model.
    """

    def __init__(self, model: ModelProto, *, threads: int, tensors: Sequence[str] = ()) -> None:
        try:
            import onnxruntime
            import onnxruntime.capi.onnxruntime_pybind11_state as state
        except ImportError as error:
            raise EngineError(
                f"ONNX Runtime is not installed here ({error}), and int8 needs it: pip install onnxruntime"
            ) from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3  # errors: the warnings are about its own optimizer
        if tensors:
            model = _with_outputs(model, tensors)
        refused = (state.Fail, state.InvalidGraph, state.NotImplemented, state.InvalidArgument)
        try:
            self._session: Any = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except refused as error:
            reason = " ".join(str(error).split())[:200]
            raise EngineError(f"ONNX Runtime cannot run this model: {reason}") from None
        self._names = [value.name for value in self._session.get_inputs()]

    def run(self, inputs: Mapping[str, IntArray], tensors: Sequence[str]) -> list[FloatArray]:
        """Some tensors for named [B, L] inputs."""
        found = self._session.run(list(tensors), {name: inputs[name] for name in self._names})
        return [np.asarray(array, dtype=np.float32) for array in found]

    def logits(self, inputs: Mapping[str, IntArray]) -> FloatArray:
        """[B, C] logits."""
        (logits_BC,) = self.run(inputs, ["logits"])
        return logits_BC


def _with_outputs(model: ModelProto, tensors: Sequence[str]) -> ModelProto:
    """A copy of a model that gives some tensors of its inside, too."""
    shown = ModelProto()
    shown.CopyFrom(model)
    have = {value.name for value in shown.graph.output}
    shown.graph.output.extend(ValueInfoProto(name=name) for name in dict.fromkeys(tensors) if name not in have)
    return shown
