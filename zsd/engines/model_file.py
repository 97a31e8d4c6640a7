"""Which file an ONNX engine runs: in fp32 the checkpoint's export, in int8 the one that `zsd compile --int8` made."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import onnx

from zsd.cache import cached_file
from zsd.checkpoint import Checkpoint
from zsd.compile.compiled import FP32_ONNX, compiled_file
from zsd.compile.export import ONNX_FILE, exported_onnx, read_onnx
from zsd.compile.first_token import narrow_to_first_token
from zsd.errors import EngineError

NARROW_VERSION = 2
"""Raised when a change in `zsd.compile.first_token` makes files made before unfit."""


def dense_file(checkpoint: Checkpoint) -> Path:
    """The fp32 ONNX file of a compiled checkpoint, or else its export in the cache; not to be written to.

    Raises:
        EngineError: the architecture does not export.
        InputError: the checkpoint's weights cannot be loaded.
    """
    return compiled_file(checkpoint, FP32_ONNX) or exported_onnx(checkpoint)


def narrow_file(checkpoint: Checkpoint) -> Path:
    """`dense_file`, its last layer done for the first token only; not to be written to.

    In the cache, which holds an empty file of a model that has nothing to leave out: that is run as it is.

    Not for DeepSparse, whose compiler ends the process on some models of this form.

    Raises:
        EngineError: the architecture does not export, or the file is damaged.
        InputError: the checkpoint's weights cannot be loaded.
    """
    source = dense_file(checkpoint)

    def make(file: Path) -> None:
        model = read_onnx(source)
        narrow = narrow_to_first_token(model)
        if narrow.graph.node == model.graph.node:
            file.touch()
        else:
            onnx.save(narrow, str(file))

    made = cached_file("narrow", ONNX_FILE, checkpoint.fingerprint, source, NARROW_VERSION, make=make)
    return made if made.stat().st_size else source


def integer_file(checkpoint: Checkpoint, kind: str) -> Path:
    """An int8 file of a compiled checkpoint; not to be written to.

    Raises:
        EngineError: the checkpoint has none.
    """
    file = compiled_file(checkpoint, kind)
    if file is None:
        raise EngineError(
            f"{checkpoint} has no int8 form ({kind}): make one with zsd compile --{checkpoint.role} {checkpoint.name} "
            f"--int8 --data ... --output DIR, and use DIR instead"
        )
    return file


def engine_fingerprint(checkpoint: Checkpoint, package: str, precision: str) -> str:
    """Library, its version, precision and checkpoint (which covers its compiled files)."""
    return f"{package} {importlib.metadata.version(package)}, {precision}, {checkpoint.fingerprint}"
