"""What a person sees while a large corpus is read."""

import time
from pathlib import Path

import pyarrow as pa
import pytest

from zsd.corpus import progress
from zsd.corpus.progress import READ, SIFTED, Tally, line, watched


def test_the_rows_of_all_tasks_are_added_and_a_retry_counts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "WRITE_SECONDS", 0.0)
    folder = str(tmp_path)
    assert line(folder, 1.0) is None
    for rows in (500, 1000, 2000):
        Tally(folder, f"{READ}00000").add(rows)
    Tally(folder, f"{READ}00001").add(3000)
    assert line(folder, 2.0) == "corpus: 5,000 rows read, 2,500 rows/s"
    tables = [pa.table({"text": ["a", "b"]}), pa.table({"text": ["c"]})]
    assert list(Tally(folder, f"{SIFTED}00000").passed(tables)) == tables
    assert line(folder, 2.0) == "corpus: 5,000 rows read, 3 of them sifted, 2,500 rows/s"


def test_lines_come_while_the_work_goes_on_and_end_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "WRITE_SECONDS", 0.0)
    told: list[str] = []
    monkeypatch.setattr(progress, "say", told.append)
    with watched(str(tmp_path), every=0.01):
        Tally(str(tmp_path), f"{READ}00000").add(7)
        while not told:
            time.sleep(0.01)
    count = len(told)
    assert told[0].startswith("corpus: 7 rows read")
    time.sleep(0.05)
    assert len(told) == count
