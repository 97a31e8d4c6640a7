"""Many token lists of different lengths in one array: cut and gathered for a whole batch at once.

Legend: R lists, T tokens of all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Ragged:
    """R lists of token ids, each a span of one array; spans may overlap.

    Attributes:
        values: [T] the ids.
        starts: [R] where each list begins in `values`.
        counts: [R] how long it is.
    """

    values: IntArray
    starts: IntArray
    counts: IntArray

    @classmethod
    def of(cls, lists: Sequence[IntArray]) -> Ragged:
        """R arrays put one behind the other."""
        counts = np.array([len(one) for one in lists], dtype=np.int64)
        values = np.concatenate([np.empty(0, dtype=np.int64), *lists])
        return cls(values=values, starts=np.cumsum(counts) - counts, counts=counts)

    def __len__(self) -> int:
        return len(self.counts)


def spans(starts: IntArray, counts: IntArray) -> IntArray:
    """The numbers ``starts[r] ... starts[r] + counts[r] - 1`` of every r, one behind the other."""
    before = np.cumsum(counts) - counts
    numbers: IntArray = np.repeat(starts - before, counts) + np.arange(int(counts.sum()))
    return numbers
