"""What a job left, as bytes that can be compared: every row of every output, sorted, whatever the files are called."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from zsd import storage
from zsd.shards import SOFT_LABELS, Store
from zsd.units import parse_part

SORT_BY = {"soft_labels": ["id"], "rejected": ["source", "row"], "duplicates": ["source", "row"]}


def digest(table: pa.Table, by: list[str]) -> str:
    """Of the rows, sorted: equal for two tables only if every byte of every value is."""
    order = [(name, "ascending") for name in by]
    sink = pa.BufferOutputStream()
    rows = table.replace_schema_metadata(None).sort_by(order).combine_chunks()
    pq.write_table(rows, sink, compression="none", use_dictionary=False, row_group_size=1 << 20)
    return hashlib.blake2b(sink.getvalue(), digest_size=16).hexdigest()


def content(output: str) -> dict[str, tuple[int, str]]:
    """Rows and digest of the soft labels, the rejected rows and the duplicates of a finished job."""
    store = Store(output)
    tables = {SOFT_LABELS: pa.concat_tables(store.tables())}
    for folder in ("rejected", "duplicates"):
        directory = storage.join(output, folder)
        found = [storage.read_parquet(storage.join(directory, name)) for name in storage.list_names(directory, "part-")]
        if found:
            tables[folder] = pa.concat_tables([one.cast(found[0].schema) for one in found])
    return {name: (table.num_rows, digest(table, SORT_BY[name])) for name, table in tables.items()}


class Reference:
    """The uninterrupted job's output, to hold others against.

    Args:
        output: its directory.
    """

    def __init__(self, output: str) -> None:
        self.content = content(output)
        self._rows = pa.concat_tables(Store(output).tables()).replace_schema_metadata(None)

    def differences(self, output: str) -> list[str]:
        """In which outputs a finished job is not the same; none where it is."""
        found, expected = content(output), self.content
        names = sorted(name for name in expected.keys() | found.keys() if found.get(name) != expected.get(name))
        return [f"{name}: {found.get(name)} and not {expected.get(name)}" for name in names]

    def check_unfinished(self, directory: Path) -> int:
        """Every file of an unfinished store holds rows of the reference, byte for byte; how many rows these are.

        Raises:
            AssertionError: one does not.
        """
        rows = 0
        for file in sorted(directory.glob("part-*.parquet")):
            assert parse_part(file.name) is not None, file
            table = pq.read_table(file).replace_schema_metadata(None)
            same = self._rows.filter(pa.compute.is_in(self._rows["id"], value_set=table["id"].combine_chunks()))
            assert digest(table, ["id"]) == digest(same, ["id"]), f"{file}: not the rows of the uninterrupted job"
            rows += table.num_rows
        return rows
