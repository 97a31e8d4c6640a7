"""What an engine is: something that turns padded model inputs into NLI logits on given threads and device.

Legend: B pairs in a batch, L tokens, C NLI classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from zsd.engines.lanes import Lanes

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
    """One loaded model on one device. `zsd.engines.load_engine` makes them; `zsd.engines.registry` lists them.

    An engine is exact in its precision: a row's logits depend on nothing but the row, up to rounding; neither the
    length it is padded to nor its neighbours in the batch change them. It holds the weights once (one of fixed shapes:
    once a shape).

    Attributes:
        name: ``torch``, ``deepsparse``, ``openvino``, ``onnxruntime``, ``native``.
        precision: ``fp32``, ``bf16``, ``fp16``, ``int8`` or ``draft``.
        threads: processor threads it uses.
        fingerprint: engine, version of its library, precision and what it runs: two engines with the same one give
            the same logits on the same processor.
        buckets: the only lengths the engine runs, or None where any length goes.
        most_buckets: most of them that should be used, since each is compiled and has weights of its own.
        pads: whether it computes the padding of a batch too.
        lanes: how many batches run side by side, and the threads to call `logits` in; a single
            batch, or all where there is one lane, run in the caller's (`zsd.engines.run`).
        token_budget: most padded tokens a batch should have.
    """

    name: str
    precision: str
    threads: int
    fingerprint: str
    buckets: tuple[int, ...] | None
    most_buckets: int
    pads: bool
    lanes: Lanes

    @property
    def token_budget(self) -> int:
        """See above; it may fall while the engine runs."""
        ...

    def logits(self, inputs: Mapping[str, IntArray]) -> FloatArray:
        """Run one batch: named [B, L] inputs in, [B, C] float32 raw logits out.

        From as many threads at once as there are lanes.

        Raises:
            EngineError: the engine cannot run this shape here.
        """
        ...

    def close(self) -> None:
        """Free the model and end its threads; the engine cannot be used after it."""
        ...
