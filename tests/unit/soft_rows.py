"""A small made-up corpus with soft labels: each class has words of its own, and some rows of doubt."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from zsd.students.rows import SoftRows

# Legend: N rows, K labels.

NAMES = ["sports", 'naïve "café", {} / 日本', "the rest\\"]
WORDS = (
    ("goal", "match", "team", "striker", "league", "cup"),
    ("menu", "waiter", "dinner", "bread", "wine", "table"),
    ("rain", "paper", "stone", "cloud", "wheel", "river"),
)
COMMON = ("the", "a", "of", "and", "was", "new")


@dataclass(frozen=True, kw_only=True)
class MadeUp:
    """N rows in parts of 64, the same every time."""

    rows: int = 400
    multi_label: bool = False
    hard: bool = False

    def __call__(self) -> Iterator[SoftRows]:
        rng = np.random.default_rng(0)
        for start in range(0, self.rows, 64):
            size = min(64, self.rows - start)
            classes_NK = np.eye(3)[rng.integers(3, size=size)] > 0
            if self.multi_label:
                classes_NK = rng.random((size, 3)) > 0.5
            texts = [
                " ".join(rng.permutation([*(w for k in range(3) if row[k] for w in rng.choice(WORDS[k], 4)), *COMMON]))
                for row in classes_NK
            ]
            doubt_NK = 0.0 if self.hard else 0.1 * rng.random((size, 3))
            probs_NK = np.abs(classes_NK - doubt_NK)
            if not self.multi_label:
                probs_NK /= probs_NK.sum(axis=1, keepdims=True)
            yield SoftRows(
                ids=[hashlib.blake2b(f"{start + n}".encode(), digest_size=8).hexdigest() for n in range(size)],
                texts=texts,
                probs=probs_NK.astype(np.float32),
                weights=np.ones(size, dtype=np.float32),
            )
