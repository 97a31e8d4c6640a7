"""Shares of rows drawn by the hash of what names them: whoever draws, in whatever order, draws the same rows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def row_hashes(names: Sequence[str], purpose: bytes) -> npt.NDArray[np.uint64]:
    """[N] a number from 0 to 2**64 - 1 for each id or text; for another purpose (at most 16 bytes) another one."""
    digests = b"".join(hashlib.blake2b(name.encode(), digest_size=8, person=purpose).digest() for name in names)
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64)


def hash_mask(names: Sequence[str], share: float, purpose: bytes) -> npt.NDArray[np.bool_]:
    """[N] True of about this share of the rows; a larger share takes the same rows and more, and 1 all."""
    if share >= 1:
        return np.ones(len(names), dtype=np.bool_)
    mask_N: npt.NDArray[np.bool_] = row_hashes(names, purpose) < np.uint64(int(share * 2**64))
    return mask_N
