"""What of a store is trained on, in which order, and how rows become tensors.

Legend: N rows, K labels, L tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch.utils.data import Sampler

from zsd.corpus.normalize import text_ids
from zsd.errors import ConfigError
from zsd.inference import FloatArray, IntArray, pad
from zsd.row_hash import hash_mask

HELDOUT_FRACTION = 0.1
POOL_BATCHES = 32
BoolArray = npt.NDArray[np.bool_]


def heldout_mask(ids: Sequence[str], fraction: float = HELDOUT_FRACTION) -> BoolArray:
    """Which rows are held out of training: those whose hashed id falls into the lowest ``fraction`` of all hashes.

    It depends on the id and on nothing else: neither re-sharding nor a larger corpus moves a row from one side to the
    other, and a larger fraction holds out the same rows and more.

    Args:
        ids: [N] row ids.
        fraction: share of the rows to hold out, above 0 and below 1.

    Returns:
        [N] True where the row is held out.

    Raises:
        ConfigError: the fraction is not between 0 and 1.
    """
    if not 0.0 < fraction < 1.0:
        raise ConfigError(f"--heldout-fraction {fraction} must be above 0 and below 1")
    return hash_mask(ids, fraction, b"zsd-heldout")


def text_keys(texts: Sequence[str]) -> list[str]:
    """What reviewed and test rows are known by: the text id of each (`zsd.corpus.normalize.text_ids`)."""
    keys: list[str] = text_ids(pa.array(texts, pa.large_string())).to_pylist()
    return keys


class Collator:
    """Rows to tensors: ``input_ids`` and ``attention_mask`` [N, L], L a multiple of 8, and ``labels`` [N, K + 2]."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Pad and stack the rows."""
        batch = pad([row["input_ids"] for row in rows], self.tokenizer)
        batch["labels"] = torch.from_numpy(np.stack([row["labels"] for row in rows]))
        return batch


def join_labels(probs_K: FloatArray, weight: float, gold: bool) -> FloatArray:
    """The labels of a row, [K + 2]: its probabilities, its weight, and 1 where they are reviewed.

    The Trainer hands one array of labels to the loss and to the held-out figures, and no more.
    """
    return np.append(probs_K, (weight, gold)).astype(np.float32)


def split_labels(labels: Any) -> tuple[Any, Any, Any]:
    """What `join_labels` put together, tensor or array: probabilities [N, K], weights [N], reviewed or not [N]."""
    return labels[:, :-2], labels[:, -2], labels[:, -1] > 0


class TrainingOrder(Sampler[int]):
    """The rows of each epoch in order: shuffled, and in batches of about the same length.

    Rows are drawn (every row once, or as often as `copies` says), shuffled, cut into pools of 32 batches, sorted by
    length inside a pool and cut into batches, which are shuffled again. The order depends on seed and epoch only, and
    every batch is full, the last one filled up with rows of the same epoch: so each optimizer step has the same rows
    whatever the number of workers, and a resumed run goes on at the row where the last one stopped.

    Args:
        lengths: [N] tokens of each row.
        batch: rows of one optimizer step: over all workers and accumulated micro-batches.
        seed: of the order.
        copies: [N] how often each row comes in an epoch on average; None: once. A fraction is kept exactly over the
            epochs: 2.5 is 2 or 3 times. 0 is never.
        by_length: whether the rows of a batch are of about the same length.
    """

    def __init__(
        self,
        lengths: npt.NDArray[np.integer[Any]],
        *,
        batch: int,
        seed: int,
        copies: FloatArray | None = None,
        by_length: bool = True,
    ) -> None:
        self.lengths, self.batch, self.seed, self.epoch = lengths, batch, seed, 0
        self.copies, self.by_length = copies, by_length
        self.rows = len(lengths) if copies is None else max(1, round(float(copies.sum(dtype=np.float64))))

    def __len__(self) -> int:
        return -(-self.rows // self.batch) * self.batch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass; the Trainer calls it."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng((self.seed, self.epoch))
        shuffled = np.resize(self._drawn(generator), len(self))
        pool = self.batch * POOL_BATCHES
        batches: list[IntArray] = []
        for start in range(0, len(shuffled), pool):
            rows = shuffled[start : start + pool]
            if self.by_length:
                rows = rows[np.argsort(self.lengths[rows], kind="stable")]
            batches += [rows[i : i + self.batch] for i in range(0, len(rows), self.batch)]
        for b in generator.permutation(len(batches)):
            yield from batches[b].tolist()

    def _drawn(self, generator: np.random.Generator) -> IntArray:
        """The rows of this epoch, shuffled; by systematic sampling where they do not all come once."""
        if self.copies is None:
            return generator.permutation(self.rows)
        upto_N = np.cumsum(self.copies, dtype=np.float64)
        at = (np.arange(self.rows) + generator.random()) * (upto_N[-1] / self.rows)
        return generator.permutation(np.searchsorted(upto_N, at, side="right").clip(max=len(upto_N) - 1))
