"""What a row is: a position in its source and either a usable text (and id) or the reason why it is rejected.

A reader of one format makes `RawBatch`es; `screen` turns each into a `RowBatch`, by the same rules for every format.

Legend: N rows of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from zsd.corpus.normalize import normalize_texts

MAX_TEXT_CHARS = 1_000_000
PREFIX_CHARS = 200
TOO_LONG = f"longer than {MAX_TEXT_CHARS} characters"
INVALID_UTF8 = "invalid UTF-8"


class Refusal(NamedTuple):
    """Why a row cannot be used, and up to `PREFIX_CHARS` characters of its text."""

    reason: str
    prefix: str


class Rejected(NamedTuple):
    """A row that cannot be used: its 0-based number in the source, the reason, a prefix of its text."""

    row: int
    reason: str
    text: str


@dataclass(frozen=True)
class RawBatch:
    """N consecutive rows as a reader found them.

    Args:
        texts: N large_binary values, null where the text is missing or the row is refused.
        ids: the same for the ids; None where there is no id column.
        refusals: rows that the reader itself refused, by their offset in the batch.
    """

    texts: pa.Array
    ids: pa.Array | None
    refusals: dict[int, Refusal]

    def __len__(self) -> int:
        return len(self.texts)

    def head(self, count: int) -> RawBatch:
        """The first `count` rows."""
        kept = {offset: refusal for offset, refusal in self.refusals.items() if offset < count}
        return RawBatch(self.texts[:count], None if self.ids is None else self.ids[:count], kept)


@dataclass(frozen=True)
class RowBatch:
    """Consecutive rows of a source, each either usable or rejected.

    Args:
        rows: int64 numbers of the N usable rows, rising.
        texts: their N normalized texts, large_string.
        ids: their N ids, large_string; None where there is no id column.
        rejected: the other rows, in order.
    """

    rows: npt.NDArray[np.int64]
    texts: pa.Array
    ids: pa.Array | None
    rejected: list[Rejected]

    def __len__(self) -> int:
        return len(self.rows) + len(self.rejected)


def screen(raw: RawBatch, first_row: int) -> RowBatch:
    """Decode, normalize and sort out; row `first_row` of the source is the first of the batch."""
    refusals = dict(raw.refusals)
    texts = _decode(raw.texts, INVALID_UTF8, refusals, None)
    for offset in np.flatnonzero(texts.is_null().to_numpy(zero_copy_only=False)).tolist():
        refusals.setdefault(offset, Refusal("null", ""))
    texts = normalize_texts(texts)
    _refuse_where(pc.equal(pc.binary_length(texts), 0), "empty", refusals, texts)
    _refuse_where(pc.greater(pc.utf8_length(texts), MAX_TEXT_CHARS), TOO_LONG, refusals, texts)
    ids = None if raw.ids is None else _screen_ids(raw.ids, texts, refusals)
    usable = np.ones(len(raw), dtype=bool)
    usable[list(refusals)] = False
    mask = pa.array(usable)
    rejected = [Rejected(first_row + offset, *refusals[offset]) for offset in sorted(refusals)]
    rows = first_row + np.flatnonzero(usable)
    return RowBatch(rows, texts.filter(mask), None if ids is None else ids.filter(mask), rejected)


def _screen_ids(raw_ids: pa.Array, texts: pa.Array, refusals: dict[int, Refusal]) -> pa.Array:
    ids = _decode(raw_ids, "id is invalid UTF-8", refusals, texts)
    _refuse_where(ids.is_null(), "null id", refusals, texts)
    _refuse_where(pc.equal(pc.binary_length(pc.utf8_trim_whitespace(ids)), 0), "empty id", refusals, texts)
    return ids


def _decode(values: pa.Array, reason: str, refusals: dict[int, Refusal], texts: pa.Array | None) -> pa.Array:
    """Large_binary to large_string, null where the bytes are no UTF-8; such rows are refused."""
    try:
        return values.cast(pa.large_string())
    except pa.ArrowInvalid:
        decoded = [_decode_one(value) for value in values.to_pylist()]
    for offset, (value, text) in enumerate(zip(values.to_pylist(), decoded, strict=True)):
        if value is not None and text is None:
            prefix = prefix_of(value) if texts is None else prefix_of(texts[offset].as_py())
            refusals.setdefault(offset, Refusal(reason, prefix))
    return pa.array(decoded, pa.large_string())


def _decode_one(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _refuse_where(mask: pa.Array, reason: str, refusals: dict[int, Refusal], texts: pa.Array) -> None:
    """Refuse the rows where the mask is true and that are not refused yet."""
    for offset in np.flatnonzero(mask.fill_null(False).to_numpy(zero_copy_only=False)).tolist():
        if offset not in refusals:
            refusals[offset] = Refusal(reason, prefix_of(texts[offset].as_py()))


def prefix_of(text: str | bytes | None) -> str:
    """Up to `PREFIX_CHARS` characters that are valid UTF-8, whatever the text holds."""
    if text is None:
        return ""
    if isinstance(text, bytes):
        return text[: 4 * PREFIX_CHARS].decode(errors="replace")[:PREFIX_CHARS]
    return text[:PREFIX_CHARS].encode(errors="replace").decode()
