"""A compiled checkpoint: what `zsd compile` puts beside its own files."""

from __future__ import annotations

import json
from pathlib import Path

from zsd.assets import BUNDLED_SPARSE_TEACHER
from zsd.checkpoint import Checkpoint
from zsd.errors import EngineError
from zsd.teachers.nli import NLITeacher

FP32_ONNX = "onnx/fp32.onnx"
INT8_ONNX = "onnx/int8.onnx"
INT8_OPENVINO = "openvino/int8.xml"
RECHECK_OPENVINO = "openvino/recheck.json"


def compiled_file(checkpoint: Checkpoint, kind: str) -> Path | None:
    """A file, such as ``onnx/int8.onnx``, of the checkpoint's directory; None without it.

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


def write_recheck(directory: Path, within: float) -> None:
    """Say how close pairs of the OpenVINO int8 form must be to be run again: see `zsd.teachers.recheck`."""
    content = {"within": within, "what": "pairs whose raw logits are this close are run again in bf16 or fp32"}
    (directory / RECHECK_OPENVINO).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def recheck_within(checkpoint: Checkpoint) -> float | None:
    """What `write_recheck` wrote; None where the form decides alone.

    Raises:
        EngineError: the file is damaged.
    """
    file = compiled_file(checkpoint, RECHECK_OPENVINO)
    if file is None:
        return None
    try:
        within = float(json.loads(file.read_text(encoding="utf-8"))["within"])
    except (ValueError, KeyError, TypeError):
        raise EngineError(f"{file} is damaged: make the form again with zsd compile") from None
    return within
