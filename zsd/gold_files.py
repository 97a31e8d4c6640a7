"""Files of texts and gold labels, of every format that a corpus may have, to rows.

`zsd.corpus` reads rows that may be bad, millions of them and texts only; here each counts, and a label has a type.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from zsd import storage
from zsd.corpus import Source
from zsd.errors import CorpusError

Row = tuple[Any, Any]
"""Text and gold label; the label is `ABSENT` where the file has no such column."""
ABSENT = object()
Check = Callable[[Sequence[str]], None]
"""Is given the names of a file's columns."""
LONGEST_FIELD = 1 << 30


def read_file(source: Source, check: Check, text: str, label: str, limit: int | None) -> list[Row]:
    """The first rows of a file, as they are; all without a limit.

    Args:
        source: a file of the corpus formats, or a folder of `datasets`.
        check: is given the names of its columns, and raises where they will not do.
        text: column of the text; a txt file has only lines.
        label: column of the label.
        limit: most rows.

    Raises:
        CorpusError: it cannot be read.
    """
    place = storage.resolve(source.uri)
    try:
        if source.format == "datasets":
            return list(islice(_dataset_rows(place.path, check, text, label), limit))
        if source.format == "parquet":
            with place.fs.open_input_file(place.path) as file, pq.ParquetFile(file) as parquet:
                return list(islice(_parquet_rows(parquet, check, text, label), limit))
        with place.fs.open_input_stream(place.path, compression=source.compression) as stream:
            lines = io.TextIOWrapper(stream, "utf-8-sig", newline="" if source.format in ("csv", "tsv") else "\n")
            if source.format == "txt":
                rows: Iterator[Row] = ((line, ABSENT) for line in lines if line.strip())
                check([text])
            elif source.format == "jsonl":
                rows = _json_rows(lines, check, text, label)
            else:
                rows = _csv_rows(lines, "\t" if source.format == "tsv" else ",", check, text, label)
            return list(islice(rows, limit))
    except (pa.ArrowException, OSError, ValueError, csv.Error, EOFError) as error:
        told = storage.first_line(error)
        raise CorpusError(f"{source.uri}: cannot be read as {source.format}: {told}: check or replace it") from None


def _csv_rows(lines: io.TextIOWrapper, delimiter: str, check: Check, text: str, label: str) -> Iterator[Row]:
    csv.field_size_limit(LONGEST_FIELD)  # for the whole process: Python's default refuses fields above 128 kB
    reader = csv.reader(lines, delimiter=delimiter)
    header = next(reader, None)
    if header is None:
        return
    check(header)
    text_at, label_at = header.index(text), header.index(label) if label in header else None
    for record in reader:
        if not record:
            continue
        if len(record) != len(header):
            raise ValueError(f"line {reader.line_num} has {len(record)} fields, the header {len(header)}")
        yield record[text_at], ABSENT if label_at is None else record[label_at]


def _json_rows(lines: io.TextIOWrapper, check: Check, text: str, label: str) -> Iterator[Row]:
    labelled: bool | None = None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is no JSON object")
        if labelled is None:
            check(list(row))
            labelled = label in row
        elif not labelled and label in row:
            raise ValueError(f"line {number} has {label!r}, the lines before it have none")
        yield row.get(text), row.get(label) if labelled else ABSENT


def _parquet_rows(parquet: pq.ParquetFile, check: Check, text: str, label: str) -> Iterator[Row]:
    schema = parquet.schema_arrow
    check(schema.names)
    labelled = label in schema.names
    features = None
    if labelled and b"huggingface" in (schema.metadata or {}):
        import datasets

        features = datasets.Features.from_arrow_schema(schema)[label]
    columns = [text, label] if labelled else [text]
    for batch in parquet.iter_batches(columns=list(dict.fromkeys(columns))):
        yield from _batch_rows(batch, text, label if labelled else None, features)


def _dataset_rows(folder: str, check: Check, text: str, label: str) -> Iterator[Row]:
    import datasets

    dataset = datasets.load_from_disk(folder)
    check(dataset.column_names)
    labelled = label in dataset.column_names
    features = dataset.features[label] if labelled else None
    for table in dataset.with_format("arrow").iter(10_000):
        yield from _batch_rows(table, text, label if labelled else None, features)


def _batch_rows(batch: pa.Table | pa.RecordBatch, text: str, label: str | None, features: Any) -> Iterator[Row]:
    texts = batch.column(text).to_pylist()
    if label is None:
        return ((one, ABSENT) for one in texts)
    return zip(texts, (_named(one, features) for one in batch.column(label).to_pylist()), strict=True)


def _named(value: Any, feature: Any) -> Any:
    """The names that a `ClassLabel` gives to its numbers: their order need not be that of the student's classes."""
    if isinstance(value, list):
        return [_named(one, getattr(feature, "feature", None)) for one in value]
    names = getattr(feature, "names", None)
    return names[value] if names and isinstance(value, int) and 0 <= value < len(names) else value
