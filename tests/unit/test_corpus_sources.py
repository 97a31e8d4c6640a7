import os
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict

from zsd import storage
from zsd.corpus import Source, resolve_sources
from zsd.errors import CorpusError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b.txt", "a.CSV", "sub/c.jsonl.gz", "sub/deep/d.parquet", "_SUCCESS", ".hidden.txt", "sub/_tmp/e.txt"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
    (tmp_path / "README.md").write_bytes(b"x")
    return tmp_path


def names(tree: Path, *data: str) -> list[str]:
    return [source.uri.removeprefix(f"{tree}/") for source in resolve_sources([str(tree / d) for d in data])]


def test_a_folder_is_searched_for_known_endings_in_order(tree: Path) -> None:
    assert names(tree, "") == ["a.CSV", "b.txt", "sub/c.jsonl.gz", "sub/deep/d.parquet"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.txt", ["b.txt"]),
        ("?.CSV", ["a.CSV"]),
        ("[ab].*", ["a.CSV", "b.txt"]),
        (".*.txt", [".hidden.txt"]),
        ("sub/*/*.parquet", ["sub/deep/d.parquet"]),
        ("**/*.parquet", ["sub/deep/d.parquet"]),
        ("**/*.txt", ["b.txt", "sub/_tmp/e.txt"]),
        ("sub/**", ["sub/c.jsonl.gz", "sub/_tmp/e.txt", "sub/deep/d.parquet"]),
    ],
)
def test_globs(tree: Path, pattern: str, expected: list[str]) -> None:
    assert names(tree, pattern) == expected


def test_order_is_as_given_and_no_file_comes_twice(tree: Path) -> None:
    (tree / "link.txt").symlink_to(tree / "b.txt")
    assert names(tree, "b.txt", "a.CSV", "*.txt", "sub/../b.txt", "link.txt") == ["b.txt", "a.CSV"]


def test_a_source_knows_format_size_and_time(tree: Path) -> None:
    (source,) = resolve_sources([str(tree / "sub/c.jsonl.gz")])
    mtime_ns = (tree / "sub/c.jsonl.gz").stat().st_mtime_ns
    assert source == Source(str(tree / "sub/c.jsonl.gz"), "jsonl", 1, mtime_ns)
    assert source.compression == "gzip"


def test_a_relative_path_and_a_file_uri_name_the_same_file(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    assert resolve_sources(["b.txt"]) == resolve_sources([f"file://{tree}/b.txt"]) == resolve_sources(["*.txt"])


def test_a_name_with_glob_characters_is_a_file_if_there_is_one(tree: Path) -> None:
    (tree / "f[1].txt").write_bytes(b"x")
    assert names(tree, "f[1].txt") == ["f[1].txt"]


def test_a_store_is_searched_like_a_disk() -> None:
    for name in ("s/a b.txt", "s/sub/c.csv", "s/.d.txt"):
        storage.write_bytes_atomic(storage.join("fsspec+memory://bucket", name), b"x")
    found = [source.uri for source in resolve_sources(["fsspec+memory://bucket/s"])]
    assert found == ["fsspec+memory://bucket/s/a%20b.txt", "fsspec+memory://bucket/s/sub/c.csv"]
    assert [source.uri for source in resolve_sources(["fsspec+memory://bucket/s/**/*.t*"])] == found[:1]
    assert storage.read_bytes(found[0]) == b"x"


def test_every_split_of_a_saved_dataset_is_a_source(tmp_path: Path) -> None:
    rows = Dataset.from_dict({"text": ["a"]})
    DatasetDict(train=rows, test=rows).save_to_disk(tmp_path / "saved")
    rows.save_to_disk(tmp_path / "one")
    by_name = resolve_sources([str(tmp_path / "saved"), str(tmp_path / "one")])
    assert [(s.uri.removeprefix(f"{tmp_path}/"), s.format) for s in by_name] == [
        ("saved/train", "datasets"),
        ("saved/test", "datasets"),
        ("one", "datasets"),
    ]
    assert all(source.size > 0 and source.mtime_ns for source in by_name)
    assert set(resolve_sources([str(tmp_path)])) == set(resolve_sources([str(tmp_path / "**")])) == set(by_name)
    assert set(resolve_sources([str(tmp_path / "*")])) == set(by_name)


def test_the_output_folder_is_no_source(tree: Path) -> None:
    output = str(tree / "sub")
    assert [s.uri for s in resolve_sources([str(tree)], output=output)] == [f"{tree}/a.CSV", f"{tree}/b.txt"]
    assert [s.uri for s in resolve_sources([f"{tree}/**/*.[Cp]*"], output=output)] == [f"{tree}/a.CSV"]
    with pytest.raises(CorpusError, match="also the output folder"):
        resolve_sources([output], output=output)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("absent.txt", "absent.txt: no such file or folder"),
        ("*.nothing", r"\*.nothing: matches no file"),
        ("README.md", "README.md: unknown ending: zsd reads .txt, .csv"),
        ("README*", "README.md: unknown ending"),
        ("empty", "empty: the folder holds no file with a known ending: .txt"),
        ("b.txt/x", "x: no such file or folder"),
    ],
)
def test_errors_name_the_input_in_one_line(tree: Path, data: str, message: str) -> None:
    (tree / "empty").mkdir()
    with pytest.raises(CorpusError, match=message) as caught:
        resolve_sources([str(tree / data)])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [[], [""]])
def test_nothing_given_is_an_error(data: list[str]) -> None:
    with pytest.raises(CorpusError, match="--data"):
        resolve_sources(data)


def test_an_unreadable_file_is_an_error(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(CorpusError, match=r"b.txt: no permission"):
        resolve_sources([str(tree / "b.txt")])
