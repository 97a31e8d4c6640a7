"""What comes of a second look, written out plainly: what the code that does it in batches is held to."""

from __future__ import annotations

import numpy as np

from zsd.confidence import BoolArray, FloatArray
from zsd.soft_labels.close import close_pairs

Logits = tuple[FloatArray, FloatArray]
"""[N, H] entailment and contradiction logits."""


def looked_again(first: Logits, second: Logits, *, templates: int, within: float) -> tuple[FloatArray, BoolArray]:
    """[N, H] entailment logits after it, and which pairs it was for, of which also those that came close by it."""
    done_NH = np.zeros(first[0].shape, dtype=np.bool_)
    while True:
        now = [np.where(done_NH, after, before) for before, after in zip(first, second, strict=True)]
        close_NH = close_pairs(now[0], now[1], templates=templates, multi_label=False, within=within)
        if not (close_NH & ~done_NH).any():
            return now[0], done_NH
        done_NH |= close_NH
