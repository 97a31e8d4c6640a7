"""Reader of comma- and tab-separated files with a header: Python's `csv`, which copes with any bytes, row by row."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from functools import partial

import pyarrow as pa

from zsd.corpus.columns import check_columns
from zsd.corpus.lines import MAX_LINE_BYTES, utf16_error
from zsd.corpus.rows import RawBatch, Refusal
from zsd.corpus.sources import Source
from zsd.errors import CorpusError

FIELD_TOO_LONG = f"field longer than {MAX_LINE_BYTES} characters"
_BATCH_CHARS = 16 * 2**20
_UTF16_MARKS = ("\udcff\udcfe", "\udcfe\udcff")

Record = list[str] | Refusal


def read_csv(
    stream: pa.NativeFile, source: Source, text_column: str, id_column: str | None, batch_rows: int
) -> Iterator[RawBatch]:
    """Rows after the header; quoted fields may hold delimiters and newlines. A blank line is a row without a text.

    Undecodable bytes travel as surrogate escapes and come out as the same bytes again, for `screen` to refuse.

    Raises:
        CorpusError: there is no header, a column is missing or named twice, or the file is UTF-16.
    """
    csv.field_size_limit(MAX_LINE_BYTES)  # for the whole process: Python's default refuses fields above 128 kB
    records = _records(stream, "\t" if source.format == "tsv" else ",")
    header = _header(next(records, None), source.uri)
    check_columns(source.uri, header, text_column, id_column)
    text_at, id_at = header.index(text_column), None if id_column is None else header.index(id_column)
    batch: list[Record] = []
    chars = 0
    for record in records:
        batch.append(record)
        chars += sum(map(len, record))
        if len(batch) >= batch_rows or chars >= _BATCH_CHARS:
            yield _raw_batch(batch, text_column, text_at, id_at)
            batch, chars = [], 0
    if batch:
        yield _raw_batch(batch, text_column, text_at, id_at)


def _records(stream: pa.NativeFile, delimiter: str) -> Iterator[Record]:
    """Parsed rows; a refusal for one that the csv module gives up on (it goes on with the next line)."""
    text = io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline="")
    reader = csv.reader(iter(partial(text.readline, MAX_LINE_BYTES), ""), delimiter=delimiter)
    while True:
        try:
            yield from reader
        except csv.Error as error:
            yield Refusal(FIELD_TOO_LONG if "limit" in str(error) else f"invalid csv: {error}", "")
        else:
            return


def _header(record: Record | None, name: str) -> list[str]:
    if not record or isinstance(record, Refusal):
        raise CorpusError(f"{name}: has no header: the first line must name the columns")
    if record[0].startswith(_UTF16_MARKS):
        raise utf16_error(name)
    return record


def _raw_batch(records: list[Record], text_column: str, text_at: int, id_at: int | None) -> RawBatch:
    refusals: dict[int, Refusal] = {}
    for offset, record in enumerate(records):
        if isinstance(record, Refusal):
            refusals[offset] = record
            records[offset] = []
        elif len(record) <= text_at:
            refusals[offset] = Refusal(f"no field {text_column!r}", "")
    return RawBatch(_column(records, text_at), None if id_at is None else _column(records, id_at), refusals)


def _column(records: list[Record], at: int) -> pa.Array:
    values = [record[at] if len(record) > at else None for record in records]
    try:
        return pa.array(values, pa.large_string()).cast(pa.large_binary())
    except UnicodeEncodeError:
        raw = [None if value is None else value.encode(errors="surrogateescape") for value in values]
        return pa.array(raw, pa.large_binary())
