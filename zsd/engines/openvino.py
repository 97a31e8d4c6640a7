"""The OpenVINO engine: fp32, bf16 and int8 on CPUs, one compiled model a (rows, length) shape.

Static shapes only: with dynamic ones OpenVINO 2026.4 gave wrong logits on one batch of fifty (32 x 208, on a processor
with AMX), and they are 4 to 10% slower besides. Each shape is held to torch's own logits when it is compiled.

One thread a stream, a stream a thread (`zsd.engines.lanes`), which share the weights of a shape. Shapes share the
weights that need no packing (the embeddings) and hold the others anew.

Legend: B pairs in a batch, L tokens, C NLI classes.
"""

from __future__ import annotations

import queue
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zsd.checkpoint import Checkpoint
from zsd.compile.compiled import INT8_OPENVINO
from zsd.compile.openvino_core import has_bf16, openvino_core, precision_hint
from zsd.compile.probes import stored_probes
from zsd.compile.split_softmax import LONGEST, split_softmax
from zsd.engines.base import FloatArray, IntArray, Placement
from zsd.engines.fixed_shapes import Shapes, affordable_buckets, bucket_lengths, least_shape
from zsd.engines.lanes import Lanes
from zsd.engines.model_file import engine_fingerprint, integer_file, narrow_file
from zsd.errors import EngineError, in_one_line
from zsd.machine import has_amx

TOKEN_BUDGET = 1024
"""Padded tokens a call. On two threads 512 did 5% less, and 2048 as much less: they fill the last calls of a unit with
more repeats. On many threads a unit of a large teacher may have fewer batches than there are lanes."""


class _Compiled:
    """One shape of a model with a request for each lane that may run it at the same time."""

    def __init__(self, model: Any, lanes: int) -> None:
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(lanes):
            self._requests.put(model.create_infer_request())
        self._names = [name for port in model.inputs for name in port.names]

    def __call__(self, inputs: Mapping[str, IntArray]) -> FloatArray:
        request = self._requests.get()
        try:
            request.infer({name: inputs[name] for name in self._names}, share_inputs=True)
            # A copy: the request's next call writes into the same buffer.
            return np.array(request.get_output_tensor(0).data, dtype=np.float32)
        finally:
            self._requests.put(request)


class OpenVINOEngine:
    """A checkpoint's ONNX export, or the int8 form that `zsd compile` made, run by OpenVINO.

    Args:
        checkpoint: what to run.
        placement: a CPU and how many threads of it.
        precision: ``fp32``, ``bf16``, or ``int8`` (what is not int8 then computes in bf16 where the processor can).

    Raises:
        EngineError: OpenVINO is not installed here, the processor has no bf16, the checkpoint has no int8 form, or
            OpenVINO finds other logits than torch.
        InputError: the checkpoint's weights cannot be loaded.
    """

    name = "openvino"
    pads = True

    def __init__(self, checkpoint: Checkpoint, placement: Placement, precision: str = "fp32") -> None:
        self._core = openvino_core()
        if precision == "bf16" and not has_bf16(self._core):
            raise EngineError("this processor has no bf16 instructions: use --precision fp32 or int8")
        self.precision = precision
        self.threads = placement.threads
        self.lanes = Lanes(placement.threads)
        self.token_budget = TOKEN_BUDGET
        self.buckets: tuple[int, ...] | None = bucket_lengths(checkpoint.max_length)
        self._splits = precision != "fp32" and has_amx()
        self.fingerprint = engine_fingerprint(checkpoint, "openvino", precision) + self._splits * ", split softmax"
        file = integer_file(checkpoint, INT8_OPENVINO) if precision == "int8" else narrow_file(checkpoint)
        self._source = self._read(str(file))
        self.most_buckets = affordable_buckets(_weights(file), placement.threads)
        self._settings = {
            "INFERENCE_PRECISION_HINT": precision_hint(self._core, precision),
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": self.threads,
            # Several actors on a node would all be pinned to its first cores.
            "ENABLE_CPU_PINNING": False,
        }
        self._probes = stored_probes(checkpoint)
        self._shapes = Shapes(self._compile)
        # A model that OpenVINO cannot run is refused now, and not with the first rows.
        self._compile(*least_shape(bucket_lengths(checkpoint.max_length), self._probes))

    def logits(self, inputs: Mapping[str, IntArray]) -> FloatArray:
        """Run one batch, compiling its shape the first time.

        Raises:
            EngineError: OpenVINO refuses the shape, or finds other logits in it than torch.
        """
        return self._shapes(inputs)

    def _compile(self, rows: int, length: int) -> _Compiled:
        if self._splits and length <= LONGEST:
            try:
                return self._compile_as(rows, length, split=True)
            except EngineError:
                pass  # as exported, then: of a tiny model (heads of 8) OpenVINO 2026.4 got one shape of this form wrong
        return self._compile_as(rows, length, split=False)

    def _compile_as(self, rows: int, length: int, *, split: bool) -> _Compiled:
        try:
            model = self._source.clone()
            model.reshape({port.any_name: [rows, length] for port in model.inputs})
            if split:
                split_softmax(model)
            compiled = _Compiled(self._core.compile_model(model, "CPU", self._settings), self.threads)
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot run shape {rows} x {length}: {in_one_line(error)}") from None
        self._probes.check(self.name, self.precision, compiled, rows=rows, length=length)
        return compiled

    def _read(self, file: str) -> Any:
        try:
            return self._core.read_model(file)
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot read {file}: {in_one_line(error)}") from None

    def close(self) -> None:
        """Free every compiled shape and the weights."""
        self.lanes.close()
        self._shapes.clear()
        del self._source


def _weights(file: Path) -> Path:
    """Of an IR, which is two files, the one that is large."""
    return file.with_suffix(".bin") if file.suffix == ".xml" else file
