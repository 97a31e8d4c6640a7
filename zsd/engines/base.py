"""What an engine is: something that turns padded model inputs into NLI logits on given threads and device.

Legend: B pairs in a batch, L tokens, C NLI classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where an engine runs.

    Args:
        device: ``cpu`` or ``cuda``.
        threads: processor threads the engine may use.
    """

    device: str = "cpu"
    threads: int = 1


class Engine(Protocol):
    """One loaded model on one device. `zsd.engines.load_engine` makes them.

    Attributes:
        name: ``torch``, ``deepsparse``, ...
        precision: ``fp32`` or ``bf16``.
        buckets: the only lengths the engine runs, or None where any length goes.
        token_budget: most padded tokens a batch should have.
    """

    name: str
    precision: str
    buckets: tuple[int, ...] | None
    token_budget: int

    def logits(self, inputs: Mapping[str, IntArray]) -> FloatArray:
        """Run one batch: named [B, L] inputs in, [B, C] float32 raw logits out."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...
