"""Models run by ONNX Runtime; those that are being compiled, with any tensor of their inside, at any length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from onnx import ModelProto, ValueInfoProto

from zsd.batching import FloatArray, IntArray
from zsd.errors import EngineError, in_one_line


def start_session(model: str | bytes, *, threads: int, name: str) -> Any:
    """A session of ONNX Runtime on the processor.

    Args:
        model: a file, or what is in it.
        threads: that a call computes with.
        name: of the model, for the error.

    Raises:
        EngineError: ONNX Runtime is not installed here, or cannot run this model.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError(f"ONNX Runtime is not installed here ({error}): pip install onnxruntime") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors: the warnings are about its own optimizer
    with errors_in_one_line(name):
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@contextmanager
def errors_in_one_line(name: str) -> Iterator[None]:
    """Make what ONNX Runtime raises an error of one line.

    Args:
        name: of the model.

    Raises:
        EngineError: ONNX Runtime raised something.
    """
    import onnxruntime.capi.onnxruntime_pybind11_state as state

    kinds = (
        *(state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf),
        *(state.NoSuchFile, state.NotImplemented, state.RuntimeException),
    )
    try:
        yield
    except kinds as error:
        raise EngineError(f"ONNX Runtime cannot run {name}: {in_one_line(error)}") from None


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
        if tensors:
            model = _with_outputs(model, tensors)
        self._session = start_session(model.SerializeToString(), threads=threads, name="this model")
        self._names = [value.name for value in self._session.get_inputs()]

    def run(self, inputs: Mapping[str, IntArray], tensors: Sequence[str]) -> list[FloatArray]:
        """Some tensors for named [B, L] inputs.

        Raises:
            EngineError: ONNX Runtime cannot run it.
        """
        with errors_in_one_line("this model"):
            found = self._session.run(list(tensors), {name: inputs[name] for name in self._names})
        return [np.asarray(array, dtype=np.float32) for array in found]

    def logits(self, inputs: Mapping[str, IntArray]) -> FloatArray:
        """[B, C] logits; see `run`."""
        (logits_BC,) = self.run(inputs, ["logits"])
        return logits_BC


def _with_outputs(model: ModelProto, tensors: Sequence[str]) -> ModelProto:
    """A copy of a model that gives some tensors of its inside, too."""
    shown = ModelProto()
    shown.CopyFrom(model)
    have = {value.name for value in shown.graph.output}
    shown.graph.output.extend(ValueInfoProto(name=name) for name in dict.fromkeys(tensors) if name not in have)
    return shown
