"""``zsd verify`` of a job that is not finished."""

import json
from pathlib import Path

import pytest

from tests.unit.store import UNITS, build, ingest
from zsd.cli import main
from zsd.errors import InputError, StoreError
from zsd.unfinished import verify

FIRST, SECOND = (unit.part for unit in UNITS)


def unfinished(root: Path) -> Path:
    """A job whose corpus has 12 rows, of which 8 are committed; returns the folder of its shards."""
    directory = build(root)
    (root / "manifest.json").unlink()
    (root / "job-label.json").write_text("{}")
    (root / "corpus").mkdir()
    (root / "corpus" / "ingest.json").write_text(json.dumps(ingest(12, 12).to_dict()))
    return directory


def test_what_is_there_is_counted_and_what_is_not_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unfinished(tmp_path)
    result = verify(str(tmp_path))
    assert (result.rows, result.shards, result.damaged) == (8, 2, set())
    assert result.problems == ["unfinished: 4 of 12 rows are still to do"]
    assert main(["verify", str(tmp_path)]) == 1
    assert "4 of 12 rows are still to do" in capsys.readouterr().out


def test_damaged_and_foreign_files_are_put_aside_and_the_job_goes_on_without_them(tmp_path: Path) -> None:
    directory = unfinished(tmp_path)
    (directory / FIRST).write_bytes((directory / FIRST).read_bytes()[:-20])
    other = "part-00007-000000-000001.parquet"
    (directory / other).write_bytes((directory / SECOND).read_bytes())
    result = verify(str(tmp_path))
    assert (result.damaged, result.foreign, result.rows) == ({FIRST, other}, {other}, 4)
    assert main(["verify", str(tmp_path), "--repair"]) == 0
    assert [file.name for file in directory.iterdir()] == [SECOND]
    assert {file.name for file in (tmp_path / "damaged").iterdir()} == {FIRST, other}
    assert verify(str(tmp_path)).problems == ["unfinished: 8 of 12 rows are still to do"]


def test_a_file_of_too_few_rows_is_damaged(tmp_path: Path) -> None:
    directory = unfinished(tmp_path)
    (directory / FIRST).rename(directory / "part-00000-000002-000003.parquet")
    wide = directory / "part-00000-000000-000002.parquet"
    (directory / SECOND).rename(wide)
    assert verify(str(tmp_path)).damaged == {wide.name}


def test_a_folder_without_a_job_and_a_job_without_a_corpus(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no store"):
        verify(str(tmp_path))
    (tmp_path / "job-label.json").write_text("{}")
    with pytest.raises(InputError, match="has not read its corpus yet"):
        verify(str(tmp_path))
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "ingest.json").write_text("{")
    with pytest.raises(StoreError, match="is damaged"):
        verify(str(tmp_path))
