"""Rows that the model failed on: how many there may be, and which record of them stands.

A worker writes them to ``rejected/``, in a file named like the unit that it commits without them (`zsd.unit_rows`).
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow.parquet as pq

from zsd import storage
from zsd.corpus import IngestResult
from zsd.errors import CorpusError
from zsd.shards import StoredFile
from zsd.units import Part, Unit, parse_part

REJECTED_SHARE = 0.1
REJECTED_ALWAYS = 20
"""Rows that the model may fail on where the user did not say: this share of them, and a few in any case."""


def most_rejected(output: str, max_rejected: float | None, ingest: IngestResult, missing: Sequence[Unit]) -> int:
    """Rows that the model may still fail on in this run; those that it failed on in earlier ones count.

    Args:
        output: the job's directory.
        max_rejected: share of all rows that may be rejected, for whatever reason; None: see `REJECTED_SHARE`.
        ingest: what became of the corpus.
        missing: what this run will do; an earlier attempt at it does not count.

    Raises:
        CorpusError: already more rows are rejected than the user allows.
    """
    before = _rows_before(output, missing)
    if max_rejected is None:
        return max(REJECTED_ALWAYS, int(REJECTED_SHARE * ingest.kept)) - before
    allowed = int(max_rejected * ingest.rows) - ingest.rejected - before
    if allowed < 0:
        reason, count = next(iter(ingest.rejected_by_reason.items()), ("the model failed on them", before))
        raise CorpusError(
            f"{ingest.rejected + before:,} of {ingest.rows:,} rows are rejected, most often ({count:,} rows) because: "
            f"{reason}; that is more than --max-rejected {max_rejected}: correct the corpus or raise it"
        )
    return allowed


def forget_rejected(output: str, files: Sequence[StoredFile]) -> None:
    """Delete the record of rows that failed once and were done after all, by another attempt at their unit."""
    standing = {record.part for file in files for record in file.records if record.rejected}
    for part in _parts(output):
        if part.name not in standing:
            storage.delete_file(storage.join(_folder(output), part.name))


def _folder(output: str) -> str:
    return storage.join(output, "rejected")


def _parts(output: str) -> list[Part]:
    """Files of rows that the model failed on; rows that the corpus itself lost are in others."""
    found = (parse_part(name) for name in storage.list_names(_folder(output), prefix="part-", suffix=".parquet"))
    return [part for part in found if part is not None]


def _rows_before(output: str, missing: Sequence[Unit]) -> int:
    """Rows that were rejected with units that are done."""
    todo = [part for unit in missing if (part := parse_part(unit.part))]
    standing = [
        part
        for part in _parts(output)
        if not any(one.stem == part.stem and one.first <= part.first < one.stop for one in todo)
    ]
    return sum(_rows(storage.join(_folder(output), part.name)) for part in standing)


def _rows(uri: str) -> int:
    place = storage.resolve(uri)

    def read() -> int:
        with place.fs.open_input_file(place.path) as file:
            return int(pq.ParquetFile(file).metadata.num_rows)

    return storage.persistently(place, read)
