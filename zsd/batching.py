"""Premises and hypotheses tokenized once each, assembled into pairs.

A naive zero-shot pass tokenizes every premise K times and every hypothesis N times and pads to the longest of
whatever happens to stand together. Here each text is tokenized once, the N x K pairs are cut from the two lists
of token ids; `zsd.planning` says which of them run together.

Legend: N rows, K labels, W premises (N, and more where long texts are windowed), P = W * K pairs (pair p is premise
p // K, label p % K), B pairs in a batch, L tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zsd.errors import TeacherError
from zsd.ragged import Ragged, spans
from zsd.windows import window_starts

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
    """P = W * K pairs over W tokenized premises and K tokenized hypotheses; nothing is stored per pair but a length.

    Attributes:
        premises: W lists of token ids, without special tokens, of a long text only what may be used. W = N, but that
            every window of a text that is windowed is a premise of its own.
        tails: K lists of token ids: what follows the premise, that is middle, hypothesis and suffix.
        tail_types: token types of the tails, in their order.
        rows: [W] the row each premise belongs to, ascending.
        lengths: [P] tokens of each pair after truncation of the premise, special tokens included.
        truncated: rows of which at least one pair was cut.
        windowed: rows that are scored in more than one window.
    """

    layout: PairLayout
    premises: Ragged
    tails: Ragged
    tail_types: IntArray
    rows: IntArray
    lengths: IntArray
    max_length: int
    truncated: int
    windowed: int

    @classmethod
    def build(
        cls,
        tokenizer: Any,
        layout: PairLayout,
        premises: Sequence[str],
        hypotheses: Sequence[str],
        *,
        max_length: int,
        windows: bool = False,
    ) -> PairSet:
        """Tokenize each premise and each hypothesis once.

        Only the premise is cut where a pair is longer than ``max_length``. With `windows` a premise that does not fit
        beside every hypothesis is split instead, into windows that do (`zsd.windows`).

        Raises:
            TeacherError: a hypothesis alone leaves no room for any token of a premise.
        """
        hypothesis_ids, hypothesis_K = _encode(tokenizer, hypotheses, slice(None))
        room_K = max_length - layout.special_tokens - hypothesis_K
        room = int(room_K.min())
        if room < 1:
            longest = hypotheses[int(room_K.argmin())]
            raise TeacherError(
                f"hypothesis {longest[:80]!r} has {hypothesis_K.max()} tokens and leaves no room for a text within "
                f"{max_length}: shorten the class name or the template, or raise --max-length"
            )
        useful = slice(None) if windows else slice(-max_length, None) if layout.cut_left else slice(max_length)
        premise_ids, premise_N = _encode(tokenizer, premises, useful)
        whole = Ragged.of(premise_ids)
        rows, cut = _windows(whole, room) if windows else (np.arange(len(whole)), whole)
        kept_WK = np.minimum((cut.counts if windows else premise_N)[:, None], room_K[None, :])
        lengths_WK = kept_WK + hypothesis_K[None, :] + layout.special_tokens
        long = int((premise_N > room).sum())
        tails = [np.array([*layout.middle, *ids, *layout.suffix], dtype=np.int64) for ids in hypothesis_ids]
        middle, second, suffix = layout.types[2:]
        tail_types = [
            np.repeat([middle, second, suffix], [len(layout.middle), len(ids), len(layout.suffix)])
            for ids in hypothesis_ids
        ]
        return cls(
            layout=layout,
            premises=cut,
            tails=Ragged.of(tails),
            tail_types=np.concatenate(tail_types),
            rows=rows,
            lengths=lengths_WK.reshape(-1),
            max_length=max_length,
            truncated=0 if windows else long,
            windowed=long if windows else 0,
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
        before = len(layout.prefix)
        window_B, label_B = np.divmod(pairs, len(self.tails))
        tail_B = self.tails.counts[label_B]
        kept_B = self.lengths[pairs] - before - tail_B
        skipped_B = self.premises.counts[window_B] - kept_B if layout.cut_left else 0
        # All tokens of the batch at once, without a loop over pairs: this has to keep up with a GPU.
        firsts = spans(np.arange(filled) * length + before, kept_B)
        seconds = spans(np.arange(filled) * length + before + kept_B, tail_B)
        tails = spans(self.tails.starts[label_B], tail_B)
        ids_BL = np.full((rows or filled, length), layout.pad_id, dtype=np.int64)
        ids_BL[:, :before] = layout.prefix
        ids_BL.reshape(-1)[firsts] = self.premises.values[spans(self.premises.starts[window_B] + skipped_B, kept_B)]
        ids_BL.reshape(-1)[seconds] = self.tails.values[tails]
        mask_BL = np.zeros_like(ids_BL)
        mask_BL[:filled] = np.arange(length) < self.lengths[pairs][:, None]
        arrays = {"input_ids": ids_BL, "attention_mask": mask_BL}
        if "token_type_ids" in layout.inputs:
            types_BL = np.zeros_like(ids_BL)
            types_BL[:, :before] = layout.types[0]
            types_BL.reshape(-1)[firsts] = layout.types[1]
            types_BL.reshape(-1)[seconds] = self.tail_types[tails]
            arrays["token_type_ids"] = types_BL
        for array_BL in arrays.values():
            array_BL[filled:] = array_BL[0]
        return {name: arrays[name] for name in layout.inputs if name in arrays}


def _windows(texts: Ragged, room: int) -> tuple[IntArray, Ragged]:
    """The row of every window, and the windows, which share the texts' tokens."""
    offsets = [np.array(window_starts(int(count), room), dtype=np.int64) for count in texts.counts]
    rows = np.repeat(np.arange(len(texts)), [len(one) for one in offsets])
    starts = np.concatenate([np.empty(0, dtype=np.int64), *offsets]) + texts.starts[rows]
    return rows, Ragged(values=texts.values, starts=starts, counts=np.minimum(texts.counts[rows], room))


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
