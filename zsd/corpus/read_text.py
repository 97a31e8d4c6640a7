"""Readers of one row a line: plain text and JSON lines.

Legend: N rows of a batch.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from zsd.corpus.lines import LINE_TOO_LONG, overlong, read_lines
from zsd.corpus.rows import INVALID_UTF8, RawBatch, Refusal, prefix_of
from zsd.errors import CorpusError

NO_KEY = "no key"
"""What the reason begins with where an object has no text or no id."""

TOGETHER = 64
"""Lines of JSON that are parsed in one call, where all of them are good."""

_MARK = secrets.token_hex(16)
_BETWEEN = f',"{_MARK}",'.encode()


def read_txt(stream: pa.NativeFile, name: str, id_column: str | None, batch_rows: int) -> Iterator[RawBatch]:
    """One row a line; a newline at the end of the file makes no further row.

    Raises:
        CorpusError: an id column is asked for, or the file `name` is UTF-16.
    """
    if id_column is not None:
        raise CorpusError(f"{name}: a txt file has no column {id_column!r}: leave out --id-column, or use csv or jsonl")
    for lines in _batches(stream, name, batch_rows):
        refusals = {offset: _line_too_long(lines, offset) for offset in overlong(lines)}
        yield RawBatch(_with_nulls(lines, refusals), None, refusals)


def read_jsonl(
    stream: pa.NativeFile, name: str, text_column: str, id_column: str | None, batch_rows: int
) -> Iterator[RawBatch]:
    """One JSON object a line.

    Raises:
        CorpusError: the file `name` is UTF-16.
    """
    for lines in _batches(stream, name, batch_rows):
        refusals = {offset: _line_too_long(lines, offset) for offset in overlong(lines)}
        texts: list[str | None] = []
        ids: list[str | None] = []
        raw, cut = lines.to_numpy(zero_copy_only=False), list(refusals)
        for start in range(0, len(raw), TOGETHER):
            some = raw[start : start + TOGETHER]
            has_cut = any(start <= offset < start + TOGETHER for offset in cut)
            good = None if has_cut else _parse_together(some, text_column, id_column)
            if good is None:
                good = _parse_each(some, start, text_column, id_column, refusals)
            texts += good[0]
            ids += good[1]
        yield RawBatch(_binary(texts), None if id_column is None else _binary(ids), refusals)


Columns = tuple[Sequence[str | None], Sequence[str | None]]


def _parse_together(lines: Sequence[bytes], text_column: str, id_column: str | None) -> Columns | None:
    """Texts and ids of lines of which nothing is to be refused, in one call of the parser; None where something is.

    Between two lines goes a string that no file knows, so that lines which are JSON only together are found out.
    """
    try:
        parsed = json.loads(f"[{_BETWEEN.join(lines).decode()}]")
        rows = parsed[::2]
        texts = [row[text_column] for row in rows]
        ids = [] if id_column is None else [row[id_column] for row in rows]
    except (ValueError, RecursionError, KeyError, TypeError, IndexError):
        return None
    whole = len(rows) == len(lines) and parsed[1::2] == [_MARK] * (len(lines) - 1)
    plain = {*map(type, rows)} == {dict} and {*map(type, texts)} == {str} and {*map(type, ids)} <= {str, int}
    ids = [str(one) for one in ids]
    if not whole or not plain or _has_surrogate("".join(texts + ids)):
        return None
    return texts, ids or [None] * len(lines)


def _parse_each(
    lines: Sequence[bytes], start: int, text_column: str, id_column: str | None, refusals: dict[int, Refusal]
) -> Columns:
    """The same line by line; what is refused is added to `refusals`, by its offset in the batch from `start` on."""
    texts: list[str | None] = [None] * len(lines)
    ids: list[str | None] = [None] * len(lines)
    for offset, line in enumerate(lines):
        if start + offset in refusals:
            continue
        parsed = _parse(line, text_column, id_column)
        if isinstance(parsed, Refusal):
            refusals[start + offset] = parsed
        else:
            texts[offset], ids[offset] = parsed
    return texts, ids


def keys_there_are(stream: pa.NativeFile, name: str) -> list[str]:
    """The keys of the first JSON object among the first lines; none where there is none."""
    lines = next(read_lines(stream, name), pa.array([], pa.large_binary()))[:TOGETHER]
    for line in lines.to_pylist():
        try:
            row = json.loads(line.decode())
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            return list(row)
    return []


def _batches(stream: pa.NativeFile, name: str, batch_rows: int) -> Iterator[pa.Array]:
    for block in read_lines(stream, name):
        for start in range(0, len(block), batch_rows):
            yield block[start : start + batch_rows]


def _binary(values: Sequence[str | None]) -> pa.Array:
    return pa.array(values, pa.large_string()).cast(pa.large_binary())


def _line_too_long(lines: pa.Array, offset: int) -> Refusal:
    return Refusal(LINE_TOO_LONG, prefix_of(bytes(memoryview(lines[offset].as_buffer())[:800])))


def _with_nulls(lines: pa.Array, refusals: dict[int, Refusal]) -> pa.Array:
    if not refusals:
        return lines
    return pa.array([None if i in refusals else line for i, line in enumerate(lines.to_pylist())], pa.large_binary())


def _parse(line: bytes, text_column: str, id_column: str | None) -> tuple[str, str | None] | Refusal:
    """Text and id of a line; a text or id that UTF-8 cannot hold (a lone surrogate) is refused."""
    line = line.rstrip(b"\r\n")
    try:
        row = json.loads(line.decode())
    except UnicodeDecodeError:
        return Refusal(INVALID_UTF8, prefix_of(line))
    except (ValueError, RecursionError):
        return Refusal("invalid JSON" if line.strip() else "empty", prefix_of(line))
    if not isinstance(row, dict):
        return Refusal(f"not a JSON object: {_kind(row)}", prefix_of(line))
    if text_column not in row:
        return Refusal(f"{NO_KEY} {text_column!r}", prefix_of(line))
    text = row[text_column]
    if text is None:
        return Refusal("null", "")
    if not isinstance(text, str):
        return Refusal(f"not text: {_kind(text)}", prefix_of(json.dumps(text)))
    if _has_surrogate(text):
        return Refusal("lone surrogate", prefix_of(text))
    if id_column is None:
        return text, None
    return _with_id(text, row, id_column)


def _with_id(text: str, row: dict[str, Any], id_column: str) -> tuple[str, str] | Refusal:
    value = row.get(id_column)
    if value is None:
        return Refusal("null id" if id_column in row else f"{NO_KEY} {id_column!r}", prefix_of(text))
    if isinstance(value, bool) or not isinstance(value, str | int):
        return Refusal(f"id is not text or an integer: {_kind(value)}", prefix_of(text))
    if isinstance(value, str) and _has_surrogate(value):
        return Refusal("lone surrogate in the id", prefix_of(text))
    return text, str(value)


def _has_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _kind(value: Any) -> str:
    """What JSON calls the type of a value."""
    if isinstance(value, bool):
        return "boolean"
    return {str: "string", int: "number", float: "number", list: "array", dict: "object"}.get(type(value), "null")
