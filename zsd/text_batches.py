"""Texts tokenized once each and padded into batches, for a model that reads texts by themselves.

Legend: N texts, B rows of a batch, L tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zsd.ragged import Ragged, spans

IntArray = npt.NDArray[np.int64]
ENCODE_TEXTS = 2048
"""Texts tokenized at a time: the tokenizer's own record of a text is a hundred times as large as the text."""


@dataclass(frozen=True, kw_only=True)
class TextSet:
    """N tokenized texts.

    Attributes:
        ids: token ids of each, special tokens included.
        pad_id: what a row is filled up with.
        left: whether it is filled up on the left.
        inputs: names of the arrays a batch has.
        truncated: texts that were cut.
    """

    ids: Ragged
    pad_id: int
    left: bool
    inputs: tuple[str, ...]
    truncated: int

    @classmethod
    def build(cls, tokenizer: Any, texts: Sequence[str], *, max_length: int) -> TextSet:
        """Tokenize each text, cut at ``max_length`` tokens."""
        rows: list[IntArray] = []
        truncated = 0
        for start in range(0, len(texts), ENCODE_TEXTS):
            encoded = tokenizer(
                list(texts[start : start + ENCODE_TEXTS]),
                truncation=True,
                max_length=max_length,
                return_attention_mask=False,
                return_token_type_ids=False,
            )
            rows += [np.array(ids, dtype=np.int64) for ids in encoded["input_ids"]]
            truncated += sum(bool(one.overflowing) for one in encoded.encodings)
        return cls(
            ids=Ragged.of(rows),
            pad_id=tokenizer.pad_token_id,
            left=tokenizer.padding_side == "left",
            inputs=tuple(tokenizer.model_input_names),
            truncated=truncated,
        )

    @property
    def lengths(self) -> IntArray:
        """[N] tokens of each text."""
        return self.ids.counts

    def batch(self, texts: IntArray, *, length: int, rows: int | None = None) -> dict[str, IntArray]:
        """Padded model inputs of some texts.

        Args:
            texts: [B] numbers of texts, at least one.
            length: L, tokens to pad to; at least the longest text of the batch.
            rows: pad with repeats of the first text up to this many (for engines with fixed shapes).

        Returns:
            ``input_ids``, ``attention_mask`` and, where the model takes them, ``token_type_ids`` (all 0), each [B, L].
        """
        filled = len(texts)
        counts_B = self.ids.counts[texts]
        starts_B = np.arange(filled) * length + (length - counts_B if self.left else 0)
        places = spans(starts_B, counts_B)
        ids_BL = np.full((rows or filled, length), self.pad_id, dtype=np.int64)
        mask_BL, types_BL = np.zeros_like(ids_BL), np.zeros_like(ids_BL)
        ids_BL.reshape(-1)[places] = self.ids.values[spans(self.ids.starts[texts], counts_B)]
        mask_BL.reshape(-1)[places] = 1
        arrays = {"input_ids": ids_BL, "attention_mask": mask_BL, "token_type_ids": types_BL}
        for array_BL in arrays.values():
            array_BL[filled:] = array_BL[0]
        return {name: arrays[name] for name in self.inputs if name in arrays}
