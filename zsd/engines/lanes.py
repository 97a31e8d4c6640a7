"""Rows of a batch shared out: each lane is one thread that takes its rows through the whole model.

The other way to use several threads is to split every matrix product among them: then all wait for the slowest at each
of some two hundred steps of a batch, and whatever is small (softmax, GELU, layer norms) is not split well at all. The
lanes share the weights and meet once a batch.

Legend: B pairs in a batch, L tokens, C NLI classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from zsd.engines.base import FloatArray, IntArray

Forward = Callable[[Mapping[str, IntArray]], FloatArray]
"""Rows of a batch through the model: named [B, L] inputs in, [B, C] logits out."""


def nothing() -> None:
    """What a lane has to do before its first rows, usually."""


class Lanes:
    """Threads that run a model side by side.

    Args:
        count: how many; with one, everything runs in the caller's thread.
        forward: runs a share of the rows; called from several threads at once.
        start: called in each thread before anything else.
        equal: every lane gets the same number of rows, the last one filled up with repeats (for fixed shapes).
    """

    def __init__(
        self, count: int, forward: Forward, *, start: Callable[[], None] = nothing, equal: bool = False
    ) -> None:
        self.count = count
        self._forward = forward
        self._equal = equal
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="zsd-lane", initializer=start) if count > 1 else None

    def __call__(self, inputs: Mapping[str, IntArray]) -> FloatArray:
        """[B, C] logits of named [B, L] inputs; an exception of a lane is raised here."""
        rows = len(inputs["input_ids"])
        if self._pool is None or rows == 1:
            return self._forward(inputs)
        share = -(-rows // self.count)
        starts = range(0, rows, share)
        logits = self._pool.map(self._forward, [self._share(inputs, start, share) for start in starts])
        return np.concatenate(list(logits))[:rows]

    def _share(self, inputs: Mapping[str, IntArray], start: int, share: int) -> dict[str, IntArray]:
        parts = {name: array_BL[start : start + share] for name, array_BL in inputs.items()}
        lacking = share - len(parts["input_ids"]) if self._equal else 0
        if lacking:
            parts = {name: np.concatenate([part, np.repeat(part[:1], lacking, axis=0)]) for name, part in parts.items()}
        return parts

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()
