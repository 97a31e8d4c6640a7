"""The DeepSparse engine: fp32 ONNX on x86-64 Linux, one compiled engine a (batch, length) shape.

DeepSparse 1.8 is the last real release. It compiles a static shape, ignores OMP_NUM_THREADS and takes every core
unless told, and may phone home on import unless told not to.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from zsd.compile.export import exported_onnx
from zsd.engines.base import FloatArray, IntArray, Placement
from zsd.errors import EngineError
from zsd.teachers.nli import NLITeacher

TOKEN_BUDGET = 1024
"""Padded tokens a call: more are no faster, and fill the last call of a unit with more repeats."""

STEPS = (4, 5, 6, 7)
"""Lengths that may be compiled are these times a power of two: at most a fifth of a call is padding, in news a tenth,
and a corpus rarely needs more than ten. Each is compiled when it is first needed, in a few seconds."""

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
    """A teacher exported to ONNX and run by DeepSparse.

    Args:
        teacher: what to run; exported and cached on first use.
        placement: must be a CPU; its threads become DeepSparse's cores.
        precision: ``fp32``.

    Raises:
        EngineError: DeepSparse is not installed here, or cannot run this model.
        TeacherError: the checkpoint's weights cannot be loaded.
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
        self.buckets: tuple[int, ...] | None = bucket_lengths(teacher.max_length)
        self._engine = _deepsparse_engine()
        self._file = exported_onnx(teacher, self.name, self._run_once)
        self._compiled: dict[tuple[int, int], _Compiled] = {}

    def logits(self, inputs: Mapping[str, IntArray]) -> FloatArray:
        """Run one batch, compiling its shape the first time.

        Raises:
            EngineError: DeepSparse refuses the model or the shape.
        """
        rows, length = inputs["input_ids"].shape
        if (rows, length) not in self._compiled:
            self._compiled[rows, length] = self._compile(self._file, rows, length)
        return self._compiled[rows, length](inputs)

    def _compile(self, file: Path, rows: int, length: int) -> _Compiled:
        names = _onnx_inputs(file)
        shapes = [[rows, length]] * len(names)
        try:
            model = self._engine(str(file), batch_size=rows, num_cores=self.threads, input_shapes=shapes)
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise EngineError(f"DeepSparse cannot run shape {rows} x {length}: {reason}") from None
        return _Compiled(model, names)

    def _run_once(self, file: Path, inputs: Mapping[str, IntArray]) -> FloatArray:
        rows, length = inputs["input_ids"].shape
        return self._compile(file, rows, length)(inputs)

    def close(self) -> None:
        """Free every compiled shape."""
        self._compiled.clear()


def bucket_lengths(max_length: int) -> tuple[int, ...]:
    """16, 20, 24, 28, 32, 40, ... up to the longest pair the model takes."""
    lengths = {step << power for power in range(2, max_length.bit_length()) for step in STEPS}
    return (*sorted(length for length in lengths if length < max_length), max_length)


def _onnx_inputs(file: Path) -> list[str]:
    """Input names in the graph's own order; one that the graph does not use is not among them."""
    import onnx

    return [value.name for value in onnx.load(str(file), load_external_data=False).graph.input]


def _deepsparse_engine() -> Any:
    os.environ.setdefault("NM_DISABLE_ANALYTICS", "True")
    try:
        from deepsparse import Engine
    except ImportError as error:
        raise EngineError(
            f"DeepSparse is not installed here ({error}): it needs Linux on x86-64 and Python 3.11; use --engine torch"
        ) from None
    _print_banner_aside(Engine)
    return Engine


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
