"""Which engines and precisions may run a teacher here, by what `zsd compile` made of it and what the device has."""

from __future__ import annotations

from zsd.compile.compiled import DRAFT_CONFIG, INT8_ONNX, INT8_OPENVINO, compiled_file
from zsd.engines.base import Placement
from zsd.engines.native.weights import fits
from zsd.engines.registry import DRAFT, combinations
from zsd.teachers.nli import NLITeacher

LIKELY = (
    ("native", DRAFT),
    ("openvino", DRAFT),
    ("native", "bf16"),
    ("deepsparse", "int8"),
    ("openvino", "int8"),
    ("openvino", "bf16"),
    ("onnxruntime", "int8"),
    ("torch", DRAFT),
    ("torch", "bf16"),
    ("torch", "fp16"),
    ("openvino", "fp32"),
    ("onnxruntime", "fp32"),
    ("deepsparse", "fp32"),
)
"""Every engine and precision but the reference, the likely fastest first."""

INT8_FORMS = {"deepsparse": INT8_ONNX, "onnxruntime": INT8_ONNX, "openvino": INT8_OPENVINO}
"""The file of a compiled teacher that an engine runs in int8."""


def candidates(teacher: NLITeacher, placement: Placement) -> list[tuple[str, str]]:
    """(engine, precision) that may run this teacher here, but for the reference; the likely fastest first."""
    here = combinations(placement.device)
    return [
        (name, precision)
        for name, precision in LIKELY
        if (name, precision) in here and _can_run(teacher, name, precision)
    ]


def _can_run(teacher: NLITeacher, engine: str, precision: str) -> bool:
    """Whether the engine knows the architecture, and `zsd compile` made what the precision needs, if anything."""
    if engine == "native" and not fits(teacher.config):
        return False
    if precision == DRAFT:
        return compiled_file(teacher, DRAFT_CONFIG) is not None
    return precision != "int8" or compiled_file(teacher, INT8_FORMS[engine]) is not None
