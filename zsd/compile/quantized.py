"""What `zsd.compile.integer` and `zsd.compile.quantize_openvino` have in common."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """An int8 model.

    Attributes:
        agreement: top-1, with fp32, on the rows that decided what stays in floating point (after the second look).
        integer: how many matrix products are int8.
        left_out: names of those that are not.
        within: pairs whose logits are this close are run again in floating point (`zsd.teachers.recheck`); 0: none.
        rechecked: share of the pairs of those rows that this was.
    """

    agreement: float
    integer: int
    left_out: tuple[str, ...]
    within: float = 0.0
    rechecked: float = 0.0


def growing_counts(most: int) -> list[int]:
    """How many products to leave in floating point, in the order to try: 1, 2, 3, 4, 6, 9, ... up to ``most``."""
    counts = [1] if most else []
    while counts and counts[-1] < most:
        counts.append(min(most, max(counts[-1] + 1, counts[-1] * 3 // 2)))
    return counts
