"""What engines that compile one static shape at a time have in common: which lengths, how many, and keeping them.

Legend: B pairs in a batch, L tokens, C NLI classes.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from zsd.compile.probes import Probes, Run
from zsd.engines.base import FloatArray, IntArray
from zsd.machine import available_cpus

STEPS = (4, 5, 6, 7)
"""Lengths that may be compiled are these times a power of two: at most a fifth of a call is padding, in news a tenth,
and a corpus rarely needs more than ten. Each is compiled when it is first needed."""

MEMORY_SHARE = 0.25
"""Of a thread's part of the machine's memory, what compiled shapes may take together."""

UNLIMITED = 1 << 16
"""`affordable_buckets` of an engine that compiles no shapes."""

FEWEST = 3
"""Lengths below which padding would cost more than the engine gains."""


def bucket_lengths(max_length: int) -> tuple[int, ...]:
    """16, 20, 24, 28, 32, 40, ... up to the longest pair the model takes."""
    lengths = {step << power for power in range(2, max_length.bit_length()) for step in STEPS}
    return (*sorted(length for length in lengths if length < max_length), max_length)


def least_shape(buckets: tuple[int, ...], probes: Probes) -> tuple[int, int]:
    """(rows, length) of the least batch that tells whether an engine can run a model at all.

    No length below the buckets: DeepSparse 1.8 crashes on a batch of fewer than eight tokens.
    """
    return 1, min(length for length in buckets if length >= probes.lengths[0])


def affordable_buckets(file: Path, threads: int) -> int:
    """How many lengths an engine on so many threads may compile, where each holds the weights of the file anew."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    share = memory * MEMORY_SHARE * min(1.0, threads / available_cpus())
    return max(FEWEST, int(share / file.stat().st_size))


class Shapes:
    """Compiled shapes of a model, each that compiles, once, by the first lane that needs it.

    Args:
        compile_shape: B and L to what runs such a batch.
    """

    def __init__(self, compile_shape: Callable[[int, int], Run]) -> None:
        self._compile = compile_shape
        self._compiled: dict[tuple[int, int], Run] = {}
        self._compiling = threading.Lock()

    def __call__(self, inputs: Mapping[str, IntArray]) -> FloatArray:
        """[B, C] logits of named [B, L] inputs."""
        rows, length = inputs["input_ids"].shape
        if (rows, length) not in self._compiled:
            with self._compiling:
                if (rows, length) not in self._compiled:
                    self._compiled[rows, length] = self._compile(rows, length)
        return self._compiled[rows, length](inputs)

    def clear(self) -> None:
        """Free them all."""
        self._compiled.clear()
