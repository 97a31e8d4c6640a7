"""Which pairs or rows run together: sorted by length, under a budget of padded tokens.

Legend: P pairs, B pairs in a batch, L tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One call of an engine: which pairs, and the shape they are padded to."""

    pairs: IntArray
    rows: int
    length: int


def plan_batches(
    lengths: IntArray,
    *,
    token_budget: int,
    buckets: Sequence[int] | None = None,
    max_length: int | None = None,
    lanes: int = 1,
) -> list[Batch]:
    """Batches over pairs sorted by length, longest first, each of at most ``token_budget`` padded tokens.

    Longest first: memory peaks on the first batch, so a budget that is too large fails at once and not after an hour.
    A batch that is not full takes pairs of the next shorter bucket rather than repeats: only the last one is filled up.

    Args:
        lengths: [P] tokens of each pair.
        token_budget: most padded tokens (B * L) of a batch; a pair longer than it goes alone.
        buckets: the only lengths to pad to, for engines with fixed shapes; every batch of a length then has the same
            number of rows, the last one filled up. None: pad to the longest pair, rounded up to 8.
        max_length: most tokens the model takes, which the rounding keeps to.
        lanes: batches that run side by side: of several, and without buckets, none has more than its share of all
            tokens.

    Returns:
        batches that together hold every pair exactly once.

    Raises:
        ValueError: a pair is longer than the longest bucket.
    """
    order = np.argsort(-lengths, kind="stable")
    if buckets is None:
        padded = -(-lengths // 8) * 8
        if max_length is not None:
            # A position table may end at any number: the pad tokens must not reach past it.
            padded = np.maximum(np.minimum(padded, max_length), lengths)
        if lanes > 1:
            token_budget = min(token_budget, -(-int(padded.sum()) // lanes))
    else:
        sizes = np.array(sorted(buckets), dtype=np.int64)
        if len(lengths) and lengths.max() > sizes[-1]:
            raise ValueError(f"a pair of {lengths.max()} tokens does not fit the longest bucket, {sizes[-1]}")
        padded = sizes[np.searchsorted(sizes, lengths)]
    batches: list[Batch] = []
    start = 0
    while start < len(order):
        length = int(padded[order[start]])
        rows = max(1, token_budget // length)
        pairs = order[start : start + rows]
        batches.append(Batch(pairs=pairs, rows=len(pairs) if buckets is None else rows, length=length))
        start += len(pairs)
    return batches


def padding_waste(lengths: IntArray, batches: Sequence[Batch]) -> float:
    """Share of the computed tokens that are padding, in [0, 1)."""
    computed = sum(batch.rows * batch.length for batch in batches)
    return 1.0 - float(lengths.sum()) / computed if computed else 0.0
