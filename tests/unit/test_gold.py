from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zsd.errors import CorpusError, InputError
from zsd.gold import GoldRows, read_gold

NAMES = ["sports", "the world"]
TEXTS = ["one, two", 'a "quoted"\nnewline']
CSV = 'n,text,label\n1,"one, two",the world\n2,"a ""quoted""\nnewline",sports\n'


def read(*data: Path, **options: Any) -> GoldRows:
    settings: dict[str, Any] = {"text_column": "text", "label_column": "label", "names": NAMES, "multi_label": False}
    return read_gold([str(one) for one in data], **{**settings, **options})


def write(file: Path, content: str) -> Path:
    if file.suffix == ".gz":
        file.write_bytes(gzip.compress(content.encode()))
    else:
        file.write_text(content, encoding="utf-8")
    return file


def jsonl(rows: list[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture(params=["csv", "csv.gz", "tsv", "jsonl", "parquet", "datasets"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The same two rows in every format."""
    place = tmp_path / f"gold.{request.param}"
    columns = {"n": [1, 2], "text": TEXTS, "label": ["the world", "sports"]}
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    if request.param == "parquet":
        pq.write_table(pa.table(columns), place)
    elif request.param == "datasets":
        datasets.Dataset.from_dict(columns).save_to_disk(place)
    else:
        tsv = "\t".join(columns) + "".join(
            f'\n{n}\t"{t.replace(chr(34), chr(34) * 2)}"\t{label}'
            for n, t, label in zip(*columns.values(), strict=True)
        )
        write(place, {"tsv": tsv, "jsonl": jsonl(rows)}.get(request.param, CSV))
    return place


def test_every_format_gives_the_same_rows(file: Path) -> None:
    rows = read(file)
    assert rows.gold is not None
    assert rows.gold.tolist() == [1, 0]
    assert rows.texts[0] == TEXTS[0]
    assert rows.texts[1].startswith('a "quoted"')


def test_a_missing_column_is_named(file: Path) -> None:
    with pytest.raises(CorpusError, match=r"has no column 'topic' .*text.*--label-column"):
        read(file, label_column="topic")
    with pytest.raises(CorpusError, match=r"has no column 'body' .*text.*--text-column"):
        read(file, text_column="body")
    assert read(file, label_column="topic", required=False).gold is None


def test_limit_never_looks_further(tmp_path: Path) -> None:
    first = write(tmp_path / "1.csv", "text,label\na,sports\nb,nonsense\n")
    assert read(first, tmp_path / "1.csv", limit=1).texts == ["a"]
    good = write(tmp_path / "2.csv", "text,label\na,sports\n")
    assert read(good, first, limit=2).texts == ["a", "a"]
    with pytest.raises(InputError, match=r"1\.csv: gold label 'nonsense' in row 1"):
        read(good, first, limit=3)


@pytest.mark.parametrize(
    ("names", "cells", "gold"),
    [
        (NAMES, ["0", "1"], [0, 1]),
        (["1", "2"], ["1", "2"], [0, 1]),
        (["true", "false"], ["false", "true"], [1, 0]),
        (["2020-01-01", "null"], ["null", "2020-01-01"], [1, 0]),
    ],
)
def test_labels_of_a_csv(tmp_path: Path, names: list[str], cells: list[str], gold: list[int]) -> None:
    file = write(tmp_path / "t.csv", "text,label\n" + "".join(f"1234,{cell}\n" for cell in cells))
    rows = read(file, names=names)
    assert rows.gold is not None
    assert rows.gold.tolist() == gold
    assert rows.texts == ["1234", "1234"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,label\na,\n", "gold label in row 0 is missing"),
        ("text,label\na,Sports\n", "'Sports' in row 0 is none of the classes"),
        ("text,label\na,7\n", "7 in row 0 is none"),
        ("text,label\n,sports\n", "row 0 has no text"),
        ("text,label\na,sports\n   ,sports\n", "row 1 has no text"),
        ("text,label\na\n", "line 2 has 1 fields, the header 2"),
        ("text,label\na,sports,x\n", "line 2 has 3 fields"),
        ("text,text,label\na,b,sports\n", "more than one column 'text'"),
        ("text,label\n", "holds no row"),
        ("", "holds no row"),
    ],
)
def test_a_wrong_csv(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read(write(tmp_path / "t.csv", content))
    assert "t.csv" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (jsonl([{"text": "a", "label": None}]), "missing"),
        (jsonl([{"text": "a", "label": 1.0}]), "1.0 in row 0"),
        (jsonl([{"text": "a", "label": True}]), "True in row 0"),
        (jsonl([{"text": 3, "label": 1}]), "the text in row 0 is 3, not text"),
        (jsonl([{"text": None, "label": 1}]), "row 0 has no text"),
        (jsonl([{"text": "a", "label": 1}, {"label": 1}]), "row 1 has no text"),
        ('{"text": "a", "label": 1}\n{oops\n', "line 2: "),
        ("[1]\n", "line 1 is no JSON object"),
    ],
)
def test_a_wrong_jsonl(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read(write(tmp_path / "t.jsonl", content))
    assert "t.jsonl" in str(caught.value)


def test_damaged_files(tmp_path: Path) -> None:
    for name in ("t.parquet", "t.csv.gz"):
        (tmp_path / name).write_bytes(b"text,label\n")
        with pytest.raises(CorpusError, match=f"{name}: cannot be read"):
            read(tmp_path / name)
    (tmp_path / "u.csv").write_bytes(b"text,label\n\xff\xfe,sports\n")
    with pytest.raises(CorpusError, match=r"u\.csv: cannot be read as csv: 'utf-8'"):
        read(tmp_path / "u.csv")


def test_files_with_and_without_labels_do_not_mix(tmp_path: Path) -> None:
    gold, plain = write(tmp_path / "a.csv", CSV), write(tmp_path / "b.txt", "a line\n")
    for order in ((gold, plain), (plain, gold)):
        with pytest.raises(CorpusError, match="label"):
            read(*order, required=False)
    assert read(plain, required=False).texts == ["a line"]
    with pytest.raises(CorpusError, match=r"has no column 'label'"):
        read(plain)


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_multi_label_lists(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"m.{ending}"
    labels: list[list[str]] = [["sports"], [], ["the world", "sports"]]
    if ending == "jsonl":
        write(file, jsonl([{"text": "a", "label": one} for one in labels]))
    else:
        pq.write_table(pa.table({"text": ["a"] * 3, "label": labels}), file)
    rows = read(file, multi_label=True)
    assert rows.gold is not None
    assert rows.gold.tolist() == [[1, 0], [0, 0], [1, 1]]
    with pytest.raises(InputError, match="row 0"):
        read(file)
    with pytest.raises(InputError, match="not a list"):
        read(write(tmp_path / "s.csv", CSV), multi_label=True)


def test_class_label_numbers_are_their_own_names(tmp_path: Path) -> None:
    """The order of a dataset's names is not that of the student's: the numbers must not be taken as indices."""
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=NAMES[::-1])})
    rows = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]}, features=features)
    rows.save_to_disk(tmp_path / "saved")
    rows.to_parquet(tmp_path / "t.parquet")
    for place in (tmp_path / "saved", tmp_path / "t.parquet"):
        gold = read(place).gold
        assert gold is not None
        assert gold.tolist() == [1, 0]
