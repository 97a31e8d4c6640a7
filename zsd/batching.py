"""Premises and hypotheses tokenized once each, assembled into pairs, batched by length under a token budget.

A naive zero-shot pass tokenizes every premise K times and every hypothesis N times and pads to the longest of
whatever happens to stand together. Here each text is tokenized once, the N x K pairs are cut from the two lists
of token ids, sorted by length, and batched so that a batch holds at most a budget of padded tokens.

Legend: N rows, K labels, P = N * K pairs (pair p is row p // K, label p % K), B pairs in a batch, L tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zsd.errors import TeacherError

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class PairLayout:
    """Where a tokenizer puts special tokens around a premise and a hypothesis.

    ``[CLS] premise [SEP] hypothesis [SEP]`` is prefix, premise, middle, hypothesis, suffix. Token type ids are those
    of each part; all 0 where the model knows no token types.
    """

    prefix: tuple[int, ...]
    middle: tuple[int, ...]
    suffix: tuple[int, ...]
    types: tuple[int, int, int, int, int]
    pad_id: int
    inputs: tuple[str, ...]

    @property
    def special_tokens(self) -> int:
        """How many special tokens a pair has."""
        return len(self.prefix) + len(self.middle) + len(self.suffix)


def pair_layout(tokenizer: Any) -> PairLayout:
    """Read the layout off a fast tokenizer and prove it on probe pairs.

    Raises:
        TeacherError: the tokenizer encodes pairs in a way that cannot be assembled from its parts.
    """
    a, b = (tokenizer(word, add_special_tokens=False)["input_ids"] for word in ("one", "two three"))
    encoded = tokenizer("one", "two three", return_token_type_ids=True)
    ids, types = encoded["input_ids"], encoded["token_type_ids"]
    try:
        start_a = _find(ids, a, 0)
        start_b = _find(ids, b, start_a + len(a))
    except ValueError:
        raise TeacherError("the teacher's tokenizer does not keep premise and hypothesis whole in a pair") from None
    end_a, end_b = start_a + len(a), start_b + len(b)
    layout = PairLayout(
        prefix=tuple(ids[:start_a]),
        middle=tuple(ids[end_a:start_b]),
        suffix=tuple(ids[end_b:]),
        types=(_only(types[:start_a]), types[start_a], _only(types[end_a:start_b]), types[start_b], _only(types[end_b:])),
        pad_id=tokenizer.pad_token_id,
        inputs=tuple(tokenizer.model_input_names),
    )
    _prove(tokenizer, layout)
    return layout


def _find(ids: list[int], part: list[int], start: int) -> int:
    for i in range(start, len(ids) - len(part) + 1):
        if ids[i : i + len(part)] == part:
            return i
    raise ValueError


def _only(types: list[int]) -> int:
    if len(set(types)) > 1:
        raise TeacherError("the teacher's tokenizer mixes token types inside one group of special tokens")
    return types[0] if types else 0


def _prove(tokenizer: Any, layout: PairLayout) -> None:
    premises = ["A goal in stoppage time!", "naïve café – 42% 日本", " spaced  out ", "x"]
    hypotheses = ["This text is about sports.", "This example is l'été."]
    pairs = PairSet.build(tokenizer, layout, premises, hypotheses, max_length=64)
    batch = pairs.batch(np.arange(len(pairs)), length=int(pairs.lengths.max()))
    for p in range(len(pairs)):
        expected = tokenizer(premises[p // 2], hypotheses[p % 2], return_token_type_ids=True)
        got = batch["input_ids"][p][: pairs.lengths[p]].tolist()
        types_differ = "token_type_ids" in batch and (
            batch["token_type_ids"][p][: pairs.lengths[p]].tolist() != expected["token_type_ids"]
        )
        if got != expected["input_ids"] or types_differ:
            raise TeacherError("the teacher's tokenizer encodes a pair differently from its parts: zsd cannot batch it")


@dataclass(frozen=True, kw_only=True)
class PairSet:
    """P = N * K pairs over N tokenized premises and K tokenized hypotheses; nothing is stored per pair but a length.

    Attributes:
        premises: N arrays of token ids, without special tokens.
        hypotheses: K arrays of token ids, without special tokens.
        lengths: [P] tokens of each pair after truncation of the premise, special tokens included.
        truncated: rows of which at least one pair was cut.
    """

    layout: PairLayout
    premises: list[IntArray]
    hypotheses: list[IntArray]
    lengths: IntArray
    max_length: int
    truncated: int

    @classmethod
    def build(
        cls, tokenizer: Any, layout: PairLayout, premises: Sequence[str], hypotheses: Sequence[str], *, max_length: int
    ) -> PairSet:
        """Tokenize each premise and each hypothesis once.

        Only the premise is cut where a pair is longer than ``max_length``.

        Raises:
            TeacherError: a hypothesis alone leaves no room for any token of a premise.
        """
        premise_ids = _encode(tokenizer, premises)
        hypothesis_ids = _encode(tokenizer, hypotheses)
        premise_N = np.array([len(ids) for ids in premise_ids], dtype=np.int64)
        hypothesis_K = np.array([len(ids) for ids in hypothesis_ids], dtype=np.int64)
        room_K = max_length - layout.special_tokens - hypothesis_K
        if room_K.min() < 1:
            longest = hypotheses[int(room_K.argmin())]
            raise TeacherError(
                f"hypothesis {longest[:80]!r} has {hypothesis_K.max()} tokens and leaves no room for a text within "
                f"{max_length}: shorten the class name or the template, or raise --max-length"
            )
        kept_NK = np.minimum(premise_N[:, None], room_K[None, :])
        lengths_NK = kept_NK + hypothesis_K[None, :] + layout.special_tokens
        return cls(
            layout=layout,
            premises=premise_ids,
            hypotheses=hypothesis_ids,
            lengths=lengths_NK.reshape(-1),
            max_length=max_length,
            truncated=int((kept_NK < premise_N[:, None]).any(axis=1).sum()),
        )

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, pairs: IntArray, *, length: int, rows: int | None = None) -> dict[str, IntArray]:
        """Padded model inputs of some pairs.

        Args:
            pairs: [B] pair numbers.
            length: L, tokens to pad to; at least the longest pair of the batch.
            rows: pad with repeats of the first pair up to this many (for engines with fixed shapes).

        Returns:
            ``input_ids``, ``attention_mask`` and, where the model takes them, ``token_type_ids``, each [B, L] int64.
        """
        rows = rows or len(pairs)
        layout, labels = self.layout, len(self.hypotheses)
        ids = np.full((rows, length), layout.pad_id, dtype=np.int64)
        types = np.zeros((rows, length), dtype=np.int64)
        prefix, middle, suffix = (np.array(part, dtype=np.int64) for part in (layout.prefix, layout.middle, layout.suffix))
        for b, pair in enumerate(pairs):
            hypothesis = self.hypotheses[pair % labels]
            total = int(self.lengths[pair])
            kept = total - layout.special_tokens - len(hypothesis)
            parts = (prefix, self.premises[pair // labels][:kept], middle, hypothesis, suffix)
            ids[b, :total] = np.concatenate(parts)
            if any(layout.types):
                types[b, :total] = np.repeat(layout.types, [len(part) for part in parts])
        filled = len(pairs)
        ids[filled:], types[filled:] = ids[0], types[0]
        lengths = np.full(rows, self.lengths[pairs[0]])
        lengths[:filled] = self.lengths[pairs]
        arrays = {
            "input_ids": ids,
            "token_type_ids": types,
            "attention_mask": (np.arange(length)[None, :] < lengths[:, None]).astype(np.int64),
        }
        return {name: arrays[name] for name in layout.inputs if name in arrays}


def _encode(tokenizer: Any, texts: Sequence[str]) -> list[IntArray]:
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    return [np.array(e.ids, dtype=np.int64) for e in backend.encode_batch(list(texts), add_special_tokens=False)]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One call of an engine: which pairs, and the shape they are padded to."""

    pairs: IntArray
    rows: int
    length: int


def plan_batches(lengths: IntArray, *, token_budget: int, buckets: Sequence[int] | None = None) -> list[Batch]:
    """Batches over pairs sorted by length, longest first, each of at most ``token_budget`` padded tokens.

    Longest first: memory peaks on the first batch, so a budget that is too large fails at once and not after an hour.

    Args:
        lengths: [P] tokens of each pair.
        token_budget: most padded tokens (B * L) of a batch; a pair longer than it goes alone.
        buckets: the only lengths to pad to, for engines with fixed shapes; every batch of a bucket then has the same
            number of rows, the last one filled up. None: pad to the longest pair, rounded up to 8.

    Returns:
        batches that together hold every pair exactly once.

    Raises:
        ValueError: a pair is longer than the longest bucket.
    """
    order = np.argsort(-lengths, kind="stable")
    if buckets is None:
        padded = -(-lengths // 8) * 8
    else:
        sizes = np.array(sorted(buckets), dtype=np.int64)
        if len(lengths) and lengths.max() > sizes[-1]:
            raise ValueError(f"a pair of {lengths.max()} tokens does not fit the longest bucket, {sizes[-1]}")
        padded = sizes[np.searchsorted(sizes, lengths)]
    batches: list[Batch] = []
    start = 0
    while start < len(order):
        length = int(padded[order[start]])
        rows = max(1, token_budget // length)
        stop = min(start + rows, len(order))
        if buckets is not None:
            while padded[order[stop - 1]] != length:
                stop -= 1
        pairs = order[start:stop]
        batches.append(Batch(pairs=pairs, rows=rows if buckets is not None else len(pairs), length=length))
        start = stop
    return batches


def padding_waste(lengths: IntArray, batches: Sequence[Batch]) -> float:
    """Share of the computed tokens that are padding, in [0, 1)."""
    computed = sum(batch.rows * batch.length for batch in batches)
    return 1.0 - float(lengths.sum()) / computed if computed else 0.0
