"""Readers of typed tables: parquet files and folders saved by `datasets`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pt

from zsd.corpus.columns import check_columns
from zsd.corpus.rows import PREFIX_CHARS, RawBatch, Refusal
from zsd.errors import CorpusError
from zsd.storage import first_line

_BATCH_BYTES = 32 * 2**20


def read_parquet(
    file: pa.NativeFile, name: str, text_column: str, id_column: str | None, batch_rows: int
) -> Iterator[RawBatch]:
    """Rows of a parquet file; only the two columns are read.

    Raises:
        CorpusError: a column is missing or named twice.
    """
    with pq.ParquetFile(file) as parquet:
        check_columns(name, parquet.schema_arrow.names, text_column, id_column)
        columns = [text_column] if id_column is None else [text_column, id_column]
        stored = parquet.metadata
        size = sum(stored.row_group(i).total_byte_size for i in range(stored.num_row_groups))
        batch_rows = min(batch_rows, _rows_of_a_batch(stored.num_rows, size))
        for batch in parquet.iter_batches(batch_size=batch_rows, columns=list(dict.fromkeys(columns))):
            yield _raw_batch(batch, text_column, id_column)


def read_saved_dataset(folder: str, text_column: str, id_column: str | None, batch_rows: int) -> Iterator[RawBatch]:
    """Rows of one split that `datasets.save_to_disk` wrote; it is memory-mapped.

    Raises:
        CorpusError: a column is missing, or the folder cannot be loaded.
    """
    from datasets import load_from_disk  # seconds to import, and few corpora need it

    try:
        dataset: Any = load_from_disk(folder)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise CorpusError(f"{folder}: not a folder that `datasets` can load: {first_line(error)}") from error
    check_columns(folder, dataset.column_names, text_column, id_column)
    columns = [text_column] if id_column is None else [text_column, id_column]
    chosen = dataset.select_columns(list(dict.fromkeys(columns))).with_format("arrow")
    batch_rows = min(batch_rows, _rows_of_a_batch(len(dataset), dataset.data.nbytes))
    for table in chosen.iter(batch_size=batch_rows):
        for batch in table.to_batches():
            yield _raw_batch(batch, text_column, id_column)


def _rows_of_a_batch(rows: int, size: int) -> int:
    """How many rows take about `_BATCH_BYTES` when `rows` of them take `size` bytes."""
    return max(1, _BATCH_BYTES * rows // max(size, 1))


def _raw_batch(batch: pa.RecordBatch, text_column: str, id_column: str | None) -> RawBatch:
    refusals: dict[int, Refusal] = {}
    texts = _bytes_of(_plain(batch[text_column]), "not text", refusals)
    if id_column is None:
        return RawBatch(texts, None, refusals)
    ids = _plain(batch[id_column])
    if pt.is_integer(ids.type):
        ids = ids.cast(pa.large_string())
    return RawBatch(texts, _bytes_of(ids, "id is not text or an integer", refusals), refusals)


def _plain(column: pa.Array) -> pa.Array:
    """The column without a dictionary or an extension type around it."""
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    return column.dictionary_decode() if pt.is_dictionary(column.type) else column


def _bytes_of(column: pa.Array, reason: str, refusals: dict[int, Refusal]) -> pa.Array:
    """The column as large_binary; if its type is not string or binary, every row that is not null is refused."""
    kind = column.type
    if pt.is_string_view(kind) or pt.is_binary_view(kind) or pt.is_fixed_size_binary(kind):
        column = column.cast(pa.binary())
    if pt.is_null(kind) or pt.is_binary(column.type) or pt.is_large_binary(column.type) or _is_string(kind):
        return column.cast(pa.large_binary())
    valid = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False)).tolist()
    for offset, prefix in zip(valid, _shown(column.drop_null()), strict=True):
        refusals.setdefault(offset, Refusal(f"{reason}: {kind}", prefix))
    return pa.nulls(len(column), pa.large_binary())


def _is_string(kind: pa.DataType) -> bool:
    return bool(pt.is_string(kind) or pt.is_large_string(kind))


def _shown(column: pa.Array) -> list[str]:
    """The values as text, as far as Arrow can write them."""
    try:
        return list(pc.utf8_slice_codeunits(column.cast(pa.large_string()), 0, PREFIX_CHARS).to_pylist())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return [""] * len(column)
