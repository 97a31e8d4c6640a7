"""The ONNX Runtime engine: fp32 and int8 on CPUs, any length.

One session without threads of its own, called from as many threads as the placement has (`zsd.engines.lanes`), which
share its weights. bf16 and fp16 are not offered: its CPU kernels have neither for a transformer's operators.

Legend: B pairs in a batch, L tokens, C NLI classes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from zsd.checkpoint import Checkpoint
from zsd.compile.compiled import INT8_ONNX
from zsd.compile.onnx_session import errors_in_one_line, start_session
from zsd.compile.probes import stored_probes
from zsd.engines.base import FloatArray, IntArray, Placement
from zsd.engines.fixed_shapes import UNLIMITED
from zsd.engines.lanes import Lanes
from zsd.engines.model_file import engine_fingerprint, integer_file, narrow_file

TOKEN_BUDGET = 1024
"""Padded tokens a call: 2048 were a seventh slower (they leave the core's own cache)."""


class ONNXRuntimeEngine:
    """A checkpoint's ONNX export, or the int8 form that `zsd compile` made, run by ONNX Runtime.

    Args:
        checkpoint: what to run.
        placement: a CPU and how many threads of it.
        precision: ``fp32`` or ``int8``.

    Raises:
        EngineError: ONNX Runtime is not installed here, cannot run this model, finds other logits than torch, or the
            checkpoint has no int8 form.
        InputError: the checkpoint's weights cannot be loaded.
    """

    name = "onnxruntime"
    buckets: tuple[int, ...] | None = None
    most_buckets = UNLIMITED
    pads = True

    def __init__(self, checkpoint: Checkpoint, placement: Placement, precision: str = "fp32") -> None:
        self.precision = precision
        self.threads = placement.threads
        self.lanes = Lanes(placement.threads)
        self.token_budget = TOKEN_BUDGET
        self.fingerprint = engine_fingerprint(checkpoint, "onnxruntime", precision)
        self._file = str(integer_file(checkpoint, INT8_ONNX) if precision == "int8" else narrow_file(checkpoint))
        self._session = start_session(self._file, threads=1, name=self._file)
        self._names = [value.name for value in self._session.get_inputs()]
        probes = stored_probes(checkpoint)
        probes.check(self.name, precision, self.logits, rows=4, length=int(probes.lengths[:4].max()))

    def logits(self, inputs: Mapping[str, IntArray]) -> FloatArray:
        """Run one batch.

        Raises:
            EngineError: ONNX Runtime cannot run it.
        """
        with errors_in_one_line(self._file):
            (logits_BC,) = self._session.run(None, {name: inputs[name] for name in self._names})
        return np.asarray(logits_BC, dtype=np.float32)

    def close(self) -> None:
        """Free the model and end the threads."""
        self.lanes.close()
        del self._session
