"""NLI checkpoint -> fp32 ONNX, in the form the CPU engines take.

Opset 14, default operator domain only (DeepSparse knows no other), dynamic batch and length. Before a file may be used,
the engine that asked for it runs probe pairs, padded and not, and must find the checkpoint's own logits. Cached by the
checkpoint's fingerprint.

Legend: B pairs in a batch, L tokens, C NLI classes.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
import transformers

from zsd.batching import FloatArray, IntArray, PairSet, pair_layout
from zsd.cache import cache_directory, new_directory
from zsd.errors import EngineError
from zsd.teachers.nli import NLITeacher
from zsd.teachers.weights import input_names, load_weights

OPSET = 14
ONNX_FILE = "model.onnx"
EXPORT_VERSION = 2
"""Raised when a change here makes files exported before unfit."""
TOLERANCE = 1e-3
"""Largest difference to the checkpoint's logits that an exported file may show."""
Run = Callable[[Path, dict[str, IntArray]], FloatArray]
"""How an engine runs a file once: named [B, L] inputs in, [B, C] logits out."""
PROBES = (["A goal in stoppage time!"], ["x", "Shares fell after the central bank raised its rate.", "naïve café 日本"])


def exported_onnx(teacher: NLITeacher, engine: str, run: Run) -> Path:
    """The teacher's fp32 ONNX file, exported and checked on first use.

    Args:
        teacher: what to export.
        engine: name of the engine that will run it.
        run: how it does.

    Raises:
        EngineError: this architecture does not export, or the engine finds other logits in it.
        TeacherError: the checkpoint's weights cannot be loaded.
    """
    versions = f"{torch.__version__}-{transformers.__version__}-{OPSET}-{EXPORT_VERSION}-{engine}"
    key = hashlib.blake2b(f"{teacher.fingerprint}-{versions}".encode(), digest_size=16).hexdigest()
    directory = cache_directory() / "onnx" / key
    if not (directory / ONNX_FILE).is_file():
        with new_directory(directory) as scratch:
            export_onnx(teacher, scratch / ONNX_FILE, run)
    return directory / ONNX_FILE


def export_onnx(teacher: NLITeacher, file: Path, run: Run) -> None:
    """Write the teacher as one ONNX file with inputs in the tokenizer's order and one output, ``logits`` [B, C].

    Raises:
        EngineError: torch cannot trace the model, the graph uses operators outside the default domain, or the engine
            finds other logits than the checkpoint has.
        TeacherError: the checkpoint's weights cannot be loaded.
    """
    model = load_weights(teacher, dtype=torch.float32, attn_implementation="eager")
    layout = pair_layout(teacher.tokenizer)
    names = input_names(model, layout.inputs)
    probes = []
    for premises in PROBES:
        pairs = PairSet.build(teacher.tokenizer, layout, premises, ["It is so."], max_length=teacher.max_length)
        inputs = pairs.batch(np.arange(len(pairs)), length=int(pairs.lengths.max()))
        probes.append({name: inputs[name] for name in names})
    try:
        _trace(model, probes[-1], file)
        graph = onnx.load(str(file))
        foreign = {node.op_type for node in graph.graph.node if node.domain not in ("", "ai.onnx")}
        if foreign:
            raise EngineError(f"teacher {teacher.name!r} exports operators {sorted(foreign)} no engine knows")
        del graph.opset_import[:]
        graph.opset_import.append(onnx.helper.make_opsetid("", OPSET))
        onnx.checker.check_model(graph)
        onnx.save(graph, str(file))
    except EXPORT_ERRORS as error:
        reason = " ".join(str(error).split())[:200]
        raise EngineError(f"teacher {teacher.name!r} does not export to ONNX ({reason}): use --engine torch") from None
    worst = max(float(np.abs(run(file, probe) - _logits(model, probe)).max()) for probe in probes)
    if not worst <= TOLERANCE:
        raise EngineError(
            f"teacher {teacher.name!r}, exported to ONNX, has logits that are off by {worst:.2g}: use --engine torch"
        )


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


def _logits(model: torch.nn.Module, inputs: dict[str, IntArray]) -> FloatArray:
    with torch.inference_mode():
        logits_BC: FloatArray = model(
            **{name: torch.from_numpy(array) for name, array in inputs.items()}
        ).logits.numpy()
    return logits_BC


class _LogitsOnly(torch.nn.Module):
    """Positional inputs in, the logits tensor out: what the exporter can trace."""

    def __init__(self, model: torch.nn.Module, names: list[str]) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(**dict(zip(self.names, tensors, strict=True))).logits
        return logits
