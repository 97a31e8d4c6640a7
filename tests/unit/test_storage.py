import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zsd import storage
from zsd.errors import InputError
from zsd.filesystems import PatientS3


@pytest.fixture(params=["disk", "store"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "a b") if request.param == "disk" else f"fsspec+memory://bucket/{tmp_path.name}"


def test_what_is_written_is_read_back_and_replaced(base: str) -> None:
    uri = storage.join(base, "sub", "na me#1.bin")
    assert not storage.exists(uri)
    for content in (b"first", b""):
        storage.write_bytes_atomic(uri, content)
        assert storage.read_bytes(uri) == content
    assert storage.list_names(storage.join(base, "sub")) == ["na me#1.bin"]
    storage.delete_file(uri)
    storage.delete_file(uri)
    assert not storage.exists(uri)


def test_names_are_sorted_files_without_temporaries(base: str) -> None:
    for name in ("part-2.parquet", "part-1.parquet", "part-1.json", ".part-3.parquet.12ab.tmp", "part-9/x.parquet"):
        storage.write_bytes_atomic(storage.join(base, name), b"")
    assert storage.list_names(base, "part-", ".parquet") == ["part-1.parquet", "part-2.parquet"]
    assert storage.list_names(storage.join(base, "absent")) == []
    storage.delete_temporaries(base)
    assert not storage.exists(storage.join(base, ".part-3.parquet.12ab.tmp"))
    storage.delete_folder(base)
    storage.delete_folder(base)
    assert storage.list_names(base) == []


def test_a_writer_that_fails_leaves_what_was_there(base: str) -> None:
    uri = storage.join(base, "a.bin")
    storage.write_bytes_atomic(uri, b"old")
    with pytest.raises(RuntimeError), storage.open_atomic(uri) as file:
        file.write(b"new, half")
        raise RuntimeError
    assert storage.read_bytes(uri) == b"old"
    storage.delete_file(uri)
    place = storage.resolve(base)
    if place.is_local:
        assert list(Path(place.path).iterdir()) == []


def test_tables_keep_their_row_groups(base: str) -> None:
    uri = storage.join(base, "t.parquet")
    schema = pa.schema([("a", pa.int32())])
    storage.write_table_atomic(uri, (pa.table({"a": range(n)}) for n in (3, 1)), schema=schema, row_group_size=2)
    place = storage.resolve(uri)
    with pq.ParquetFile(place.fs.open_input_file(place.path)) as parquet:
        groups = [parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups)]
        assert (groups, parquet.schema_arrow) == ([2, 1, 1], schema)


def test_a_local_name_becomes_one_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    uris = [f"file://{tmp_path}/a%20b", f"file://{tmp_path}/a b"]
    names = ["a b", "./a b", "x/../a b", "~/a b", str(tmp_path / "a b"), *uris]
    assert {storage.resolve(name).uri for name in names} == {f"{tmp_path}/a b"}


def test_options_of_a_uri_stay_behind_the_name() -> None:
    uri = storage.join("s3://bucket/out?endpoint_override=localhost:1&region=x", "a b", "c.parquet")
    assert uri == "s3://bucket/out/a%20b/c.parquet?endpoint_override=localhost:1&region=x"
    assert storage.resolve(uri).path == "bucket/out/a b/c.parquet"


def test_s3_is_as_patient_in_another_process() -> None:
    fs = storage.resolve("s3://bucket/out?endpoint_override=localhost:1&scheme=http&region=x").fs
    there = pickle.loads(pickle.dumps(fs))
    assert isinstance(there, PatientS3)
    assert there.options == {"endpoint_override": "localhost:1", "scheme": "http", "region": "x"}
    assert there.region == "x"
    assert there == fs


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("zz://bucket/a", "zz://bucket: not a path or a URI"),
        ("s3://key:secret@bucket/a", "must hold no secret"),
        ("fsspec+memory://bucket/a#b", "%23"),
        ("file://relative/a", "must be absolute"),
    ],
)
def test_a_wrong_uri_is_an_error_without_the_secret(uri: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        storage.resolve(uri)
    assert "secret@" not in str(caught.value)
