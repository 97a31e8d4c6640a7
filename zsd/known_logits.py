"""What a soft-label store already knows of some texts: rows are matched by the hash of their text.

Legend: N rows, K labels, S rows of the store.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from zsd.confidence import FloatArray
from zsd.corpus.normalize import hash_texts
from zsd.shards import LOGITS, Store, matrix


class KnownLogits:
    """The logits of a store in memory: 16 bytes and 8 K bytes a row.

    Raises:
        StoreError: a shard is missing or damaged.
    """

    def __init__(self, store: Store) -> None:
        keys, logits = [], []
        for table in store.tables(["text", *LOGITS]):
            keys.append(_hashes(table["text"]))
            logits.append([matrix(table[name]) for name in LOGITS])
        self._keys = pa.concat_arrays(keys)
        self._logits_SK = [np.concatenate(columns) for columns in zip(*logits, strict=True)]

    def find(self, texts: pa.ChunkedArray) -> npt.NDArray[np.int64]:
        """[N] the store's row of each text, -1 where it has none."""
        places = pc.index_in(_hashes(texts), value_set=self._keys).fill_null(-1)
        found: npt.NDArray[np.int64] = places.to_numpy(zero_copy_only=False).astype(np.int64)
        return found

    def take(self, places: npt.NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
        """Entailment and contradiction logits, [N, K] each, of rows of the store."""
        entailment_NK, contradiction_NK = (logits_SK[places] for logits_SK in self._logits_SK)
        return entailment_NK, contradiction_NK


def _hashes(texts: pa.ChunkedArray) -> pa.Array:
    return hash_texts(texts.cast(pa.large_string()).combine_chunks())
