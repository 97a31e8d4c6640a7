"""What a night's rows look like, small enough to keep: counts of classes, confidences, lengths and words.

One streaming pass over a label store, which tells two kinds of rows from the others: unseen rows, which production was
not distilled from (`zsd.learned_rows`), and new rows, which the teacher was asked for tonight (what `--reuse` knew cost
no pairs, as the records in the store's files say). Rows of a refused night that stay in the corpus are unseen, not new.

Legend: N rows, K labels.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from zsd.confidence import DECISION
from zsd.learned_rows import LearnedRows, TextDigest
from zsd.shards import FOOTER_KEY, Store, matrix

CONFIDENCE_BINS = 20
LENGTH_BINS = 24
"""A text of 2**n to 2**(n+1)-1 characters is in bin n; the last holds all longer ones."""

WORDS = 5000
"""Most frequent words that are kept."""

WORDS_IN_MEMORY = 500_000
"""Distinct words from which on the rare ones are forgotten while counting."""

NOT_WORD = r"[^\p{L}\p{N}]+"


@dataclass(kw_only=True)
class Profile:
    """Counts over some rows.

    Attributes:
        rows: how many.
        classes: [K] rows of which each class is the decision (the top one; with multi-label every one at 0.5).
        confidence: [20] rows by the score of their decision, equal widths from 0 to 1.
        lengths: [24] rows by characters, see `LENGTH_BINS`.
        characters: of all rows.
        words: how often each word occurs, lower case; only the most frequent are kept.
        tokens: words of all rows, with repetition.
    """

    rows: int = 0
    classes: list[int]
    confidence: list[int] = field(default_factory=lambda: [0] * CONFIDENCE_BINS)
    lengths: list[int] = field(default_factory=lambda: [0] * LENGTH_BINS)
    characters: int = 0
    words: dict[str, int] = field(default_factory=dict)
    tokens: int = 0


def profile_store(store: Store, learned: LearnedRows) -> dict[str, Any]:
    """Profile of a finished `zsd label` store.

    Args:
        store: the store.
        learned: what production was distilled from.

    Returns:
        ``names`` (K), ``multi_label``, ``digest`` (of the set of texts, whatever their order), ``new_rows`` (how many),
        ``all_unseen`` (why every row counts as unseen; None where that is known of each), and two profiles as
        dictionaries: ``all`` rows, and the ``unseen`` ones.

    Raises:
        StoreError: a file of the store is damaged.
    """
    labels = store.manifest["labels"]
    names, multi_label = list(labels["names"]), bool(labels["multi_label"])
    seen_rows, unseen_rows = _Counter(len(names), multi_label), _Counter(len(names), multi_label)
    digest = TextDigest()
    new_rows = 0
    for table in store.tables(["text", "score", "probs"]):
        new_rows += sum(one["rows"] for one in json.loads(table.schema.metadata[FOOTER_KEY]) if one["pairs"])
        unseen_N = learned.unseen(digest.add(table["text"]))
        seen_rows.add(table.filter(pa.array(~unseen_N)))
        unseen_rows.add(table.filter(pa.array(unseen_N)))
    seen_profile, unseen_profile = seen_rows.profile(), unseen_rows.profile()
    return {
        "names": names,
        "multi_label": multi_label,
        "digest": digest.hex(),
        "new_rows": new_rows,
        "all_unseen": learned.unknown,
        "all": vars(_sum(seen_profile, unseen_profile)),
        "unseen": vars(unseen_profile),
    }


def read_profile(data: dict[str, Any]) -> Profile:
    """One of the two profiles that `profile_store` returns."""
    return Profile(**data)


class _Counter:
    """Counts rows that come table by table."""

    def __init__(self, labels: int, multi_label: bool) -> None:
        self.multi_label = multi_label
        self.counted = Profile(classes=[0] * labels)
        self.words: Counter[str] = Counter()

    def add(self, rows: pa.Table) -> None:
        """Count N rows."""
        if not rows.num_rows:
            return
        counted = self.counted
        probs_NK = matrix(rows["probs"])
        labels = probs_NK.shape[1]
        if self.multi_label:
            classes = (probs_NK >= DECISION).sum(axis=0)
        else:
            classes = np.bincount(probs_NK.argmax(axis=1), minlength=labels)
        counted.classes = _added(counted.classes, classes)
        score_N = rows["score"].to_numpy()
        binned = np.clip((score_N * CONFIDENCE_BINS).astype(np.int64), 0, CONFIDENCE_BINS - 1)
        counted.confidence = _added(counted.confidence, np.bincount(binned, minlength=CONFIDENCE_BINS))
        length_N = pc.utf8_length(rows["text"]).to_numpy().astype(np.int64)
        places = np.clip(np.log2(np.maximum(length_N, 1)).astype(np.int64), 0, LENGTH_BINS - 1)
        counted.lengths = _added(counted.lengths, np.bincount(places, minlength=LENGTH_BINS))
        counted.characters += int(length_N.sum())
        counted.rows += rows.num_rows
        self._count_words(rows["text"])

    def _count_words(self, texts: pa.ChunkedArray) -> None:
        words = pc.list_flatten(pc.split_pattern_regex(pc.utf8_lower(texts), NOT_WORD))
        found = pc.value_counts(words.filter(pc.not_equal(words, "")))
        for word, count in zip(found.field("values").to_pylist(), found.field("counts").to_pylist(), strict=True):
            self.words[word] += count
            self.counted.tokens += count
        if len(self.words) > WORDS_IN_MEMORY:
            self.words = Counter(dict(self.words.most_common(WORDS_IN_MEMORY // 2)))

    def profile(self) -> Profile:
        """What was counted."""
        self.counted.words = _frequent(self.words)
        return self.counted


def _sum(one: Profile, other: Profile) -> Profile:
    return Profile(
        rows=one.rows + other.rows,
        classes=_added(one.classes, other.classes),
        confidence=_added(one.confidence, other.confidence),
        lengths=_added(one.lengths, other.lengths),
        characters=one.characters + other.characters,
        words=_frequent(Counter(one.words) + Counter(other.words)),
        tokens=one.tokens + other.tokens,
    )


def _frequent(words: Counter[str]) -> dict[str, int]:
    """The most frequent words; of equally frequent ones the first by spelling, whatever order they came in."""
    return dict(sorted(words.items(), key=lambda item: (-item[1], item[0]))[:WORDS])


def _added(counts: list[int], more: npt.ArrayLike) -> list[int]:
    total: list[int] = (np.asarray(counts) + np.asarray(more)).tolist()
    return total
