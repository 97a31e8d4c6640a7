"""The raw logits of a store that a recipe is fitted on: all rows, or the same share of them whatever their order.

Legend: N rows, K labels, S divisions into halves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zsd.batching import FloatArray
from zsd.row_hash import row_hashes
from zsd.shards import LOGITS, TEMPLATE_LOGITS, Store, matrix
from zsd.soft_labels.logits import Logits

MOST_NUMBERS = 1_000_000
"""Most logits, rows times classes, that a recipe is fitted on: more would take longer and say nothing new."""

DIVISIONS = 4
"""Ways to divide the rows into halves."""


@dataclass(frozen=True, kw_only=True)
class LogitSample(Logits):
    """Rows of a store.

    Attributes:
        halves: [N, S] in each of S divisions, which of two halves a row is in, by the hash of its id.
    """

    halves: npt.NDArray[np.bool_]


def sample_logits(store: Store, *, most: int = MOST_NUMBERS, template: int | None = None) -> LogitSample:
    """Read a store once, shard by shard; keep the rows whose hashed id is low enough.

    Args:
        store: a finished store of `zsd label`.
        most: logits to keep, or a few more.
        template: of a store with several, the logits of this one; None: the mean of all.

    Raises:
        StoreError: a shard is missing or damaged.
    """
    labels = len(store.manifest["labels"]["names"])
    share = min(1.0, most / max(1, int(store.manifest["rows"]) * labels))
    halves = [np.empty((0, DIVISIONS), dtype=bool)]
    bits = np.arange(DIVISIONS, dtype=np.uint64)
    columns = LOGITS if template is None else TEMPLATE_LOGITS
    chosen = slice(None) if template is None else slice(template * labels, (template + 1) * labels)
    logits: dict[str, list[FloatArray]] = {name: [np.empty((0, labels), np.float32)] for name in columns}
    for table in store.tables(["id", *columns]):
        hashes_N = row_hashes(table["id"].to_pylist(), b"zsd-recipe")
        kept_N = hashes_N >> np.uint64(DIVISIONS) < np.uint64(share * 2 ** (64 - DIVISIONS))
        halves.append((hashes_N[kept_N][:, None] >> bits & np.uint64(1)).astype(bool))
        for name, parts in logits.items():
            parts.append(matrix(table[name])[kept_N, chosen])
    entailment_NK, contradiction_NK = (np.concatenate(parts) for parts in logits.values())
    return LogitSample(entailment=entailment_NK, contradiction=contradiction_NK, halves=np.concatenate(halves))
