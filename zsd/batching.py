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

ENCODE_TEXTS = 64
"""Texts tokenized at a time: the tokenizer's own record of a text is a hundred times as large as the text."""


@dataclass(frozen=True, kw_only=True)
class PairLayout:
    """Where a tokenizer puts special tokens around a premise and a hypothesis.

    ``[CLS] premise [SEP] hypothesis [SEP]`` is prefix, premise, middle, hypothesis, suffix. Token type ids are those
    of each part; all 0 where the model knows no token types. ``cut_left``: a long premise loses its beginning.
    """

    prefix: tuple[int, ...]
    middle: tuple[int, ...]
    suffix: tuple[int, ...]
    types: tuple[int, int, int, int, int]
    pad_id: int
    inputs: tuple[str, ...]
    cut_left: bool

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
        types=(
            _only(types[:start_a]),
            types[start_a],
            _only(types[end_a:start_b]),
            types[start_b],
            _only(types[end_b:]),
        ),
        pad_id=tokenizer.pad_token_id,
        inputs=tuple(tokenizer.model_input_names),
        cut_left=tokenizer.truncation_side == "left",
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
        premises: N arrays of token ids, without special tokens, of a long text only what may be used.
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
        hypothesis_ids, hypothesis_K = _encode(tokenizer, hypotheses, slice(None))
        room_K = max_length - layout.special_tokens - hypothesis_K
        if room_K.min() < 1:
            longest = hypotheses[int(room_K.argmin())]
            raise TeacherError(
                f"hypothesis {longest[:80]!r} has {hypothesis_K.max()} tokens and leaves no room for a text within "
                f"{max_length}: shorten the class name or the template, or raise --max-length"
            )
        useful = slice(-max_length, None) if layout.cut_left else slice(max_length)
        premise_ids, premise_N = _encode(tokenizer, premises, useful)
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
            pairs: [B] pair numbers, at least one.
            length: L, tokens to pad to; at least the longest pair of the batch.
            rows: pad with repeats of the first pair up to this many (for engines with fixed shapes).

        Returns:
            ``input_ids``, ``attention_mask`` and, where the model takes them, ``token_type_ids``, each [B, L] int64.
        """
        layout, filled = self.layout, len(pairs)
        ids_BL = np.full((rows or filled, length), layout.pad_id, dtype=np.int64)
        types_BL = np.zeros_like(ids_BL)
        before = len(layout.prefix)
        ids_BL[:, :before] = layout.prefix
        # Slice by slice and not array by array: this loop has to keep up with a GPU.
        for b, (row, label) in enumerate(zip(*np.divmod(pairs, len(self.hypotheses)), strict=True)):
            hypothesis, total = self.hypotheses[label], int(self.lengths[pairs[b]])
            after = total - len(layout.suffix)
            second = after - len(hypothesis)
            first = second - len(layout.middle)
            ids, types = ids_BL[b], types_BL[b]
            ids[before:first] = self._kept(self.premises[row], first - before)
            ids[first:second], ids[second:after], ids[after:total] = layout.middle, hypothesis, layout.suffix
            if any(layout.types):
                types[:before], types[before:first], types[first:second] = layout.types[:3]
                types[second:after], types[after:total] = layout.types[3:]
        mask_BL = np.zeros_like(ids_BL)
        mask_BL[:filled] = np.arange(length) < self.lengths[pairs][:, None]
        for array_BL in (ids_BL, types_BL, mask_BL):
            array_BL[filled:] = array_BL[0]
        arrays = {"input_ids": ids_BL, "token_type_ids": types_BL, "attention_mask": mask_BL}
        return {name: arrays[name] for name in layout.inputs if name in arrays}

    def _kept(self, premise: IntArray, room: int) -> IntArray:
        return premise[len(premise) - room :] if self.layout.cut_left else premise[:room]


def _encode(tokenizer: Any, texts: Sequence[str], keep: slice) -> tuple[list[IntArray], IntArray]:
    """Some of the token ids of each text, without special tokens, and how many each text has."""
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    kept: list[IntArray] = []
    counts: list[int] = []
    for start in range(0, len(texts), ENCODE_TEXTS):
        for encoded in backend.encode_batch(list(texts[start : start + ENCODE_TEXTS]), add_special_tokens=False):
            ids = encoded.ids
            kept.append(np.array(ids[keep], dtype=np.int64))
            counts.append(len(ids))
    return kept, np.array(counts, dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One call of an engine: which pairs, and the shape they are padded to."""

    pairs: IntArray
    rows: int
    length: int


def plan_batches(
    lengths: IntArray, *, token_budget: int, buckets: Sequence[int] | None = None, max_length: int | None = None
) -> list[Batch]:
    """Batches over pairs sorted by length, longest first, each of at most ``token_budget`` padded tokens.

    Longest first: memory peaks on the first batch, so a budget that is too large fails at once and not after an hour.
    A batch that is not full takes pairs of the next shorter bucket rather than repeats: only the last one is filled up.

    Args:
        lengths: [P] tokens of each pair.
        token_budget: most padded tokens (B * L) of a batch; a pair longer than it goes alone.
        buckets: the only lengths to pad to, for engines with fixed shapes; every batch of a length then has the same
            number of rows, the last one filled up. None: pad to the longest pair, rounded up to 8.
        max_length: most tokens the model takes, which the rounding keeps to.

    Returns:
        batches that together hold every pair exactly once.

    Raises:
        ValueError: a pair is longer than the longest bucket.
    """
    order = np.argsort(-lengths, kind="stable")
    if buckets is None:
        padded = -(-lengths // 8) * 8
        if max_length is not None:
            # A position table may end at any number: the pad tokens must not reach past it.
            padded = np.maximum(np.minimum(padded, max_length), lengths)
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
        pairs = order[start : start + rows]
        batches.append(Batch(pairs=pairs, rows=len(pairs) if buckets is None else rows, length=length))
        start += len(pairs)
    return batches


def padding_waste(lengths: IntArray, batches: Sequence[Batch]) -> float:
    """Share of the computed tokens that are padding, in [0, 1)."""
    computed = sum(batch.rows * batch.length for batch in batches)
    return 1.0 - float(lengths.sum()) / computed if computed else 0.0
