"""The DeepSparse engine: fp32 ONNX on x86-64 Linux, one compiled engine a (batch, length) shape.

DeepSparse 1.8 is the last real release. It compiles a static shape, ignores OMP_NUM_THREADS and takes every core
unless told, and may phone home on import unless told not to.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from zsd.compile.export import exported_onnx
from zsd.engines.base import FloatArray, IntArray, Placement
from zsd.errors import EngineError
from zsd.teachers.nli import NLITeacher

TOKEN_BUDGET = 2048
"""Padded tokens a call."""

BUCKETS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Lengths that may be compiled; each is compiled when it is first needed."""


class DeepSparseEngine:
    """A teacher exported to ONNX and run by DeepSparse.

    Args:
        teacher: what to run; exported and cached on first use.
        placement: must be a CPU; its threads become DeepSparse's cores.
        precision: ``fp32``.

    Raises:
        EngineError: DeepSparse is not installed here, or cannot run this model.
    """

    name = "deepsparse"

    def __init__(self, teacher: NLITeacher, placement: Placement, precision: str = "fp32") -> None:
        if placement.device != "cpu":
            raise EngineError("DeepSparse runs on CPUs only: use --engine torch for GPU actors")
        if precision != "fp32":
            raise EngineError(f"the deepsparse engine has no precision {precision!r}: use fp32")
        self.precision = precision
        self.threads = placement.threads
        self.token_budget = TOKEN_BUDGET
        shorter = tuple(length for length in BUCKETS if length < teacher.max_length)
        self.buckets: tuple[int, ...] | None = (*shorter, teacher.max_length)
        self._file = str(exported_onnx(teacher))
        self._names = _onnx_inputs(self._file)
        self._compile = _deepsparse_engine()
        self._compiled: dict[tuple[int, int], Any] = {}

    def logits(self, inputs: Mapping[str, IntArray]) -> FloatArray:
        """Run one batch, compiling its shape the first time.

        Raises:
            EngineError: DeepSparse refuses the model or the shape.
        """
        rows, length = inputs["input_ids"].shape
        if (rows, length) not in self._compiled:
            shapes = [[rows, length]] * len(self._names)
            try:
                self._compiled[rows, length] = self._compile(
                    self._file, batch_size=rows, num_cores=self.threads, input_shapes=shapes
                )
            except RuntimeError as error:
                reason = " ".join(str(error).split())[:200]
                raise EngineError(f"DeepSparse cannot run shape {rows} x {length}: {reason}") from None
        arrays = [np.ascontiguousarray(inputs[name]) for name in self._names]
        (out,) = self._compiled[rows, length](arrays)
        # The engine may hand out its own buffer: the next call would overwrite it.
        return np.array(out, dtype=np.float32)

    def close(self) -> None:
        """Free every compiled shape."""
        self._compiled.clear()


def _onnx_inputs(file: str) -> list[str]:
    import onnx

    return [value.name for value in onnx.load(file, load_external_data=False).graph.input]


def _deepsparse_engine() -> Any:
    os.environ.setdefault("NM_DISABLE_ANALYTICS", "True")
    try:
        from deepsparse import Engine
    except ImportError as error:
        raise EngineError(
            f"DeepSparse is not installed here ({error}): it needs Linux on x86-64 and Python 3.11; use --engine torch"
        ) from None
    return Engine
