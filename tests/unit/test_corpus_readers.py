import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zsd.corpus import MAX_TEXT_CHARS, read_rows, read_text, resolve_sources
from zsd.corpus import lines as lines_module
from zsd.errors import CorpusError

Rows = dict[int, str]
Rejections = dict[int, tuple[str, str]]


def read(file: Path, **options: Any) -> tuple[Rows, Rejections]:
    """Texts and rejections by row number; every row from 0 on must be one of the two."""
    (source,) = resolve_sources([str(file)])
    batches = list(read_rows(source, text_column="text", **options))
    texts = {row: text for b in batches for row, text in zip(b.rows.tolist(), b.texts.to_pylist(), strict=True)}
    rejected = {r.row: (r.reason, r.text) for b in batches for r in b.rejected}
    assert sorted(texts | rejected) == list(range(len(texts) + len(rejected))) == list(range(sum(map(len, batches))))
    assert all(len(prefix.encode().decode()) <= 200 for _, prefix in rejected.values())
    return texts, rejected


def write(file: Path, content: bytes) -> Path:
    file.write_bytes(content)
    return file


def parquet(file: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), file, row_group_size=2)
    return file


def test_txt_has_one_row_a_line(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", b"\xef\xbb\xbfone\r\n\ntwo\n  \n\xff\xfe!\nno newline")
    texts, rejected = read(file)
    assert texts == {0: "one", 2: "two", 5: "no newline"}
    assert rejected == {1: ("empty", ""), 3: ("empty", ""), 4: ("invalid UTF-8", "��!\n")}


@pytest.mark.parametrize("batch_rows", [1, 2, 1000])
def test_lines_are_the_same_however_the_blocks_fall(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_rows: int
) -> None:
    monkeypatch.setattr(lines_module, "_BLOCK_BYTES", 5)
    monkeypatch.setattr(lines_module, "MAX_LINE_BYTES", 40)
    lines = ["a", "", "é" * 8, "b" * 39, "c" * 41, "d" * 90, "e", "f" * 300]
    texts, rejected = read(write(tmp_path / "a.txt", "\n".join(lines).encode()), batch_rows=batch_rows)
    assert texts == {0: "a", 2: "é" * 8, 6: "e"}
    assert {row: reason.split(" than")[0] for row, (reason, _) in rejected.items()} == {
        1: "empty",
        3: "line longer",
        4: "line longer",
        5: "line longer",
        7: "line longer",
    }


def test_jsonl_rejects_what_is_no_object_with_a_text(tmp_path: Path) -> None:
    bad = {
        b"{": "invalid JSON",
        b"": "empty",
        b"[" * 100_000: "invalid JSON",
        b'"text"': "not a JSON object: string",
        b"[1]": "not a JSON object: array",
        b'{"other": 1}': "no key 'text'",
        b'{"text": null}': "null",
        b'{"text": "\\u0000 "}': "empty",
        b'{"text": 1}': "not text: number",
        b'{"text": NaN}': "not text: number",
        b'{"text": true}': "not text: boolean",
        b'{"text": ["a"]}': "not text: array",
        b'{"text": {"a": 1}}': "not text: object",
        b'{"text": "\\ud800 x"}': "lone surrogate",
        b'{"text": "\xff"}': "invalid UTF-8",
    }
    good = b'{"text": "\\ud83d\\ude00 fine", "more": [1]}'
    texts, rejected = read(write(tmp_path / "a.jsonl", b"\n".join([*bad, good])))
    assert [reason for _, (reason, _) in sorted(rejected.items())] == list(bad.values())
    assert texts == {len(bad): "😀 fine"}


def test_csv_copes_with_quotes_newlines_nul_and_bad_bytes(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbfn,text\r\n1,"say ""hi"",\nnow"\r\n2,a\x00b\r\n3,\xff\xe9\r\n4\r\n\r\n5,\r\n6,plain,more\r\n'
    texts, rejected = read(write(tmp_path / "a.csv", content))
    assert texts == {0: 'say "hi",\nnow', 1: "a b", 6: "plain"}
    assert rejected == {
        2: ("invalid UTF-8", "��"),
        3: ("no field 'text'", ""),
        4: ("no field 'text'", ""),
        5: ("empty", ""),
    }


def test_csv_goes_on_after_a_field_that_never_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zsd.corpus.read_csv.MAX_LINE_BYTES", 100)
    content = b'text\nfirst\n"unclosed\n' + b"filler\n" * 30 + b"last\n"
    texts, rejected = read(write(tmp_path / "a.csv", content))
    assert texts[0] == "first"
    assert "last" in texts.values()
    assert [reason.split(" than")[0] for reason, _ in rejected.values()] == ["field longer"]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["a", None, "", "a"]),
        pa.array(["a", None, "", "a"], pa.large_string()),
        pa.array(["a", None, "", "a"], pa.string_view()),
        pa.array(["a", None, "", "a"]).dictionary_encode(),
        pa.array([b"a", None, b"", b"a"]),
        pa.array([b"a", None, b"", b"a"], pa.large_binary()),
    ],
    ids=lambda column: str(column.type),
)
def test_parquet_reads_every_kind_of_string(tmp_path: Path, column: pa.Array) -> None:
    texts, rejected = read(parquet(tmp_path / "a.parquet", other=[1, 2, 3, 4], text=column))
    assert texts == {0: "a", 3: "a"}
    assert rejected == {1: ("null", ""), 2: ("empty", "")}


@pytest.mark.parametrize(
    ("column", "reason", "prefix"),
    [
        (pa.array([7]), "not text: int64", "7"),
        (pa.array([True]), "not text: bool", "true"),
        (pa.array([[1]]), "not text: list<element: int64>", ""),
        (pa.array([b"\xff"]), "invalid UTF-8", "�"),
        (pa.nulls(1), "null", ""),
    ],
)
def test_parquet_rejects_rows_that_are_no_text(tmp_path: Path, column: pa.Array, reason: str, prefix: str) -> None:
    assert read(parquet(tmp_path / "a.parquet", text=column)) == ({}, {0: (reason, prefix)})


def test_a_parquet_string_need_not_be_utf8(tmp_path: Path) -> None:
    offsets = pa.py_buffer(np.array([0, 1, 2], np.int32).tobytes())
    column = pa.StringArray.from_buffers(2, offsets, pa.py_buffer(b"\xffa"))
    assert read(parquet(tmp_path / "a.parquet", text=column)) == ({1: "a"}, {0: ("invalid UTF-8", "�")})


@pytest.mark.parametrize("ending", ["txt", "csv", "jsonl", "parquet"])
def test_a_text_may_be_as_long_as_the_limit_and_no_longer(tmp_path: Path, ending: str) -> None:
    fits, too_long = "é" * MAX_TEXT_CHARS, "x" * (MAX_TEXT_CHARS + 1)
    file = tmp_path / f"a.{ending}"
    if ending == "parquet":
        parquet(file, text=[fits, too_long, "next"])
    else:
        rows = [json.dumps({"text": t}) if ending == "jsonl" else t for t in (fits, too_long, "next")]
        file.write_text("\n".join(["text"] * (ending == "csv") + rows))
    texts, rejected = read(file)
    assert texts == {0: fits, 2: "next"}
    assert rejected == {1: (f"longer than {MAX_TEXT_CHARS} characters", "x" * 200)}


def ids_of(file: Path) -> tuple[list[str], list[str]]:
    (source,) = resolve_sources([str(file)])
    batches = list(read_rows(source, text_column="text", id_column="id"))
    ids = [id_ for batch in batches for id_ in (batch.ids.to_pylist() if batch.ids is not None else [])]
    return ids, [rejected.reason for batch in batches for rejected in batch.rejected]


def test_ids_are_strings_or_integers(tmp_path: Path) -> None:
    assert ids_of(parquet(tmp_path / "a.parquet", text=list("abc"), id=[-1, None, 2**40])) == (
        ["-1", str(2**40)],
        ["null id"],
    )
    assert ids_of(parquet(tmp_path / "b.parquet", text=list("abcd"), id=["x", "", " ", None])) == (
        ["x"],
        ["empty id", "empty id", "null id"],
    )
    assert ids_of(parquet(tmp_path / "c.parquet", text=["a"], id=[1.0])) == (
        [],
        ["id is not text or an integer: double"],
    )
    assert ids_of(write(tmp_path / "d.csv", b"id,text\n01,a\n,b\n\xff,c\n")) == (
        ["01"],
        ["empty id", "id is invalid UTF-8"],
    )
    values = ["s", 12, None, True, 1.5, [1], {"a": 1}, "\ud800"]
    rows = [json.dumps({"text": "a", "id": value}) for value in values] + ['{"text": "a"}']
    assert ids_of(write(tmp_path / "e.jsonl", "\n".join(rows).encode())) == (
        ["s", "12"],
        [
            "null id",
            *(f"id is not text or an integer: {kind}" for kind in ("boolean", "number", "array", "object")),
            "lone surrogate in the id",
            "no key 'id'",
        ],
    )


@pytest.mark.parametrize("limit", [1, 3, 100])
def test_a_limit_counts_rows_of_any_kind(tmp_path: Path, limit: int) -> None:
    texts, rejected = read(write(tmp_path / "a.txt", b"a\n\nb\nc\n"), limit=limit, batch_rows=2)
    assert len(texts) + len(rejected) == min(limit, 4)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.parquet", b"id,text\n1,a\n", r"a\.parquet: cannot be read as parquet: Parquet magic bytes"),
        ("a.parquet", b"", r"a\.parquet: cannot be read as parquet"),
        ("a.txt.gz", gzip.compress(b"hello\n" * 9999, mtime=0)[:60], r"a\.txt\.gz: cannot be read as txt: Truncated"),
        ("a.csv.gz", b"text\nplain\n", r"a\.csv\.gz: cannot be read as csv: zlib"),
        ("a.csv", b"", r"a\.csv: has no header"),
        ("a.csv", b"id,body\n1,a\n", r"a\.csv: no column 'text' \(it has: id, body\): .*--text-column"),
        ("a.csv", b"text,text\n1,a\n", r"a\.csv: 2 columns are named 'text'"),
        ("a.csv", "text\na\n".encode("utf-16"), r"a\.csv: is UTF-16"),
        ("a.txt", "text\na\n".encode("utf-16"), r"a\.txt: is UTF-16"),
    ],
)
def test_a_file_that_is_something_else_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(CorpusError, match=message) as caught:
        read(write(tmp_path / name, content))
    assert "\n" not in str(caught.value)


def test_a_missing_id_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"no column 'id' \(it has: text\): .*--id-column"):
        read(parquet(tmp_path / "a.parquet", text=["a"]), id_column="id")
    with pytest.raises(CorpusError, match=r"a\.txt: a txt file has no column 'id'"):
        read(write(tmp_path / "a.txt", b"a\n"), id_column="id")


def test_a_saved_dataset_that_is_damaged_is_named(tmp_path: Path) -> None:
    (tmp_path / "saved").mkdir()
    for name in ("state.json", "dataset_info.json"):
        (tmp_path / "saved" / name).write_text("{}")
    with pytest.raises(CorpusError, match="saved: not a folder that `datasets` can load"):
        read(tmp_path / "saved")


OBJECTS = ['{"text": "a"}', '{"text": "b", "id": 7}', '{"text": "e", "id": "f"}', ' {"text": "h"}\r']
BAD_OBJECTS = ['{"text": 1}', '{"text": "\\ud83d"}', '{"text": "g", "id": true}', '{"text": "c"}, {"text": "d"}']
FRAGMENTS = ["{", '"x"', "[1", "2]", "1,1", "", "null", "\ufeff{}"]
PIECES = OBJECTS + BAD_OBJECTS + FRAGMENTS


@given(st.lists(st.sampled_from(PIECES), max_size=12), st.sampled_from([None, "id"]))
def test_json_lines_parsed_together_are_what_they_are_one_by_one(lines: list[str], id_column: str | None) -> None:
    def rows(together: int) -> list[tuple[Any, ...]]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(read_text, "TOGETHER", together)
            stream = pa.input_stream(pa.py_buffer("\n".join(lines).encode()))
            batches = list(read_text.read_jsonl(stream, "a.jsonl", "text", id_column, 5))
        return [(one.texts.to_pylist(), one.ids and one.ids.to_pylist(), one.refusals) for one in batches]

    assert rows(64) == rows(3) == rows(1)
