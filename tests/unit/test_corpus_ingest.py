import bz2
import csv
import gzip
import io
import json
import pickle
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from zsd import storage
from zsd.corpus import IngestResult, choose_partitions, find_id_conflicts, ingest_local, normalize_text
from zsd.corpus import partitioned as partitioned_module
from zsd.corpus.normalize import hash_texts
from zsd.errors import ConfigError, CorpusError, OutputError, StoreError

TEXTS = ["one", "two, with a comma", 'three "quoted"', "", "one", "  five\t", "sì, 六 🙂", "one", "eight"]
KEPT = ["one", "two, with a comma", 'three "quoted"', "five", "sì, 六 🙂", "eight"]


def rows_of(folder: Path, pattern: str) -> list[dict[str, Any]]:
    tables = [pq.read_table(file, partitioning=None) for file in sorted(folder.glob(pattern))]
    return [row for table in tables for row in table.to_pylist()]


def kept_texts(output: Path) -> list[str]:
    return [row["text"] for row in rows_of(output, "corpus/shard-*.parquet")]


def as_csv(delimiter: str) -> bytes:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows([["text"], *([t] for t in TEXTS)])
    return text.getvalue().replace("\r\n\r\n", '\r\n""\r\n').encode()


def as_parquet() -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"text": TEXTS}), buffer)
    return buffer.getvalue()


TXT = "\n".join(TEXTS).encode()
JSONL = b"".join(json.dumps({"text": t}).encode() + b"\n" for t in TEXTS)
FILES = {
    "a.txt": TXT,
    "a.txt.gz": gzip.compress(TXT),
    "a.txt.bz2": bz2.compress(TXT),
    "a.txt.zst": pa.compress(TXT, "zstd", asbytes=True),
    "a.csv": as_csv(","),
    "a.csv.gz": gzip.compress(as_csv(",")),
    "a.tsv": as_csv("\t"),
    "a.jsonl": JSONL,
    "a.ndjson.gz": gzip.compress(JSONL),
    "a.parquet": as_parquet(),
}


@pytest.mark.parametrize("name", [*FILES, "saved"])
def test_every_format_gives_the_same_corpus(tmp_path: Path, name: str) -> None:
    file, output = tmp_path / name, tmp_path / "out"
    if name == "saved":
        Dataset.from_dict({"text": TEXTS}).save_to_disk(file)
    else:
        file.write_bytes(FILES[name])
    result = ingest_local([str(file)], str(output), unit_rows=4)
    assert kept_texts(output) == KEPT
    assert [r["row"] for r in rows_of(output, "duplicates/*")] == [4, 7]
    assert rows_of(output, "rejected/*") == [{"source": str(file), "row": 3, "reason": "empty", "text": ""}]
    assert (result.rows, result.kept, result.rejected, result.duplicates) == (9, 6, 1, 2)
    assert result.rejected_by_reason == {"empty": 1}
    assert [(shard.name, shard.rows, shard.row_groups) for shard in result.shards] == [
        ("shard-00000.parquet", 6, (4, 2))
    ]


LINE = st.one_of(st.text(max_size=12).map(str.encode), st.binary(max_size=6), st.just(b"again"))
FILES_OF_LINES = st.lists(st.lists(LINE, max_size=30), min_size=1, max_size=3)


@settings(max_examples=40, deadline=None)
@given(FILES_OF_LINES, st.integers(1, 4), st.integers(1, 5), st.none() | st.integers(1, 20))
def test_every_row_is_kept_rejected_or_a_duplicate(
    files: list[list[bytes]], partitions: int, unit_rows: int, limit: int | None
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "out"
        for index, lines in enumerate(files):
            content = b"".join(line.replace(b"\n", b" ") + b"\n" for line in [b"usable", *lines])
            (Path(folder) / f"{index}.txt").write_bytes(content)
        result = ingest_local([folder], str(output), unit_rows=unit_rows, limit=limit, partitions=partitions)
        total = sum(len(lines) + 1 for lines in files)
        assert result.rows == (total if limit is None else min(limit, total))
        check_sums(result, output, unit_rows)


def check_sums(result: IngestResult, output: Path, unit_rows: int) -> None:
    """What the record says is what lies there, and every row is accounted for once."""
    assert result.rows == result.kept + result.rejected + result.duplicates
    shards = rows_of(output, "corpus/shard-*")
    assert len(shards) == result.kept == len({r["id"] for r in shards}) == len({r["text"] for r in shards})
    assert all(row["text"] and normalize_text(row["text"]) == row["text"] for row in shards)
    rejected, duplicates = rows_of(output, "rejected/*"), rows_of(output, "duplicates/*")
    assert len(rejected) == result.rejected == sum(result.rejected_by_reason.values())
    assert len(duplicates) == result.duplicates
    assert {r["duplicate_of"] for r in duplicates} <= {r["id"] for r in shards}
    places = [(r["source"], r["row"]) for r in rejected + duplicates]
    assert len(places) == len(set(places))
    for shard in result.shards:
        stored = pq.ParquetFile(output / "corpus" / shard.name).metadata
        groups = tuple(stored.row_group(i).num_rows for i in range(stored.num_row_groups))
        assert groups == shard.row_groups
        assert set(groups[:-1]) <= {unit_rows}
        assert 0 < groups[-1] <= unit_rows


@pytest.mark.parametrize("flush_bytes", [1, 2**20])
def test_partitions_change_neither_rows_nor_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flush_bytes: int
) -> None:
    monkeypatch.setattr(partitioned_module, "FLUSH_BYTES", flush_bytes)
    monkeypatch.setattr("zsd.corpus.lines._BLOCK_BYTES", 64)
    texts = [f"text {i % 50}" for i in range(120)]
    (tmp_path / "a.txt").write_text("\n".join(texts[:70]))
    (tmp_path / "b.txt").write_text("\n".join(texts[70:]))
    corpora = []
    for partitions in (1, 2, 9):
        output = tmp_path / f"out{partitions}"
        result = ingest_local([f"{tmp_path}/*.txt"], str(output), unit_rows=6, partitions=partitions)
        check_sums(result, output, 6)
        for shard in result.shards:
            stored = [row["text"] for row in rows_of(output, f"corpus/{shard.name}")]
            assert stored == sorted(stored, key=texts.index), "the order of the corpus is kept"
        duplicates = {(Path(r["source"]).name, r["row"], r["id"]) for r in rows_of(output, "duplicates/*")}
        corpora.append(({r["id"] for r in rows_of(output, "corpus/shard-*")}, duplicates))
    assert corpora[0] == corpora[1] == corpora[2]
    assert len(corpora[0][0]) == 50


def write_ids(file: Path, rows: Iterable[tuple[str, str]]) -> str:
    ids, texts = zip(*rows, strict=True)
    pq.write_table(pa.table({"id": ids, "text": texts}), file)
    return str(file)


@pytest.mark.parametrize("partitions", [1, 5])
def test_an_id_belongs_to_the_text_that_has_it_first(tmp_path: Path, partitions: int) -> None:
    first = write_ids(tmp_path / "1.parquet", [("a", "X"), ("b", "Y"), ("a", "X"), ("c", " X "), ("b", "Z")])
    second = write_ids(tmp_path / "2.parquet", [("a", "Q"), ("d", "Q"), ("d", "Q"), ("e", "Z"), ("c", "W")])
    output = tmp_path / "out"
    result = ingest_local([first, second], str(output), unit_rows=3, id_column="id", partitions=partitions)
    check_sums(result, output, 3)
    kept = {(row["id"], row["text"]) for row in rows_of(output, "corpus/shard-*")}
    assert kept == {("a", "X"), ("b", "Y"), ("d", "Q"), ("e", "Z")}
    reason = "id already used by another text"
    rejected = {(r["source"], r["row"]): (r["reason"], r["text"]) for r in rows_of(output, "rejected/*")}
    assert rejected == {
        (first, 4): (f"{reason} ({first}:1)", "Z"),
        (second, 0): (f"{reason} ({first}:0)", "Q"),
        (second, 4): (f"{reason} ({first}:3)", "W"),
    }
    assert result.rejected_by_reason == {reason: 3}
    duplicates = {(r["source"], r["row"]): (r["id"], r["duplicate_of"]) for r in rows_of(output, "duplicates/*")}
    assert duplicates == {(first, 2): ("a", "a"), (first, 3): ("c", "a"), (second, 2): ("d", "d")}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), min_size=1, max_size=12))
def test_conflicts_are_those_of_the_definition(rows: list[tuple[str, str]]) -> None:
    id_keys, text_keys = (hash_texts(pa.array(column, pa.large_string())) for column in zip(*rows, strict=True))
    later, firsts = find_id_conflicts(id_keys, text_keys)
    first_of = {id_: next(i for i, row in enumerate(rows) if row[0] == id_) for id_, _ in rows}
    expected = [(i, first_of[id_]) for i, (id_, text) in enumerate(rows) if rows[first_of[id_]][1] != text]
    assert list(zip(later.tolist(), firsts.tolist(), strict=True)) == expected


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(f): (f.stat().st_mtime_ns, f.read_bytes()) for f in folder.rglob("*") if f.is_file()}


def never(_function: Callable[..., Any], _arguments: Iterable[Any]) -> Iterator[Any]:
    raise AssertionError("no work should be done")


def test_a_second_run_does_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(TXT)
    first = ingest_local([str(tmp_path)], str(tmp_path / "out"), unit_rows=2)
    before = snapshot(tmp_path)
    assert ingest_local([str(tmp_path)], str(tmp_path / "out"), unit_rows=2, run=never) == first
    assert snapshot(tmp_path) == before
    assert not (tmp_path / "out/corpus/_spill").exists()
    assert IngestResult.from_dict(json.loads(json.dumps(first.to_dict()))) == first


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b'{"sources": 3}'])
def test_a_damaged_record_is_named_and_the_corpus_can_be_made_again(tmp_path: Path, damaged: bytes) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    data, output = [str(tmp_path / "a.txt")], str(tmp_path / "out")
    before = ingest_local(data, output, unit_rows=2)
    (tmp_path / "out" / "corpus" / "ingest.json").write_bytes(damaged)
    with pytest.raises(StoreError, match=r"ingest\.json: is damaged: delete the folder .*corpus and run"):
        ingest_local(data, output, unit_rows=2)
    shutil.rmtree(tmp_path / "out" / "corpus")
    assert replace(ingest_local(data, output, unit_rows=2), seconds=0) == replace(before, seconds=0)


def test_other_inputs_are_told_apart(tmp_path: Path) -> None:
    file, output = tmp_path / "a.csv", str(tmp_path / "out")
    file.write_bytes(b"text,body\none,two\n")
    ingest_local([str(file)], output, unit_rows=2)
    before = snapshot(tmp_path / "out")

    def differs(message: str, data: list[str] | None = None, **options: Any) -> None:
        with pytest.raises(OutputError, match=message):
            ingest_local(data or [str(file)], output, run=never, **{"unit_rows": 2} | options)

    differs("text_column 'text' -> 'body'", text_column="body")
    differs("id_column None -> 'body'", id_column="body")
    differs("limit None -> 5; unit_rows 2 -> 3", limit=5, unit_rows=3)
    differs("row groups of 2 rows, not of 3: give --unit-rows 2 to go on with it", unit_rows=3)
    (tmp_path / "b.txt").write_bytes(b"more")
    differs(r"b\.txt is new", data=[str(file), str(tmp_path / "b.txt")])
    differs(r"a\.csv was not asked for; .*b\.txt is new", data=[str(tmp_path / "b.txt")])
    file.write_bytes(b"text,body\nten,two\n")
    differs(r"a\.csv was written again since")
    file.write_bytes(b"text,body\nthree,four\n")
    differs(r"a\.csv has changed size 18 -> 21")
    assert snapshot(tmp_path / "out") == before


def test_an_interrupted_run_starts_over_and_leaves_nothing_stale(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join([*TEXTS, *(f"text {i}" for i in range(50))]))
    output = tmp_path / "out"

    def killed_in_reduce(function: Callable[..., Any], arguments: Iterable[Mapping[str, Any]]) -> Iterator[Any]:
        for count, argument in enumerate(arguments):
            if "output" in argument and count == 4:
                raise KeyboardInterrupt
            yield function(argument)

    with pytest.raises(KeyboardInterrupt):
        ingest_local([str(tmp_path)], str(output), unit_rows=5, partitions=8, run=killed_in_reduce)
    (output / "corpus/.shard-00007.parquet.0123.tmp").write_bytes(b"half")
    assert (output / "corpus/shard-00003.parquet").exists()
    assert not (output / "corpus/ingest.json").exists()
    result = ingest_local([str(tmp_path)], str(output), unit_rows=5, partitions=2)
    check_sums(result, output, 5)
    names = sorted(path.name for path in (output / "corpus").iterdir())
    assert names == ["ingest.json", "shard-00000.parquet", "shard-00001.parquet"]


def test_a_folder_with_someone_elses_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(TXT)
    (tmp_path / "out/corpus").mkdir(parents=True)
    (tmp_path / "out/corpus/shard-00000.parquet").write_bytes(b"precious")
    with pytest.raises(OutputError, match=r"holds shard-00000\.parquet but no ingest\.json"):
        ingest_local([str(tmp_path / "a.txt")], str(tmp_path / "out"), unit_rows=2)
    assert (tmp_path / "out/corpus/shard-00000.parquet").read_bytes() == b"precious"


def test_a_limit_takes_the_first_rows_over_all_sources(tmp_path: Path) -> None:
    for name, text in (("a.txt", "1\n2\n\n3\n"), ("b.txt", "4\n5\n"), ("c.txt", "6\n")):
        (tmp_path / name).write_text(text)
    result = ingest_local([str(tmp_path)], str(tmp_path / "out"), unit_rows=9, limit=5)
    assert kept_texts(tmp_path / "out") == ["1", "2", "3", "4"]
    assert (result.rows, result.rejected) == (5, 1)


def pickling(function: Callable[..., Any], arguments: Iterable[Mapping[str, Any]]) -> Iterator[Any]:
    """Like a cluster: function, arguments and results travel as bytes."""
    for argument in arguments:
        there, what = pickle.loads(pickle.dumps((function, argument)))
        yield pickle.loads(pickle.dumps(there(what)))


def test_tasks_can_be_sent_to_other_processes(tmp_path: Path) -> None:
    file = write_ids(tmp_path / "1.parquet", [("a", "X"), ("b", "Y"), ("b", "Z")])
    result = ingest_local([file], str(tmp_path / "out"), unit_rows=3, id_column="id", partitions=3, run=pickling)
    check_sums(result, tmp_path / "out", 3)


def test_a_store_holds_the_same_corpus_as_a_disk(tmp_path: Path) -> None:
    store = "fsspec+memory://bucket/ingest"
    (tmp_path / "a.txt").write_bytes(TXT)
    storage.write_bytes_atomic(f"{store}/data/a.txt", TXT)
    there = ingest_local([f"{store}/data"], f"{store}/out", unit_rows=4)
    here = ingest_local([f"file://{tmp_path}/a.txt"], f"file://{tmp_path}/out", unit_rows=4)
    assert (there.rows, there.shards, there.rejected_by_reason) == (here.rows, here.shards, here.rejected_by_reason)
    stored = storage.read_bytes(f"{store}/out/corpus/shard-00000.parquet")
    assert pq.read_table(io.BytesIO(stored)).to_pylist() == rows_of(tmp_path / "out", "corpus/shard-*")
    assert storage.list_names(f"{store}/out/corpus") == ["ingest.json", "shard-00000.parquet"]
    assert ingest_local([f"{store}/data"], f"{store}/out", unit_rows=4, run=never) == there


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"a\.jsonl: holds no row"),
        (
            b'{\n{"body": "x", "n": 1}\n{"body": "y"}\n',
            r"none of the 3 rows .* \(2 rows\) because: no key 'text' \(it has: body, n\): .*--text-column",
        ),
    ],
)
def test_a_corpus_without_a_usable_row_is_an_error_and_leaves_nothing(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(CorpusError, match=message):
        ingest_local([str(tmp_path / "a.jsonl")], str(tmp_path / "out"), unit_rows=2)
    assert snapshot(tmp_path / "out") == {}
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "mended"}')
    assert ingest_local([str(tmp_path / "a.jsonl")], str(tmp_path / "out"), unit_rows=2).kept == 1


@pytest.mark.parametrize("options", [{"unit_rows": 0}, {"unit_rows": 1, "limit": 0}])
def test_numbers_below_one_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        ingest_local([str(tmp_path)], str(tmp_path / "out"), **options)


def test_partitions_grow_with_the_corpus() -> None:
    assert [choose_partitions(size) for size in (0, 2**28, 2**28 + 1, 2**38)] == [1, 1, 2, 1024]
