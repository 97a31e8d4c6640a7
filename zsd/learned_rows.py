"""Which texts the student in production was distilled from: 64-bit hashes of those in its store.

A row that production was not distilled from is an unseen row, whether the teacher was asked for it tonight (a new row)
or on a night that was refused. Rows are known by their texts, as for `--reuse`: an id that the corpus gives may come
back with another text.

Legend: N texts, M texts of production.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from zsd import storage
from zsd.corpus.normalize import hash_texts, key_bytes
from zsd.shards import MANIFEST, Store, store_root

Hashes = npt.NDArray[np.uint64]


class TextDigest:
    """Names a set of texts, whatever their order: the sum of their hashes."""

    def __init__(self) -> None:
        self.sums = np.zeros(2, dtype=np.uint64)

    def add(self, texts: pa.ChunkedArray) -> Hashes:
        """Count N texts in; returns their [N] hashes of 64 bits."""
        keys = hash_texts(texts.cast(pa.large_string()).combine_chunks())
        words_N2 = np.frombuffer(key_bytes(keys), dtype="<u8").reshape(-1, 2)
        self.sums += words_N2.sum(axis=0, dtype=np.uint64)
        return words_N2[:, 0].astype(np.uint64)

    def hex(self) -> str:
        """The digest, 32 characters."""
        return f"{int(self.sums[0]):016x}{int(self.sums[1]):016x}"


@dataclass(frozen=True, kw_only=True)
class LearnedRows:
    """The texts that production was distilled from, where they can be told.

    Attributes:
        hashes: [M] of the texts, sorted; none where they are not known.
        unknown: why they are not known and every row counts as unseen; None where they are.
    """

    hashes: Hashes = field(default_factory=lambda: np.empty(0, dtype=np.uint64))
    unknown: str | None = None

    @classmethod
    def of(cls, version: str, uri: str, digest: str) -> LearnedRows:
        """Read the store that a version was distilled from.

        Where the store is gone (`--keep` may have deleted it before a rollback), or where another one is in its place
        (that of a later night of the same name), the texts are not known.

        Memory: one file of the store, and twice 8 bytes a text.

        Args:
            version: of the registry.
            uri: the store.
            digest: of its texts, from the profile of that version.

        Raises:
            StoreError: the store is damaged.
        """
        if not storage.exists(storage.join(store_root(uri), MANIFEST)):
            return cls(unknown=f"the rows of {version} are gone: there is no store in {uri}")
        found = TextDigest()
        parts = [found.add(table["text"]) for table in Store(uri).tables(["text"])]
        if found.hex() != digest:
            return cls(unknown=f"the rows of {version} are gone: {uri} holds others")
        hashes_M = np.concatenate(parts)
        hashes_M.sort()
        return cls(hashes=hashes_M)

    def unseen(self, hashes_N: Hashes) -> npt.NDArray[np.bool_]:
        """[N] whether each of N texts, by its hash from `TextDigest.add`, is none of these."""
        places_N = np.searchsorted(self.hashes, hashes_N, side="right")
        mask_N: npt.NDArray[np.bool_] = places_N == np.searchsorted(self.hashes, hashes_N, side="left")
        return mask_N
