"""NLI checkpoint -> fp32 ONNX, in the form the CPU engines take.

Opset 14, default operator domain only (DeepSparse knows no other), dynamic batch and length; checked against
the checkpoint it came from before it may be used. Cached by the checkpoint's fingerprint.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import transformers
from transformers import AutoModelForSequenceClassification

from zsd.cache import cache_directory, new_directory
from zsd.errors import EngineError
from zsd.teachers.nli import NLITeacher

OPSET = 14
ONNX_FILE = "model.onnx"


def exported_onnx(teacher: NLITeacher) -> Path:
    """The teacher's fp32 ONNX file, exported on first use.

    Raises:
        EngineError: this architecture does not export.
    """
    versions = f"{torch.__version__}-{transformers.__version__}-{OPSET}"
    key = hashlib.blake2b(f"{teacher.fingerprint}-{versions}".encode(), digest_size=16).hexdigest()
    directory = cache_directory() / "onnx" / key
    if not (directory / ONNX_FILE).is_file():
        with new_directory(directory) as scratch:
            export_onnx(teacher, scratch / ONNX_FILE)
    return directory / ONNX_FILE


def export_onnx(teacher: NLITeacher, file: Path) -> None:
    """Write the teacher as one ONNX file with inputs in the tokenizer's order and one output, ``logits``.

    Raises:
        EngineError: torch cannot trace the model, or the graph uses operators outside the default domain.
    """
    model = AutoModelForSequenceClassification.from_pretrained(
        teacher.path, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    names = [name for name in teacher.tokenizer.model_input_names if name in _forward_arguments(model)]
    example = {name: torch.ones((2, 16), dtype=torch.int64) for name in names}
    example["attention_mask"][1, 12:] = 0
    axes = {name: {0: "batch", 1: "length"} for name in names} | {"logits": {0: "batch"}}
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), torch.inference_mode():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                _LogitsOnly(model, names),
                tuple(example[name] for name in names),
                str(file),
                input_names=names,
                output_names=["logits"],
                dynamic_axes=axes,
                opset_version=OPSET,
                dynamo=False,
            )
    except (RuntimeError, ValueError, torch.onnx.errors.OnnxExporterError) as error:
        reason = " ".join(str(error).split())[:200]
        raise EngineError(f"teacher {teacher.name!r} does not export to ONNX ({reason}): use --engine torch") from None
    graph = onnx.load(str(file))
    foreign = {node.op_type for node in graph.graph.node if node.domain not in ("", "ai.onnx")}
    if foreign:
        raise EngineError(f"teacher {teacher.name!r} exports operators {sorted(foreign)} no engine knows")
    del graph.opset_import[:]
    graph.opset_import.append(onnx.helper.make_opsetid("", OPSET))
    onnx.checker.check_model(graph)
    onnx.save(graph, str(file))


class _LogitsOnly(torch.nn.Module):
    """Positional inputs in, the logits tensor out: what the exporter can trace."""

    def __init__(self, model: Any, names: list[str]) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(**dict(zip(self.names, tensors, strict=True))).logits
        return logits


def _forward_arguments(model: Any) -> set[str]:
    import inspect

    return set(inspect.signature(model.forward).parameters)


def reference_logits(teacher: NLITeacher, inputs: dict[str, Any]) -> Any:
    """[B, C] fp32 logits of one batch straight from the checkpoint: what every engine is compared with."""
    model = AutoModelForSequenceClassification.from_pretrained(teacher.path, dtype=torch.float32).eval()
    with torch.inference_mode():
        return model(**{name: torch.from_numpy(np.asarray(a)) for name, a in inputs.items()}).logits.numpy()
