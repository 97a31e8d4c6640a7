from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.unit.store import NAMES, UNITS, build, labelled, record
from zsd.errors import InputError, StoreError
from zsd.shards import MANIFEST, Store, commit_unit, describe_file, matrix, read_json, vectors

# Legend: N rows, K labels.


def test_what_is_read_back_is_what_was_written(tmp_path: Path) -> None:
    tables = [labelled([f"{u}{n}" for n in range(4)], seed=u) for u in range(2)]
    build(tmp_path, tables)
    for uri in (tmp_path, tmp_path / "soft_labels"):
        store = Store(str(uri))
        assert store.parts == [unit.part for unit in UNITS]
        for got, expected in zip(store.tables(), tables, strict=True):
            assert got.replace_schema_metadata(None).equals(expected)
        assert store.read(["id"])["id"].to_pylist() == [one for t in tables for one in t["id"].to_pylist()]


def test_vectors_and_matrix_are_inverse() -> None:
    array_NK = np.arange(12, dtype=np.float32).reshape(4, 3)
    assert np.array_equal(matrix(vectors(array_NK)), array_NK)
    assert np.array_equal(matrix(vectors(array_NK).slice(1, 2)), array_NK[1:3])
    assert matrix(vectors(array_NK[:0])).shape == (0, 3)


def test_a_retry_overwrites_itself(tmp_path: Path) -> None:
    unit = UNITS[0]
    commit_unit(str(tmp_path), labelled(["a", "b", "c", "d"]), record(unit, seconds=1.0))
    again = commit_unit(str(tmp_path), labelled(["a", "b", "c", "d"]), record(unit, seconds=9.0))
    assert [one.name for one in tmp_path.iterdir()] == [unit.part]
    found = describe_file(str(tmp_path), unit.part)
    assert (found.records, found.rows, len(found.checksum)) == ((again,), 4, 32)
    assert again.seconds == 9.0


@pytest.mark.parametrize("content", [b"", b"PAR1 not parquet"])
def test_a_damaged_shard_has_no_record(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "part-x.parquet").write_bytes(content)
    with pytest.raises(StoreError, match=r"part-x.parquet: not a shard"):
        describe_file(str(tmp_path), "part-x.parquet")
    with pytest.raises(StoreError, match=r"part-absent.parquet: missing"):
        describe_file(str(tmp_path), "part-absent.parquet")


def test_a_shard_cut_short_is_named_when_read(tmp_path: Path) -> None:
    file = build(tmp_path) / UNITS[1].part
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(StoreError, match=UNITS[1].part):
        Store(str(tmp_path)).read(["id"])


def test_no_store_and_an_unfinished_one_are_the_users_to_mend(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "absent"):
        with pytest.raises(InputError, match="holds no store"):
            Store(str(place))
    (tmp_path / "job-label.json").write_text("{}")
    with pytest.raises(InputError, match="unfinished"):
        Store(str(tmp_path))


def test_a_damaged_manifest_is_named(tmp_path: Path) -> None:
    build(tmp_path)
    file = tmp_path / MANIFEST
    content = json.loads(file.read_text())
    for broken in ("{", "[]", json.dumps({**content, "schema": 99}), '{"schema": 1}'):
        file.write_text(broken)
        with pytest.raises(StoreError, match="manifest"):
            Store(str(tmp_path))
    del content["shards"]
    file.write_text(json.dumps(content))
    with pytest.raises(StoreError, match="lacks 'shards'"):
        Store(str(tmp_path))


def test_json_that_cannot_be_read(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "absent.json"):
        with pytest.raises(StoreError, match="cannot be read"):
            read_json(str(place))


def test_names_are_the_label_column(tmp_path: Path) -> None:
    build(tmp_path)
    assert set(Store(str(tmp_path)).read(["label"])["label"].to_pylist()) <= set(NAMES)
