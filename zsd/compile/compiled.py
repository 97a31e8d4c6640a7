"""A compiled teacher: what `zsd compile` puts beside a checkpoint's own files."""

from __future__ import annotations

from pathlib import Path

from zsd.assets import BUNDLED_SPARSE_TEACHER
from zsd.teachers.nli import NLITeacher

INT8_ONNX = "onnx/int8.onnx"


def compiled_file(teacher: NLITeacher, kind: str) -> Path | None:
    """``onnx/fp32.onnx``, ``onnx/int8.onnx`` or ``openvino/int8.xml`` of the teacher's directory; None without it.

    Of the bundled sparse teacher, ``onnx/int8.onnx`` is made in the cache of this node when it is first asked for.

    Raises:
        EngineError: that fails.
        TeacherError: its weights cannot be loaded.
    """
    if teacher.name == BUNDLED_SPARSE_TEACHER and kind == INT8_ONNX:
        # Imported here: it needs onnx and ONNX Runtime, and to look for a file does not.
        from zsd.compile.bundled import bundled_int8

        return bundled_int8(teacher)
    file = Path(teacher.path) / kind
    return file if file.is_file() else None
