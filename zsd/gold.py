"""Rows with gold labels, for measuring only. Unlike a corpus, every row counts: a bad one is an error.

Legend: N rows, K labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.json as pajson
import pyarrow.parquet as pq

from zsd import storage
from zsd.corpus import Source, normalize_texts, resolve_sources
from zsd.errors import CorpusError
from zsd.evaluation import parse_gold
from zsd.inference import IntArray


@dataclass(frozen=True, kw_only=True)
class GoldRows:
    """N texts, and their gold labels where there are any.

    Attributes:
        texts: N normalized texts.
        gold: gold_N class indices, gold_NK of 0 and 1 for multi-label, or None without a label column.
    """

    texts: list[str]
    gold: IntArray | None


def read_gold(
    data: Sequence[str],
    *,
    text_column: str,
    label_column: str,
    names: Sequence[str],
    multi_label: bool,
    limit: int | None = None,
    required: bool = True,
) -> GoldRows:
    """Read texts and gold labels.

    Args:
        data: files, folders, globs or URIs.
        text_column: column of the text.
        label_column: column of the label; see `zsd.evaluation.parse_gold` for what it may hold.
        names: K class names.
        multi_label: whether labels are lists.
        limit: only the first rows.
        required: whether a missing label column is an error; otherwise ``gold`` is None.

    Raises:
        CorpusError: a file cannot be read, a column is missing, a text is empty or no text, or there is no row.
        InputError: a label is not one of the classes.
    """
    texts: list[str] = []
    labels: list[object] = []
    for source in resolve_sources(data):
        for table in _tables(source):
            if text_column not in table.column_names:
                raise CorpusError(_missing(source, table, text_column, "--text-column"))
            here = label_column in table.column_names
            if not here and (required or labels):
                raise CorpusError(_missing(source, table, label_column, "--label-column"))
            if here and len(labels) < len(texts):
                raise CorpusError(f"{source.uri}: has a column {label_column!r}, the files before it have none")
            texts += _texts(source, table[text_column], len(texts))
            labels += table[label_column].to_pylist() if here else []
        if limit is not None and len(texts) >= limit:
            break
    if not texts:
        raise CorpusError(f"{', '.join(data)}: holds no row: give a file with at least one")
    gold = parse_gold(labels[:limit], names, multi_label=multi_label) if labels else None
    return GoldRows(texts=texts[:limit], gold=gold)


def _tables(source: Source) -> Iterator[pa.Table]:
    place = storage.resolve(source.uri)
    try:
        if source.format == "parquet":
            with place.fs.open_input_file(place.path) as file:
                yield pq.read_table(file)
        elif source.format == "datasets":
            yield from _dataset_tables(place.path)
        else:
            compression = source.compression or None
            with place.fs.open_input_stream(place.path, compression=compression) as stream:
                if source.format == "txt":
                    lines = stream.read().decode("utf-8-sig").split("\n")
                    yield pa.table({"text": pa.array([line for line in lines if line.strip()], pa.string())})
                elif source.format == "jsonl":
                    yield pajson.read_json(stream)
                else:
                    options = pacsv.ParseOptions(delimiter="\t" if source.format == "tsv" else ",", newlines_in_values=True)
                    yield pacsv.read_csv(stream, parse_options=options)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{source.uri}: cannot be read as {source.format}: {storage.first_line(error)}") from None


def _dataset_tables(folder: str) -> Iterator[pa.Table]:
    import datasets

    for batch in datasets.load_from_disk(folder).with_format("arrow").iter(10_000):
        yield batch


def _texts(source: Source, column: pa.ChunkedArray, before: int) -> list[str]:
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise CorpusError(f"{source.uri}: the text column holds {column.type}, not text: check --text-column")
    texts = normalize_texts(column.cast(pa.large_string()).combine_chunks())
    bad = pc.fill_null(pc.equal(pc.utf8_length(texts), 0), True)
    row = pc.index(bad, True).as_py()
    if row >= 0:
        raise CorpusError(f"{source.uri}: row {before + row} has no text: drop it, or check --text-column")
    result: list[str] = texts.to_pylist()
    return result


def _missing(source: Source, table: pa.Table, column: str, flag: str) -> str:
    return f"{source.uri}: has no column {column!r}, only {', '.join(table.column_names)}: name it with {flag}"
