"""Rows of any source: dispatch by format, then the same screening for all."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from zsd import storage
from zsd.corpus.read_csv import read_csv
from zsd.corpus.read_tables import read_parquet, read_saved_dataset
from zsd.corpus.read_text import keys_there_are, read_jsonl, read_txt
from zsd.corpus.rows import RawBatch, RowBatch, screen
from zsd.corpus.sources import DATASETS, Source
from zsd.errors import CorpusError

BATCH_ROWS = 8192


def read_rows(
    source: Source,
    *,
    text_column: str,
    id_column: str | None = None,
    batch_rows: int = BATCH_ROWS,
    limit: int | None = None,
) -> Iterator[RowBatch]:
    """All rows of a source in order, in batches, in bounded memory.

    Args:
        source: what to read.
        text_column: the column, or key, of the text; a txt file has only lines.
        id_column: the column, or key, of the id, if there is one.
        batch_rows: most rows in a batch.
        limit: read only that many rows.

    Raises:
        CorpusError: the file is not what its ending says, or lacks a column.
    """
    first_row = 0
    try:
        for raw in _read_raw(source, text_column, id_column, batch_rows):
            kept = raw if limit is None else raw.head(limit - first_row)
            if len(kept):
                yield screen(kept, first_row)
            first_row += len(kept)
            if first_row == limit:
                return
    except (OSError, pa.ArrowException) as error:
        told = storage.first_line(error)
        raise CorpusError(f"{source.uri}: cannot be read as {source.format}: {told}: check or replace it") from error


def jsonl_keys(source: Source) -> list[str]:
    """The keys of the first object of a jsonl file, for an error; none where there is none."""
    place = storage.resolve(source.uri)
    with place.fs.open_input_stream(place.path, compression=source.compression, buffer_size=2**20) as stream:
        return keys_there_are(stream, source.uri)


def _read_raw(source: Source, text_column: str, id_column: str | None, batch_rows: int) -> Iterator[RawBatch]:
    place = storage.resolve(source.uri)
    if source.format == DATASETS:
        yield from read_saved_dataset(source.uri, text_column, id_column, batch_rows)
        return
    if source.format == "parquet":
        with place.fs.open_input_file(place.path) as file:
            yield from read_parquet(file, source.uri, text_column, id_column, batch_rows)
        return
    with place.fs.open_input_stream(place.path, compression=source.compression, buffer_size=2**20) as stream:
        if source.format == "txt":
            yield from read_txt(stream, source.uri, id_column, batch_rows)
        elif source.format == "jsonl":
            yield from read_jsonl(stream, source.uri, text_column, id_column, batch_rows)
        else:
            yield from read_csv(stream, source, text_column, id_column, batch_rows)
