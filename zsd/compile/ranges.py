"""Which range the bytes of an activation should stand for, measured on real pairs.

A range from the lowest to the highest value ever seen spends most bytes on a few outliers. Here each end is drawn in
as far as makes the mean squared error of rounding and clipping least, over what the tensor really held.

Legend: L tokens, S sampled values of a tensor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from zsd.batching import IntArray
from zsd.compile.onnx_session import OnnxSession
from zsd.compile.quantize import LEVELS, Range

FloatArray = npt.NDArray[np.float32]
SAMPLES = 200_000
"""Values of a tensor that are kept, whatever the number of pairs: its ends are always kept exactly."""
BINS = 2048
SHRINK = np.linspace(1.0, 0.3, 29)
"""Shares of a range's end that are tried."""


@dataclass(kw_only=True)
class Observed:
    """Values that a tensor held: its ends, and a sample."""

    low: float = 0.0
    high: float = 0.0
    parts: list[FloatArray] = field(default_factory=list)

    def add(self, values: FloatArray, most: int, rng: np.random.Generator) -> None:
        """Take in one more run, of which at most so many values are kept."""
        flat = values.reshape(-1)
        self.low, self.high = min(self.low, float(flat.min())), max(self.high, float(flat.max()))
        self.parts.append(flat if len(flat) <= most else flat[rng.integers(len(flat), size=most)])

    def best_range(self) -> Range:
        """See `best_range`."""
        return best_range(np.concatenate(self.parts), self.low, self.high)


def measure_ranges(
    session: OnnxSession, tensors: Sequence[str], pairs: Sequence[Mapping[str, IntArray]], *, seed: int = 0
) -> dict[str, Range]:
    """Ranges of some tensors of a model over pairs.

    Args:
        session: gives those tensors.
        tensors: their names.
        pairs: named [1, L] inputs, unpadded: what stands at a pad token is no activation.
        seed: of the sample.
    """
    rng = np.random.default_rng(seed)
    seen = {name: Observed() for name in tensors}
    for pair in pairs:
        for name, values in zip(tensors, session.run(pair, tensors), strict=True):
            seen[name].add(values, max(1, SAMPLES // len(pairs)), rng)
    return {name: observed.best_range() for name, observed in seen.items()}


def best_range(values_S: FloatArray, low: float, high: float) -> Range:
    """The ends, each drawn in by a share of `SHRINK`, with the least mean squared error of bytes on these values.

    Args:
        values_S: a sample.
        low: lowest value ever seen, at most 0.
        high: highest value ever seen, at least 0.
    """
    counts, edges = np.histogram(values_S, bins=BINS, range=(low, max(high, low + 1e-12)))
    centres = (edges[:-1] + edges[1:]) / 2
    lows = low * SHRINK if low < 0 else np.zeros(1)
    highs = high * SHRINK if high > 0 else np.zeros(1)
    best, least = (low, high), np.inf
    for bottom in lows:
        for top in highs:
            error = _error(counts, centres, bottom, top)
            if error < least:
                best, least = (float(bottom), float(top)), error
    return best


def _error(counts: npt.NDArray[np.int64], centres: npt.NDArray[np.float64], low: float, high: float) -> float:
    """Sum of squared errors of the values of a histogram, each rounding error taken at its mean, step^2 / 12."""
    step = (high - low) / LEVELS
    beyond = np.maximum(centres - high, 0.0) + np.maximum(low - centres, 0.0)
    inside = counts[beyond == 0].sum() * step**2 / 12
    return float((counts * beyond**2).sum() + inside)
