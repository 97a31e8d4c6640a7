"""Premise/hypothesis pairs without labels: what a teacher is compared with itself on.

Legend: P pairs, L tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from zsd.errors import CorpusError, in_one_line

Pair = tuple[str, str]
"""A premise and a hypothesis."""
IntArray = npt.NDArray[np.int64]
COLUMNS = ("premise", "hypothesis")
LENGTH_STEP = 8
"""Lengths are padded up to a multiple of this."""


def read_pairs(file: Path) -> list[Pair]:
    """Pairs from a parquet file with the columns ``premise`` and ``hypothesis``; other columns are left alone.

    Raises:
        CorpusError: there is no such file, it is no parquet file, a column is missing, or a value is no text.
    """
    try:
        schema = pq.read_schema(file)
        missing = [name for name in COLUMNS if name not in schema.names]
        if missing:
            raise CorpusError(f"{file} has no column {missing[0]!r}: pairs need the columns premise and hypothesis")
        table = pq.read_table(file, columns=list(COLUMNS))
    except (OSError, pa.ArrowException) as error:
        raise CorpusError(f"{file} cannot be read as parquet: {in_one_line(error)}") from None
    for name in COLUMNS:
        kind = table.schema.field(name).type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)) or table[name].null_count:
            raise CorpusError(f"{file}: column {name!r} must hold text in every row; it is {kind} or has empty rows")
    premises, hypotheses = (table[name].to_pylist() for name in COLUMNS)
    return list(zip(premises, hypotheses, strict=True))


def cross_pairs(premises: Sequence[str], hypotheses: Sequence[str], *, most: int, seed: int) -> list[Pair]:
    """Pairs of rows and hypotheses: all of them, or `most` drawn at random, each row as often as any other (+-1)."""
    rng = np.random.default_rng(seed)
    first = rng.integers(len(hypotheses), size=len(premises))
    pairs: list[Pair] = []
    for turn in range(len(hypotheses)):
        rows = rng.permutation(len(premises))[: most - len(pairs)]
        pairs += [(premises[row], hypotheses[(first[row] + turn) % len(hypotheses)]) for row in rows]
    return pairs


@dataclass(frozen=True, kw_only=True)
class TokenizedPairs:
    """P tokenized pairs, special tokens included.

    Attributes:
        ids: P lists of token ids.
        types: P lists of token type ids.
        lengths: [P] tokens.
        pad_id: what a batch is filled up with.
    """

    ids: list[list[int]]
    types: list[list[int]]
    lengths: IntArray
    pad_id: int

    @classmethod
    def build(cls, tokenizer: Any, pairs: Sequence[Pair], *, max_length: int) -> TokenizedPairs:
        """Tokenize pairs, each cut to `max_length` tokens from its longer side; the tokenizer is left as it was."""
        premises, hypotheses = ([pair[side] for pair in pairs] for side in (0, 1))
        encoded = tokenizer(
            premises,
            hypotheses,
            truncation="longest_first",
            max_length=max_length,
            return_token_type_ids=True,
            return_attention_mask=False,
        )
        tokenizer.backend_tokenizer.no_truncation()
        ids = encoded["input_ids"]
        lengths = np.array([len(each) for each in ids], dtype=np.int64)
        return cls(ids=ids, types=encoded["token_type_ids"], lengths=lengths, pad_id=tokenizer.pad_token_id)

    def batch(self, pairs: IntArray, names: Sequence[str], *, max_length: int) -> dict[str, Tensor]:
        """Padded model inputs of some pairs, those called `names`, each [B, L] int64."""
        longest = int(self.lengths[pairs].max())
        length = max(longest, min(max_length, -(-longest // LENGTH_STEP) * LENGTH_STEP))
        ids_BL = np.full((len(pairs), length), self.pad_id, dtype=np.int64)
        types_BL = np.zeros_like(ids_BL)
        for b, pair in enumerate(pairs):
            ids_BL[b, : self.lengths[pair]] = self.ids[pair]
            types_BL[b, : self.lengths[pair]] = self.types[pair]
        mask_BL = (np.arange(length) < self.lengths[pairs][:, None]).astype(np.int64)
        arrays = {"input_ids": ids_BL, "token_type_ids": types_BL, "attention_mask": mask_BL}
        return {name: torch.from_numpy(arrays[name]) for name in names if name in arrays}


def homogeneous_batches(lengths: IntArray, *, batch: int, batches: int, seed: int) -> list[IntArray]:
    """Batches of pairs of about equal length, in random order: hardly any padding.

    Args:
        lengths: [P] tokens of each pair.
        batch: most pairs of a batch.
        batches: how many; the pairs are gone through as often as that takes, each pass in an order of its own.
        seed: of the order.

    Returns:
        exactly `batches` arrays of pair numbers.
    """
    rng = np.random.default_rng(seed)
    planned: list[IntArray] = []
    while len(planned) < batches:
        wanted = rng.permutation(len(lengths))[: (batches - len(planned)) * batch]
        by_length = wanted[np.argsort(lengths[wanted], kind="stable")]
        parts = np.array_split(by_length, -(-len(by_length) // batch))
        planned += [parts[part] for part in rng.permutation(len(parts))]
    return planned
