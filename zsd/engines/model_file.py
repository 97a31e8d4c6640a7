"""Which file an ONNX engine runs: in fp32 the teacher's export, in int8 the one that `zsd compile --int8` made."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from zsd.compile.compiled import compiled_file
from zsd.compile.export import exported_onnx
from zsd.errors import EngineError
from zsd.teachers.nli import NLITeacher

FP32_ONNX = "onnx/fp32.onnx"
INT8_ONNX = "onnx/int8.onnx"


def dense_file(teacher: NLITeacher) -> Path:
    """The fp32 ONNX file of a compiled teacher, or else its export in the cache; not to be written to.

    Raises:
        EngineError: the architecture does not export.
        TeacherError: the checkpoint's weights cannot be loaded.
    """
    return compiled_file(teacher, FP32_ONNX) or exported_onnx(teacher)


def integer_file(teacher: NLITeacher, kind: str) -> Path:
    """An int8 file of a compiled teacher; not to be written to.

    Raises:
        EngineError: the teacher has none.
    """
    file = compiled_file(teacher, kind)
    if file is None:
        raise EngineError(
            f"teacher {teacher.name!r} has no int8 form ({kind}): make one with zsd compile --teacher {teacher.name} "
            "--int8 --data ... --labels ... --output DIR, and use --teacher DIR"
        )
    return file


def engine_fingerprint(teacher: NLITeacher, package: str, precision: str) -> str:
    """Library, its version, precision and checkpoint (which covers its compiled files)."""
    return f"{package} {importlib.metadata.version(package)}, {precision}, {teacher.fingerprint}"
