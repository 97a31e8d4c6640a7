"""What static and linear students learn from: texts with soft labels, read as often as needed, held-out rows apart.

Legend: N rows, K labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from zsd.errors import InputError
from zsd.row_hash import hash_mask
from zsd.row_weights import loss_weights
from zsd.shards import LOGITS, Store, matrix
from zsd.soft_labels import Recipe
from zsd.training_data import heldout_mask, text_keys

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class SoftRows:
    """N texts and what a student shall say of them.

    Attributes:
        ids: [N] row ids: they decide which rows are held out.
        texts: [N].
        probs: [N, K] float32 targets.
        weights: [N] float32, what the loss of each is multiplied by.
    """

    ids: Sequence[str]
    texts: Sequence[str]
    probs: FloatArray
    weights: FloatArray

    def __len__(self) -> int:
        return len(self.ids)


Side = Literal["training", "choosing", "held-out"]
"""What rows are for: to learn from, to choose an epoch or a penalty by, and, of the share that is held out, to say how
good the student is: it has neither learned nor chosen anything there."""

SIDES: tuple[Side, ...] = get_args(Side)

CHOOSING_SHARE = 0.05
"""Share to choose by of the rows that are not held out."""

CHOOSING_ROWS = 20
"""About how many rows are wanted to choose by at least."""

MOST_CHOOSING = 0.2
"""Share to choose by at most, however few rows there are."""

Rows = Callable[[], Iterable[SoftRows]]
"""Each call goes through all rows, from the first, in the same order."""


@dataclass(frozen=True, kw_only=True)
class StoreRows:
    """The rows of a store of soft labels, shard after shard, and reviewed rows; picklable `Rows`.

    Args:
        store: output directory of the label job.
        recipe: makes the probabilities of the raw logits.
        gold: K reviewed probabilities by text id (`zsd.corpus.normalize.text_ids`); they replace the teacher's.
        new_gold: texts of those of them that are not in the store.
        excluded: text ids of rows that are left out.
        limit: rows of the store that are used, its first ones; None: all.
        weight: see `zsd.row_weights.loss_weights`.
        gold_weight: how much a reviewed row weighs, where another weighs 1.
    """

    store: str
    recipe: Recipe
    gold: Mapping[str, Sequence[float]] = field(default_factory=dict)
    new_gold: Sequence[str] = ()
    excluded: frozenset[str] = frozenset()
    limit: int | None = None
    weight: str = "none"
    gold_weight: float = 1.0

    def __call__(self) -> Iterator[SoftRows]:
        """One shard at a time in memory."""
        left = self.limit
        for whole in Store(self.store).tables(["id", "text", *LOGITS]):
            table = whole if left is None else whole.slice(0, left)
            left = None if left is None else left - len(table)
            if not len(table):
                break
            probs_NK = self.recipe.probs(*(matrix(table[name]) for name in LOGITS))
            yield self._reviewed(table["id"].to_pylist(), table["text"].to_pylist(), probs_NK)
        if self.new_gold:
            ids = text_keys(self.new_gold)
            probs_NK = np.array([self.gold[one] for one in ids], dtype=np.float32)
            yield self._reviewed(ids, self.new_gold, probs_NK)

    def _reviewed(self, ids: Sequence[str], texts: Sequence[str], probs_NK: FloatArray) -> SoftRows:
        """The rows with their weights, reviewed labels in their place and what is left out gone."""
        gold_N = np.zeros(len(ids), dtype=np.bool_)
        kept = np.arange(len(ids))
        if self.gold or self.excluded:
            keys = text_keys(texts)
            kept = np.array([n for n, key in enumerate(keys) if key not in self.excluded], dtype=np.int64)
            gold_N = np.array([key in self.gold for key in keys], dtype=np.bool_)
            for n in np.flatnonzero(gold_N):
                probs_NK[n] = self.gold[keys[n]]
        weights_N = loss_weights(probs_NK, self.weight, multi_label=self.recipe.multi_label)
        weights_N[gold_N] *= self.gold_weight
        return _pick(SoftRows(ids=ids, texts=texts, probs=probs_NK, weights=weights_N), kept)


@dataclass(frozen=True, kw_only=True)
class Split:
    """Which rows are on which side. It depends on their ids alone, and on two shares.

    Args:
        heldout: share of all rows that is held out, see `zsd.training_data.heldout_mask`.
        choosing: share of the others to choose by.
    """

    heldout: float
    choosing: float

    @classmethod
    def of(cls, rows: Rows, heldout: float) -> Split:
        """The split of some rows: `CHOOSING_SHARE` of many, more of few."""
        others = (1 - heldout) * max(1, sum(len(some) for some in rows()))
        return cls(heldout=heldout, choosing=max(CHOOSING_SHARE, min(MOST_CHOOSING, CHOOSING_ROWS / others)))

    def side(self, rows: Rows, side: Side) -> Iterator[SoftRows]:
        """The rows of one side.

        Raises:
            InputError: there are none.
        """
        found = 0
        for some in rows():
            held_N = heldout_mask(some.ids, self.heldout)
            chosen = np.flatnonzero(held_N if side == "held-out" else ~held_N)
            if side != "held-out":
                choosing_N = hash_mask([some.ids[n] for n in chosen], self.choosing, b"zsd-choosing")
                chosen = chosen[choosing_N == (side == "choosing")]
            found += len(chosen)
            if len(chosen):
                yield _pick(some, chosen)
        if not found:
            use = f"held out (--heldout-fraction {self.heldout:g})" if side == "held-out" else f"there for {side}"
            raise InputError(f"the soft labels are too few for this student, none of them is {use}: label more rows")


def _pick(rows: SoftRows, chosen: npt.NDArray[np.int64]) -> SoftRows:
    if len(chosen) == len(rows):
        return rows
    return SoftRows(
        ids=[rows.ids[n] for n in chosen],
        texts=[rows.texts[n] for n in chosen],
        probs=rows.probs[chosen],
        weights=rows.weights[chosen],
    )
