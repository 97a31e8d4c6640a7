"""Lanes: threads that run a model side by side, a whole batch each.

The other way to use several threads is to split every matrix product among them: then all wait for the slowest at each
of some two hundred steps of a batch, and whatever is small (softmax, GELU, layer norms) is not split well at all. The
lanes share the weights and meet when all batches are done: that did 7% (int8) and 8% (bf16) more rows/s than sharing
out the rows of each batch (OpenVINO on two threads, 256 rows of AG News, passes alternating).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


def nothing() -> None:
    """What a lane has to do before its first batch, usually."""


class Lanes:
    """The threads that call an engine.

    Args:
        count: how many; with one there is no thread, the engine runs in its caller's.
        start: called in each thread before anything else.

    Attributes:
        count: how many.
        pool: the threads; None where there is one lane.
    """

    def __init__(self, count: int, *, start: Callable[[], None] = nothing) -> None:
        self.count = count
        self.pool = ThreadPoolExecutor(count, thread_name_prefix="zsd-lane", initializer=start) if count > 1 else None

    def close(self) -> None:
        """End the threads."""
        if self.pool is not None:
            self.pool.shutdown()
