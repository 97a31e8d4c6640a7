"""What `zsd.compile.integer` and `zsd.compile.quantize_openvino` say of the int8 form they have written."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """An int8 model.

    Attributes:
        agreement: top-1, with fp32, on the rows that decided what stays in floating point.
        integer: how many matrix products are int8.
        left_out: names of those that are not.
    """

    agreement: float
    integer: int
    left_out: tuple[str, ...]
