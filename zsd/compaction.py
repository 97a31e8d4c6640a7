"""Many small parts of one shard become few files of a sensible size, without ever being in neither form.

The merged file is written whole under the name of all it holds; from then on its pieces are redundant (`zsd.units`)
and deleted. Whatever dies in between, the next look at the folder settles it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from zsd import storage
from zsd.corpus.reduce import chunked
from zsd.errors import StoreError
from zsd.shards import describe_file, footer_of
from zsd.units import Part

ROW_GROUP_ROWS = 16_384
"""Rows of a row group of a merged file: what a reader that streams has in memory."""


@dataclass(frozen=True, kw_only=True)
class Merge:
    """Neighbouring parts that become one file.

    Args:
        directory: the store's folder.
        parts: at least two, in order, of one shard, without a gap.
    """

    directory: str
    parts: tuple[Part, ...]

    @property
    def name(self) -> str:
        """Name of the file they become."""
        first, last = self.parts[0], self.parts[-1]
        return f"part-{first.stem}-{first.first:06d}-{last.stop:06d}.parquet"


def plan_merges(directory: str, parts: Sequence[Part], rows: Mapping[str, int], *, target_rows: int) -> list[Merge]:
    """Which parts go together: neighbours, until a file has as many rows as it should.

    Args:
        directory: the store's folder.
        parts: all parts, in order.
        rows: rows of each, by file name.
        target_rows: rows that a file should have; one part that has more stays as it is.
    """
    groups: list[list[Part]] = []
    size = 0
    for part in parts:
        last = groups[-1][-1] if groups else None
        neighbours = last is not None and last.stem == part.stem and last.stop == part.first
        if not neighbours or size + rows[part.name] > target_rows:
            groups.append([])
            size = 0
        groups[-1].append(part)
        size += rows[part.name]
    return [Merge(directory=directory, parts=tuple(group)) for group in groups if len(group) > 1]


def merge(asked: Merge) -> str:
    """Write one file of several parts, then delete those; returns its name.

    Memory: one part and the compressed file.

    Raises:
        StoreError: a part is damaged.
    """
    if storage.exists(storage.join(asked.directory, asked.name)):
        return asked.name  # an earlier attempt wrote it; what it did not delete is redundant
    records = [record for part in asked.parts for record in describe_file(asked.directory, part.name).records]
    footer = footer_of(records)
    schema = _read(asked, asked.parts[0]).schema.with_metadata(footer)
    with (
        storage.open_atomic(storage.join(asked.directory, asked.name)) as file,
        pq.ParquetWriter(
            file, schema, compression="zstd", use_dictionary=["label"], write_page_checksum=True
        ) as writer,
    ):
        for table in chunked((_read(asked, part) for part in asked.parts), ROW_GROUP_ROWS):
            writer.write_table(table.replace_schema_metadata(footer))
    for part in asked.parts:
        storage.delete_file(storage.join(asked.directory, part.name))
    return asked.name


def _read(asked: Merge, part: Part) -> pa.Table:
    uri = storage.join(asked.directory, part.name)
    try:
        return storage.read_parquet(uri).replace_schema_metadata(None)
    except (pa.ArrowException, OSError) as error:
        raise StoreError(
            f"{uri}: cannot be read ({storage.first_line(error)}): run the same command again; if that does not help "
            "the file is damaged: zsd verify --repair puts it aside, and the command makes it again"
        ) from None
