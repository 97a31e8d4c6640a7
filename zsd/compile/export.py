"""A checkpoint, an NLI teacher or a student -> fp32 ONNX, in the form the CPU engines take.

Opset 14, default operator domain only (DeepSparse knows no other), dynamic batch and length. Whether it has
the checkpoint's own logits is checked by the engine that runs it (`zsd.compile.probes`). Cached by the checkpoint's
fingerprint.

Legend: B pairs in a batch, L tokens.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
import transformers
from google.protobuf.message import DecodeError

from zsd.batching import IntArray
from zsd.cache import cached_file
from zsd.checkpoint import Checkpoint
from zsd.errors import EngineError, in_one_line
from zsd.teachers.weights import input_names, load_weights

OPSET = 14
ONNX_FILE = "model.onnx"
EXPORT_VERSION = 3
"""Raised when a change here makes files exported before unfit."""
PROBES = ["x", "Shares fell after the central bank raised its rate.", "naïve café 日本"]
"""What the tracer sees: texts of different lengths, so that nothing of the padding is taken for a constant."""


def exported_onnx(checkpoint: Checkpoint) -> Path:
    """The checkpoint's fp32 ONNX file, exported on first use; not to be written to.

    Raises:
        EngineError: this architecture does not export.
        InputError: the checkpoint's weights cannot be loaded.
    """
    versions = (torch.__version__, transformers.__version__, OPSET, EXPORT_VERSION)
    return cached_file(
        "onnx", ONNX_FILE, checkpoint.fingerprint, *versions, make=lambda file: export_onnx(checkpoint, file)
    )


def read_onnx(file: Path) -> onnx.ModelProto:
    """An ONNX model of one file.

    Raises:
        EngineError: it is damaged, or keeps weights in other files: their names could be those of any file here.
    """
    try:
        model = onnx.load(str(file), load_external_data=False)
    except DecodeError:
        model = onnx.ModelProto()
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise EngineError(f"{file}: keeps weights in other files: compile the checkpoint again, into one file")
    if not model.graph.node:
        raise EngineError(f"{file}: is no ONNX model, or damaged: delete it, or compile the checkpoint again")
    return model


def export_onnx(checkpoint: Checkpoint, file: Path) -> None:
    """Write the checkpoint as one ONNX file with inputs in the tokenizer's order and one output, ``logits`` [B, C].

    Raises:
        EngineError: torch cannot trace the model, or the graph uses operators outside the default domain.
        InputError: the checkpoint's weights cannot be loaded.
    """
    model = load_weights(checkpoint, dtype=torch.float32, attn_implementation="eager")
    sequences = checkpoint.sequences(PROBES, max_length=checkpoint.max_length)
    inputs = sequences.batch(np.arange(len(PROBES)), length=int(sequences.lengths.max()))
    try:
        _trace(model, {name: inputs[name] for name in input_names(model, tuple(inputs))}, file)
        graph = onnx.load(str(file))
        foreign = {node.op_type for node in graph.graph.node if node.domain not in ("", "ai.onnx")}
        if foreign:
            raise EngineError(f"{checkpoint} exports operators {sorted(foreign)} no engine knows")
        del graph.opset_import[:]
        graph.opset_import.append(onnx.helper.make_opsetid("", OPSET))
        onnx.checker.check_model(graph)
        onnx.save(graph, str(file))
    except EXPORT_ERRORS as error:
        told = f"{checkpoint} does not export to ONNX ({in_one_line(error)}): use --engine torch"
        raise EngineError(told) from None


EXPORT_ERRORS = (RuntimeError, ValueError, torch.onnx.errors.OnnxExporterError, onnx.checker.ValidationError)
"""What torch's tracer and onnx raise on a model they do not master."""


def _trace(model: torch.nn.Module, inputs: dict[str, IntArray], file: Path) -> None:
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _LogitsOnly(model, list(inputs)).eval(),
            tuple(torch.from_numpy(array) for array in inputs.values()),
            str(file),
            input_names=list(inputs),
            output_names=["logits"],
            dynamic_axes={name: {0: "batch", 1: "length"} for name in inputs} | {"logits": {0: "batch"}},
            opset_version=OPSET,
            dynamo=False,
        )


class _LogitsOnly(torch.nn.Module):
    """Positional inputs in, the logits tensor out: what the exporter can trace."""

    def __init__(self, model: torch.nn.Module, names: list[str]) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(**dict(zip(self.names, tensors, strict=True))).logits
        return logits
