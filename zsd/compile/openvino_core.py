"""OpenVINO, imported without telemetry, and what this processor can do in it."""

from __future__ import annotations

from typing import Any

from zsd.errors import EngineError
from zsd.telemetry import no_telemetry


def openvino_core() -> Any:
    """An ``openvino.Core``.

    Raises:
        EngineError: OpenVINO is not installed here.
    """
    try:
        with no_telemetry():
            import openvino
    except ImportError as error:
        raise EngineError(f"OpenVINO is not installed here ({error}): pip install openvino") from None
    return openvino.Core()


def has_bf16(core: Any) -> bool:
    """Whether the processor multiplies bf16 numbers itself."""
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def precision_hint(core: Any, precision: str) -> str:
    """What is not int8 in a model of a precision computes in this: bf16 is exact enough beside int8."""
    return "bf16" if precision != "fp32" and has_bf16(core) else "f32"
