"""The rows of a soft-label store that a student was not trained on, with the teacher's answers as it was taught them.

Legend: N rows, K labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from zsd.confidence import FloatArray
from zsd.errors import ConfigError, StudentError
from zsd.shards import LOGITS, Store, matrix, read_json
from zsd.soft_labels import Recipe
from zsd.students.folder import CARD
from zsd.training_data import heldout_mask


@dataclass(frozen=True, kw_only=True)
class Heldout:
    """N held-out rows.

    Attributes:
        texts: N texts.
        probs: [N, K] the teacher's probabilities, by the recipe that the student was taught with.
    """

    texts: list[str]
    probs: FloatArray


def read_card(directory: Path) -> dict[str, Any]:
    """Where a student comes from, as `zsd distill` wrote it down.

    Raises:
        StudentError: nothing is written down.
    """
    file = directory / CARD
    if not file.is_file():
        raise StudentError(
            f"{directory}: has no {CARD}, so its teacher and held-out rows are not known: give a student that zsd "
            "distill made"
        )
    return read_json(str(file))


def card_recipe(card: dict[str, Any]) -> Recipe:
    """What made the student's labels of the teacher's logits."""
    if "recipe" in card:
        return Recipe.from_dict(card["recipe"])
    return Recipe(method="none", multi_label=card["labels"]["multi_label"], temperature=card["temperature"])


def heldout_rows(
    store: Store, card: dict[str, Any], *, above: float = 0.0, below: float = 1.0, without: frozenset[str] = frozenset()
) -> Heldout:
    """The rows of a store that the student of this card was not trained on: it may be another store than its own.

    Args:
        store: the store.
        card: of the student.
        above: leave out the rows that a held-out fraction as small as this takes, see `heldout_mask`.
        below: take only rows that a held-out fraction as small as this takes.
        without: texts to leave out.

    Raises:
        ConfigError: the store is of other classes or another teacher, or has no such row.
        StoreError: a shard is missing or damaged.
    """
    check_same_teacher(store, card)
    recipe, fraction = card_recipe(card), min(below, card["heldout"]["fraction"])
    texts: list[str] = []
    probs: list[FloatArray] = []
    for table in store.tables(["id", "text", *LOGITS]):
        ids = table["id"].to_pylist()
        wanted_N = heldout_mask(ids, fraction)
        if above:
            wanted_N &= ~heldout_mask(ids, above)
        if without:
            wanted_N &= np.array([text not in without for text in table["text"].to_pylist()], dtype=np.bool_)
        rows = table.filter(pa.array(wanted_N))
        if rows.num_rows:
            texts += rows["text"].to_pylist()
            probs.append(recipe.probs(*(matrix(rows[name]) for name in LOGITS)))
    if not texts:
        raise ConfigError(f"--soft-labels {store.root}: all its rows were trained on: give a store with more rows")
    return Heldout(texts=texts, probs=np.concatenate(probs))


def check_same_teacher(store: Store, card: dict[str, Any]) -> None:
    """Refuse a store that does not hold what this student was taught.

    Raises:
        ConfigError: it holds predictions, or other classes, another template or another teacher's logits.
    """
    manifest = store.manifest
    if manifest["job"] != "label":
        raise ConfigError(f"--soft-labels {store.root}: holds predictions: give the output of zsd label")
    for key in ("labels", "teacher_fingerprint"):
        if manifest[key] != card[key]:
            raise ConfigError(
                f"--soft-labels {store.root}: its {key.replace('_', ' ')} is not that of the student: give the store "
                "that it was distilled from, or one labelled in the same way"
            )
