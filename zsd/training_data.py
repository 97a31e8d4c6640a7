"""Soft labels as training rows: tokenized once, kept compact, split into train and held-out by hash of the id.

Legend: N rows, K labels, L tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch.utils.data import Dataset, Sampler

from zsd.errors import ConfigError, InputError
from zsd.inference import TOKENIZE_ROWS, FloatArray, IntArray, encode, pad

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
    limit = int(fraction * 2**64)
    hashes = (hashlib.blake2b(row_id.encode(), digest_size=8, person=b"zsd-heldout").digest() for row_id in ids)
    return np.fromiter((int.from_bytes(digest) < limit for digest in hashes), dtype=np.bool_, count=len(ids))


class SoftLabelDataset(Dataset[dict[str, Any]]):
    """N tokenized texts with their soft labels; the token ids of all rows lie end to end in one array.

    Attributes:
        tokens: token ids of all rows, uint16 where the vocabulary allows it, else int32.
        offsets: [N + 1] row n is ``tokens[offsets[n]:offsets[n + 1]]``.
        probs: probs_NK float32, the teacher's probabilities.
    """

    def __init__(self, tokens: npt.NDArray[Any], offsets: IntArray, probs: FloatArray) -> None:
        self.tokens, self.offsets, self.probs = tokens, offsets, probs

    def __len__(self) -> int:
        return len(self.probs)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {"input_ids": self.tokens[self.offsets[row] : self.offsets[row + 1]], "labels": self.probs[row]}

    @property
    def lengths(self) -> IntArray:
        """[N] tokens of each row."""
        return np.diff(self.offsets)


class _Builder:
    """Collects the rows of one side of the split."""

    def __init__(self, vocabulary: int) -> None:
        self.dtype = np.uint16 if vocabulary <= 2**16 else np.int32
        self.tokens: list[npt.NDArray[Any]] = []
        self.lengths: list[int] = []
        self.probs: list[FloatArray] = []

    def add(self, ids: list[list[int]], probs_NK: FloatArray) -> None:
        if ids:
            self.tokens.append(np.concatenate([np.asarray(row, dtype=self.dtype) for row in ids]))
            self.lengths += [len(row) for row in ids]
            self.probs.append(probs_NK)

    def build(self) -> SoftLabelDataset:
        offsets = np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int64)
        return SoftLabelDataset(np.concatenate(self.tokens), offsets, np.concatenate(self.probs))


def build_datasets(
    batches: Iterable[pa.RecordBatch], *, tokenizer: Any, max_length: int, heldout_fraction: float = HELDOUT_FRACTION
) -> tuple[SoftLabelDataset, SoftLabelDataset]:
    """Tokenize and split the rows of a soft-label store, one pass, without holding the texts in memory.

    Args:
        batches: record batches with columns ``id`` and ``text`` (string) and ``probs`` (list of K float32).
        tokenizer: the student's.
        max_length: tokens a text is cut at.
        heldout_fraction: see `heldout_mask`.

    Returns:
        ``(train, heldout)``: about 2 to 4 bytes a token and 4 K bytes a row in memory.

    Raises:
        InputError: there are too few rows for the split: one side is empty.
    """
    train, heldout = _Builder(len(tokenizer)), _Builder(len(tokenizer))
    for whole in batches:
        for start in range(0, len(whole), TOKENIZE_ROWS):
            batch = whole.slice(start, TOKENIZE_ROWS)
            ids = encode(tokenizer, batch.column("text").to_pylist(), max_length=max_length)
            probs_NK = _probs(batch.column("probs"))
            mask_N = heldout_mask(batch.column("id").to_pylist(), heldout_fraction)
            for side, rows in ((train, np.flatnonzero(~mask_N)), (heldout, np.flatnonzero(mask_N))):
                side.add([ids[n] for n in rows], probs_NK[rows])
    for side, name in ((train, "training"), (heldout, "held-out")):
        if not side.lengths:
            total = len(train.lengths) + len(heldout.lengths)
            raise InputError(
                f"{total} soft-labelled row(s) leave none for the {name} side of the split (--heldout-fraction "
                f"{heldout_fraction}): label more rows, or change the fraction"
            )
    return train.build(), heldout.build()


def _probs(column: pa.Array) -> FloatArray:
    probs: FloatArray = np.asarray(column.flatten().to_numpy(zero_copy_only=False), dtype=np.float32)
    return probs.reshape(len(column), -1)


class Collator:
    """Rows to padded tensors: ``input_ids`` and ``attention_mask`` [N, L] (L a multiple of 8) and ``labels`` [N, K]."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Pad and stack the rows."""
        batch = pad([row["input_ids"] for row in rows], self.tokenizer)
        batch["labels"] = torch.from_numpy(np.stack([row["labels"] for row in rows]))
        return batch


class LengthGroupedOrder(Sampler[int]):
    """Every row once an epoch, in an order whose consecutive batches hold rows of about the same length.

    Rows are shuffled, cut into pools of 32 batches, sorted by length inside a pool and cut into batches, which are
    shuffled again. The order depends on seed and epoch only, so every worker and a resumed run see the same one.

    Args:
        lengths: [N] tokens of each row.
        batch: rows of one optimizer step: over all workers and accumulated micro-batches.
        seed: of the order.
    """

    def __init__(self, lengths: IntArray, *, batch: int, seed: int) -> None:
        self.lengths, self.batch, self.seed, self.epoch = lengths, batch, seed, 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass; the Trainer calls it."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng((self.seed, self.epoch))
        shuffled = generator.permutation(len(self.lengths))
        pool = self.batch * POOL_BATCHES
        batches: list[IntArray] = []
        for start in range(0, len(shuffled), pool):
            rows = shuffled[start : start + pool]
            rows = rows[np.argsort(self.lengths[rows], kind="stable")]
            batches += [rows[i : i + self.batch] for i in range(0, len(rows), self.batch)]
        # A batch that is not full goes last, or all batches after it would be cut across two lengths.
        full = [b for b, rows in enumerate(batches) if len(rows) == self.batch]
        rest = [b for b, rows in enumerate(batches) if len(rows) < self.batch]
        for b in [*generator.permutation(full).astype(int), *rest]:
            yield from batches[b].tolist()
