"""``zsd verify`` of a job that is not finished."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.store import UNITS, build, ingest, labelled, record
from zsd.cli import main
from zsd.compaction import Merge, merge
from zsd.errors import InputError, StoreError
from zsd.shards import commit_unit
from zsd.unfinished import verify
from zsd.units import parse_part

FIRST, SECOND = (unit.part for unit in UNITS)


def unfinished(root: Path) -> Path:
    """A job whose corpus has 12 rows, of which 8 are committed; returns the folder of its shards."""
    directory = build(root)
    (root / "manifest.json").unlink()
    (root / "job-label.json").write_text("{}")
    (root / "corpus").mkdir()
    (root / "corpus" / "ingest.json").write_text(json.dumps(ingest(12, 12).to_dict()))
    ids = [f"id-{u}-{n}" for u in range(3) for n in range(4)]
    corpus = pa.table({"id": ids, "text": [f"text of {one}" for one in ids]})
    pq.write_table(corpus, root / "corpus" / "shard-00000.parquet", row_group_size=4)
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
    result = verify(str(tmp_path))
    assert f"{wide.name}: 4 rows, the corpus has 8 for it" in result.problems
    assert result.damaged == {wide.name, "part-00000-000002-000003.parquet"}


@pytest.mark.parametrize("of_another_corpus", [False, True])
def test_the_rows_of_other_units_are_damage(tmp_path: Path, of_another_corpus: bool) -> None:
    directory = unfinished(tmp_path)
    other = directory / SECOND
    if of_another_corpus:
        ids = [f"other-{n}" for n in range(4)]
        commit_unit(str(tmp_path), labelled(ids), record(UNITS[0]))
        other = tmp_path / FIRST
    (directory / FIRST).write_bytes(other.read_bytes())
    result = verify(str(tmp_path))
    assert result.damaged == {FIRST}
    assert f"{FIRST}: its rows are not those that the corpus has for it" in result.problems


def test_a_changed_byte_is_damage_or_changes_no_value(tmp_path: Path) -> None:
    directory = unfinished(tmp_path)
    whole = (directory / FIRST).read_bytes()
    table = pq.read_table(directory / FIRST)
    pages = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    seen = 0
    for position in range(4, pages, 5):
        changed = bytearray(whole)
        changed[position] ^= 1
        (directory / FIRST).write_bytes(changed)
        if verify(str(tmp_path)).damaged:
            seen += 1
        else:
            assert pq.read_table(directory / FIRST).equals(table), position
    assert seen > 0.7 * len(range(4, pages, 5)), "the rest describes pages and is not read"


def test_merging_a_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    directory = unfinished(tmp_path)
    changed = bytearray((directory / SECOND).read_bytes())
    changed[200] ^= 1
    (directory / SECOND).write_bytes(changed)
    parts = tuple(part for unit in UNITS if (part := parse_part(unit.part)))
    with pytest.raises(StoreError, match=f"{SECOND}: cannot be read .*: zsd verify --repair puts it aside"):
        merge(Merge(directory=str(directory), parts=parts))
    assert sorted(file.name for file in directory.iterdir()) == [FIRST, SECOND]


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
