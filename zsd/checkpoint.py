"""A sequence classifier of transformers on disk, read as far as needed to run it on any engine.

Legend: B rows of a batch, L tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from zsd.errors import InputError, StudentError
from zsd.text_batches import TextSet

IntArray = npt.NDArray[np.int64]


class Sequences(Protocol):
    """What a model reads, tokenized."""

    @property
    def lengths(self) -> IntArray:
        """Tokens of each sequence."""
        ...

    def batch(self, numbers: IntArray, /, *, length: int, rows: int | None = None) -> dict[str, IntArray]:
        """Named [B, L] model inputs of some of them."""
        ...


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A classifier of single texts, as a student is; engines load the weights.

    Args:
        name: what the user called it.
        path: local directory, or hub name, to load from.
        max_length: most tokens a sequence may have, special tokens included.
        fingerprint: 128-bit hex digest of config, weights and tokenizer files.
        tokenizer: the fast tokenizer.
        config: the transformers configuration.
    """

    role: ClassVar[str] = "student"
    """What messages call it, and the flag that names it."""
    error: ClassVar[type[InputError]] = StudentError
    """What is raised where it cannot be loaded."""
    purpose: ClassVar[str] = "a classifier; give a checkpoint that was trained to classify texts"
    """What it is not where its output layer is missing."""

    name: str
    path: str
    max_length: int
    fingerprint: str
    tokenizer: Any
    config: Any

    def __str__(self) -> str:
        return f"{self.role} {self.name!r}"

    def sequences(self, texts: Sequence[str], *, max_length: int) -> Sequences:
        """Texts as the model reads them, cut at so many tokens."""
        return TextSet.build(self.tokenizer, texts, max_length=max_length)
