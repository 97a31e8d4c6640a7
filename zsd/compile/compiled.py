"""A compiled checkpoint: what `zsd compile` puts beside its own files."""

from __future__ import annotations

from pathlib import Path

from zsd.assets import BUNDLED_SPARSE_TEACHER
from zsd.checkpoint import Checkpoint
from zsd.teachers.nli import NLITeacher

FP32_ONNX = "onnx/fp32.onnx"
INT8_ONNX = "onnx/int8.onnx"
INT8_OPENVINO = "openvino/int8.xml"


def compiled_file(checkpoint: Checkpoint, kind: str) -> Path | None:
    """``onnx/fp32.onnx``, ``onnx/int8.onnx`` or ``openvino/int8.xml`` of the checkpoint's directory; None without it.

    Of the bundled sparse teacher, ``onnx/int8.onnx`` is made in the cache of this node when it is first asked for.

    Raises:
        EngineError: that fails.
        InputError: its weights cannot be loaded.
    """
    if isinstance(checkpoint, NLITeacher) and (checkpoint.name, kind) == (BUNDLED_SPARSE_TEACHER, INT8_ONNX):
        # Imported here: it needs onnx and ONNX Runtime, and to look for a file does not.
        from zsd.compile.bundled import bundled_int8

        return bundled_int8(checkpoint)
    file = Path(checkpoint.path) / kind
    return file if file.is_file() else None
