"""The DeepSparse engine: fp32 and int8 ONNX on x86-64 Linux, one compiled engine a (batch, length) shape.

DeepSparse 1.8 is the last real release. It compiles a static shape, ignores OMP_NUM_THREADS and takes every core
unless told, and may phone home on import unless told not to.

What the bundled teacher gains from zeros and int8, by DeepSparse's own profile of 16 x 64 tokens on two threads: the 36
linear layers go from 53.0 ms (dense fp32) to 13.4 ms (``bundled-sparse`` in int8), all else, attention, softmax, GELU
and norms, from 5.5 to 4.7 ms: 3.2 times in all.
"""

from __future__ import annotations

import functools
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from zsd.checkpoint import Checkpoint
from zsd.compile.compiled import INT8_ONNX
from zsd.compile.export import read_onnx
from zsd.compile.probes import stored_probes
from zsd.engines.base import FloatArray, IntArray, Placement
from zsd.engines.fixed_shapes import Shapes, affordable_buckets, bucket_lengths, least_shape
from zsd.engines.lanes import Lanes
from zsd.engines.model_file import dense_file, engine_fingerprint, integer_file
from zsd.errors import EngineError, in_one_line
from zsd.telemetry import no_telemetry

TOKEN_BUDGET = 1024
"""Padded tokens a call: more are no faster, and fill the last call of a unit with more repeats."""

BANNER = "DeepSparse, Copyright"


class _Compiled:
    """One shape of a model, ready to run."""

    def __init__(self, model: Any, names: list[str]) -> None:
        self.model = model
        self.names = names

    def __call__(self, inputs: Mapping[str, IntArray]) -> FloatArray:
        (out,) = self.model([np.ascontiguousarray(inputs[name]) for name in self.names])
        # The engine may hand out its own buffer: the next call would overwrite it.
        return np.array(out, dtype=np.float32)


class DeepSparseEngine:
    """A checkpoint exported to ONNX and run by DeepSparse.

    Args:
        checkpoint: what to run; exported and cached on first use.
        placement: must be a CPU; its threads become DeepSparse's cores.
        precision: ``fp32``, or ``int8`` of one that `zsd compile` made.

    Raises:
        EngineError: DeepSparse is not installed here, cannot run this model or finds other logits in it than torch, or
            the checkpoint has no int8 form.
        InputError: the checkpoint's weights cannot be loaded.
    """

    name = "deepsparse"
    pads = True

    def __init__(self, checkpoint: Checkpoint, placement: Placement, precision: str = "fp32") -> None:
        self.precision = precision
        self.threads = placement.threads
        self.lanes = Lanes(1)  # two streams of one core each were 2% faster (int8) and 7% slower (fp32)
        self.token_budget = TOKEN_BUDGET
        self.buckets: tuple[int, ...] | None = bucket_lengths(checkpoint.max_length)
        self._engine = _deepsparse_engine()
        self._file = integer_file(checkpoint, INT8_ONNX) if precision == "int8" else dense_file(checkpoint)
        self.fingerprint = engine_fingerprint(checkpoint, "deepsparse", precision)
        self._probes = stored_probes(checkpoint)
        self._shapes = Shapes(self._compile)
        # A model that DeepSparse cannot run is refused now, and not with the first rows.
        self._compile(*least_shape(bucket_lengths(checkpoint.max_length), self._probes))
        self.most_buckets = affordable_buckets(self._file, placement.threads)

    def logits(self, inputs: Mapping[str, IntArray]) -> FloatArray:
        """Run one batch, compiling its shape the first time.

        Raises:
            EngineError: DeepSparse refuses the model or the shape.
        """
        return self._shapes(inputs)

    def _compile(self, rows: int, length: int) -> _Compiled:
        with tempfile.TemporaryDirectory(prefix="zsd-") as scratch:
            file = Path(scratch) / "model.onnx"
            names = _write_static(self._file, file, rows, length)
            try:
                model = self._engine(str(file), batch_size=rows, num_cores=self.threads)
            except (RuntimeError, ValueError) as error:
                raise EngineError(f"DeepSparse cannot run shape {rows} x {length}: {in_one_line(error)}") from None
        compiled = _Compiled(model, names)
        self._probes.check(self.name, self.precision, compiled, rows=rows, length=length)
        return compiled

    def close(self) -> None:
        """Free every compiled shape."""
        self._shapes.clear()


def _write_static(source: Path, file: Path, rows: int, length: int) -> list[str]:
    """Copy a model, its inputs now [rows, length]; returns their names in the graph's own order.

    The engine's own ``input_shapes`` would write the shape into the source, under the eyes of whoever else reads it.

    Raises:
        EngineError: see `read_onnx`.
    """
    import onnx

    model = read_onnx(source)
    for value in model.graph.input:
        for axis, size in zip(value.type.tensor_type.shape.dim, (rows, length), strict=True):
            axis.dim_value = size
    onnx.save(model, str(file))
    return [value.name for value in model.graph.input]


def _deepsparse_engine() -> Any:
    try:
        with no_telemetry():
            from deepsparse import Engine
    except ImportError as error:
        raise EngineError(
            f"DeepSparse is not installed here ({error}): it needs Linux on x86-64 and Python 3.11; use --engine torch"
        ) from None
    _print_banner_aside(Engine)
    return Engine


@functools.cache
def _print_banner_aside(engine: Any) -> None:
    """Let the library print its banner, which it does with the first engine of a process, where nobody reads it.

    It writes to the file descriptor itself, so that is turned aside for the milliseconds in which one addition is
    compiled; whatever else was written meanwhile is passed on.
    """
    import onnx

    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["x", "x"], ["y"])],
        "add",
        [value("x", onnx.TensorProto.FLOAT, [1, 1])],
        [value("y", onnx.TensorProto.FLOAT, [1, 1])],
    )
    model = onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 14)])
    with tempfile.TemporaryDirectory(prefix="zsd-") as scratch, _without_lines(BANNER):
        file = Path(scratch) / "add.onnx"
        onnx.save(model, str(file))
        engine(str(file), batch_size=1, num_cores=1)


@contextmanager
def _without_lines(start: str) -> Iterator[None]:
    """Pass on what is written to standard error inside, but for the lines that begin with `start`."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as aside:
        original = os.dup(2)
        os.dup2(aside.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(original, 2)
            os.close(original)
            aside.seek(0)
            for line in aside:
                if not line.startswith(start.encode()):
                    os.write(2, line)
