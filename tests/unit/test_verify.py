from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.store import NAMES, UNITS, build, labelled
from zsd.cli import main
from zsd.verify import MOST_SHOWN, Verification, summary, verify_store

# Legend: N rows, K labels.

FIRST, SECOND = (unit.part for unit in UNITS)


def problems(root: Path) -> list[str]:
    return verify_store(str(root)).problems


def change_manifest(root: Path, **changes: Any) -> None:
    file = root / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_a_sound_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build(tmp_path)
    result = verify_store(str(tmp_path))
    assert (result.problems, result.rows, result.shards) == ([], 8, 2)
    assert main(["verify", str(tmp_path), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out) == {**result.to_dict(), "ok": True, "repaired": []}


def test_a_missing_and_a_foreign_shard(tmp_path: Path) -> None:
    directory = build(tmp_path)
    (directory / FIRST).rename(directory / "part-other.parquet")
    found = problems(tmp_path)
    assert f"{FIRST}: missing" in found
    assert "part-other.parquet: foreign: the manifest does not list it" in found
    assert "the shards hold 4 rows, the manifest says 8" in found


def test_a_shard_cut_short(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = build(tmp_path) / FIRST
    file.write_bytes(file.read_bytes()[:-20])
    assert any(one.startswith(f"{FIRST}: unreadable") for one in problems(tmp_path))
    assert main(["verify", str(tmp_path)]) == 1
    assert FIRST in capsys.readouterr().out


def test_one_flipped_bit_anywhere(tmp_path: Path) -> None:
    file = build(tmp_path) / SECOND
    data = file.read_bytes()
    for at in (10, len(data) // 2, len(data) - 6):
        file.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        assert any(one.startswith(f"{SECOND}: changed since it was written") for one in problems(tmp_path))
    file.write_bytes(data)
    assert problems(tmp_path) == []


def test_duplicate_ids_are_named_also_beside_a_missing_shard(tmp_path: Path) -> None:
    directory = build(tmp_path, [labelled(["p", "q", "r", "s"]), labelled(["t", "q", "u", "u"], seed=1)])
    assert problems(tmp_path) == [f"{SECOND}: id 'q' is also in {FIRST}", f"{SECOND}: id 'u' is also in {SECOND}"]
    (directory / FIRST).unlink()
    assert f"{SECOND}: id 'u' is also in {SECOND}" in problems(tmp_path)


def test_wrong_counts(tmp_path: Path) -> None:
    build(tmp_path)
    change_manifest(tmp_path, rows=9)
    assert "the shards hold 8 rows, the manifest says 9" in problems(tmp_path)
    change_manifest(tmp_path, rows=8, duplicates=3)
    found = problems(tmp_path)
    assert "manifest: rows + rejected + duplicates = 11, rows_in = 8" in found
    assert "duplicates/ holds 0 rows, the manifest says 3" in found
    shards = json.loads((tmp_path / "manifest.json").read_text())["shards"]
    change_manifest(tmp_path, duplicates=0, shards=[{**shards[0], "rows": 5}, shards[1]])
    assert problems(tmp_path) == [f"{FIRST}: 4 rows, the manifest says 5"]
    change_manifest(tmp_path, shards=[*shards, shards[0]])
    assert "manifest: lists a shard twice" in problems(tmp_path)


def test_a_rejected_file_is_counted_or_named(tmp_path: Path) -> None:
    build(tmp_path)
    (tmp_path / "rejected").mkdir()
    file = tmp_path / "rejected" / "part-ingest-00000.parquet"
    pq.write_table(pa.table({"source": ["a", "b"]}), file)
    assert problems(tmp_path) == ["rejected/ holds 2 rows, the manifest says 0"]
    file.write_bytes(b"PAR1")
    assert any(one.startswith("rejected/part-ingest-00000.parquet: unreadable") for one in problems(tmp_path))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([np.nan, 0.5, 0.5], "not in"),
        ([np.inf, 0, 0], "not in"),
        ([-0.5, 0.5, 1.0], "not in"),
        ([0.5, 0.4, 0.4], "do not sum to 1"),
    ],
)
def test_probabilities_that_are_none(tmp_path: Path, row: list[float], message: str) -> None:
    probs_NK = np.full((4, len(NAMES)), 1 / 3, np.float32)
    probs_NK[2] = row
    build(tmp_path, [labelled(["p", "q", "r", "s"]), labelled(["t", "u", "v", "w"], probs_NK=probs_NK)])
    (found,) = problems(tmp_path)
    assert found.startswith(SECOND)
    assert message in found


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("label", pa.array(["x"] * 4, pa.string()), "not that of its most probable class"),
        ("score", pa.array([0.0] * 4, pa.float32()), "not that of its most probable class"),
        ("id", pa.array(["t", None, "v", "w"], pa.string()), "a value is missing in column id"),
        ("entailment", pa.array([[np.nan] * 3] * 4, pa.list_(pa.float32(), 3)), "not a finite number"),
        ("probs", pa.array([[None, 0.5, 0.5]] * 4, pa.list_(pa.float32(), 3)), "a value is missing in column probs"),
        ("probs", pa.array([[0.5, 0.5]] * 4, pa.list_(pa.float32(), 2)), "its columns are not those"),
    ],
)
def test_columns_that_cannot_be(tmp_path: Path, column: str, value: pa.Array, message: str) -> None:
    table = labelled(["t", "u", "v", "w"])
    table = table.set_column(table.column_names.index(column), column, value)
    build(tmp_path, [labelled(["p", "q", "r", "s"]), table])
    assert any(one.startswith(SECOND) and message in one for one in problems(tmp_path))


def test_many_problems_are_told_in_few_lines() -> None:
    lines = summary(Verification(uri="u", problems=[f"p{n}" for n in range(1000)])).splitlines()
    assert len(lines) == MOST_SHOWN + 1
    assert "and 980 more" in lines[-1]


def test_repair_puts_damage_aside_and_leaves_an_unfinished_job(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = build(tmp_path)
    (tmp_path / "job-label.json").write_text("{}")
    broken = (directory / FIRST).read_bytes()[:-20]
    (directory / FIRST).write_bytes(broken)
    (directory / "part-other.parquet").write_bytes(b"?")
    sound = (directory / SECOND).read_bytes()
    assert main(["verify", str(tmp_path), "--repair"]) == 0
    assert "1 shard(s) to be made again" in capsys.readouterr().out
    assert [file.name for file in directory.iterdir()] == [SECOND]
    assert (directory / SECOND).read_bytes() == sound
    assert (tmp_path / "damaged" / FIRST).read_bytes() == broken
    assert (tmp_path / "damaged" / "part-other.parquet").exists()
    assert "lacks" not in capsys.readouterr().err


def test_repair_leaves_a_sound_store_alone(tmp_path: Path) -> None:
    build(tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    assert main(["verify", str(tmp_path), "--repair"]) == 0
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before
