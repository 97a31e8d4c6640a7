"""Planned batches through an engine: in all its lanes, or one by one, the inputs of the next ones assembled meanwhile.

Legend: B rows of a batch, C outputs.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing

import numpy as np

from zsd.ahead import made_ahead
from zsd.checkpoint import Sequences
from zsd.engines.base import Engine, FloatArray, IntArray
from zsd.errors import EngineError
from zsd.planning import Batch


def run_batches(
    engine: Engine, sequences: Sequences, batches: Sequence[Batch], outputs: int
) -> Generator[tuple[Batch, FloatArray], None, None]:
    """Every batch with the [B, C] logits of its own sequences, in the order of the batches.

    Args:
        engine: what runs them.
        sequences: what the batches number.
        batches: from `zsd.planning.plan_batches`.
        outputs: C.

    Raises:
        EngineError: the engine returned a number that is not finite, or the wrong number of outputs.
    """

    def assembled(batch: Batch) -> tuple[Batch, dict[str, IntArray]]:
        return batch, sequences.batch(batch.pairs, length=batch.length, rows=batch.rows)

    def answered(batch: Batch, inputs: dict[str, IntArray]) -> tuple[Batch, FloatArray]:
        out = engine.logits(inputs)
        if out.shape != (batch.rows, outputs) or not np.isfinite(out).all():
            raise EngineError(
                f"engine {engine.name} returned shape {out.shape} or a number that is not finite for a batch of "
                f"{batch.rows} rows of {batch.length} tokens: try --engine torch --precision fp32"
            )
        return batch, out[: len(batch.pairs)]

    lanes = engine.lanes
    if lanes.pool is None or len(batches) == 1:
        with closing(made_ahead(assembled, batches)) as ready:
            for batch, inputs in ready:
                yield answered(batch, inputs)
    else:
        # Two batches a lane: the next one waits where the last one ends.
        whole = made_ahead(lambda batch: answered(*assembled(batch)), batches, depth=2 * lanes.count, pool=lanes.pool)
        with closing(whole) as done:
            yield from done
