"""Texts longer than the model: overlapping windows, each scored by itself, pooled on entailment.

A class is entailed by a text if some part of the text entails it: the score of a text is the largest entailment logit
of its windows, class by class. That is the zero-shot form of SummaC (Laban, Schnabel, Bennett & Hearst, TACL 2022),
which takes the maximum over the sentences of a document. The contradiction logit of a class is the one of the window
that won: both logits of a probability then come from one forward pass, and a class that one window entails is not
denied by another window that is about something else.

Legend: N rows, W windows (one of a row that fits, more of one that does not), K labels.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]

OVERLAP = 4
"""Neighbouring windows share at least one part in this many of their tokens, so that a sentence on a border stands
whole, or nearly, in one of them: with 512 tokens a pair, some 120 of them."""


def window_starts(tokens: int, room: int) -> list[int]:
    """Where the windows of a text begin: as few as cover it with the overlap, evenly spread, the last one at its end.

    Args:
        tokens: of the text.
        room: tokens of a window, at least 1.
    """
    if tokens <= room:
        return [0]
    stride = room - room // OVERLAP
    gaps = -(-(tokens - room) // stride)
    return [number * (tokens - room) // gaps for number in range(gaps + 1)]


def pool_windows(
    entailment_WK: FloatArray, contradiction_WK: FloatArray, row_W: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Logits of windows to logits of rows: largest entailment, and the contradiction of the window that has it.

    Args:
        entailment_WK: of every window.
        contradiction_WK: of every window.
        row_W: the row each window belongs to: 0 ... N - 1, each at least once, in order.

    Returns:
        entailment and contradiction, each [N, K]; the first window wins where several are equal.
    """
    starts_N = np.flatnonzero(np.diff(row_W, prepend=-1))
    if len(starts_N) == len(row_W):
        return entailment_WK, contradiction_WK
    best_NK = np.maximum.reduceat(entailment_WK, starts_N, axis=0)
    windows_W1 = np.arange(len(row_W))[:, None]
    winners_WK = np.where(entailment_WK == best_NK[row_W], windows_W1, len(row_W))
    winner_NK = np.minimum.reduceat(winners_WK, starts_N, axis=0)
    return best_NK, np.take_along_axis(contradiction_WK, winner_NK, axis=0)
