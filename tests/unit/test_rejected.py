"""How many rows the model may fail on, over all runs of a job."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.store import UNITS, ingest, record
from zsd.errors import CorpusError
from zsd.rejected import REJECTED_ALWAYS, forget_rejected, most_rejected
from zsd.shards import StoredFile
from zsd.units import Unit

FIRST, SECOND = UNITS


def reject(root: Path, unit: Unit, rows: int) -> Path:
    (root / "rejected").mkdir(exist_ok=True)
    file = root / "rejected" / unit.part
    pq.write_table(pa.table({"row": list(range(rows))}), file)
    return file


def test_rows_rejected_in_an_earlier_run_count(tmp_path: Path) -> None:
    corpus = ingest(100, 100)
    assert most_rejected(str(tmp_path), 0.05, corpus, [SECOND]) == 5
    reject(tmp_path, FIRST, 3)
    assert most_rejected(str(tmp_path), 0.05, corpus, [SECOND]) == 2
    assert most_rejected(str(tmp_path), None, corpus, [SECOND]) == REJECTED_ALWAYS - 3
    with pytest.raises(CorpusError, match=r"3 of 100 rows are rejected, .* more than --max-rejected 0.02"):
        most_rejected(str(tmp_path), 0.02, corpus, [SECOND])


def test_an_attempt_that_came_to_nothing_does_not_count(tmp_path: Path) -> None:
    reject(tmp_path, SECOND, 3)
    assert most_rejected(str(tmp_path), 0.05, ingest(100, 100), [SECOND]) == 5
    whole = Unit(shard=FIRST.shard, first=0, sizes=(4, 4))
    assert most_rejected(str(tmp_path), 0.05, ingest(100, 100), [whole]) == 5
    assert most_rejected(str(tmp_path), 0.05, ingest(100, 100), [FIRST]) == 2


def test_rows_that_the_corpus_lost_are_not_counted_twice(tmp_path: Path) -> None:
    reject(tmp_path, FIRST, 1).rename(tmp_path / "rejected" / "part-ingest-00000.parquet")
    assert most_rejected(str(tmp_path), 0.05, ingest(100, 100), [SECOND]) == 5


def test_the_record_of_rows_that_were_done_after_all_is_forgotten(tmp_path: Path) -> None:
    kept, gone = reject(tmp_path, FIRST, 1), reject(tmp_path, SECOND, 1)
    records = (record(FIRST, rejected=1), record(SECOND))
    forget_rejected(str(tmp_path), [StoredFile(part="p", rows=7, checksum="", records=records)])
    assert kept.exists()
    assert not gone.exists()
