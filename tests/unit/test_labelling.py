from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.families import LINES
from zsd import labelling
from zsd.assets import bundled_teacher_path
from zsd.buckets import LengthSample
from zsd.engines.base import Placement
from zsd.engines.select import SAMPLE_ROWS
from zsd.labelling import LabelTask, sample_texts, sample_units
from zsd.labels import LabelSet
from zsd.predicting import PredictTask
from zsd.shards import LOGITS, PREDICTIONS, SOFT_LABELS, UnitRecord, describe_file, matrix, read_json
from zsd.soft_labels import soft_labels
from zsd.soft_labels.content_free import CONTENT_FREE
from zsd.students.checkpoint import save_student
from zsd.students.layers import build_student
from zsd.students.spec import parse_student
from zsd.units import Unit

# Legend: N rows, K labels.

NAMES = ("world", "sports", "business")
TEXTS = [*LINES, "word " * 200, "a megabyte of text " * 55_000, "日本"]
UNIT = Unit(shard="shard-00000.parquet", first=0, sizes=(len(TEXTS),))


def write_corpus(output: Path) -> str:
    (output / "corpus").mkdir()
    table = pa.table({"id": [f"row-{n}" for n in range(len(TEXTS))], "text": TEXTS})
    pq.write_table(table, output / "corpus" / UNIT.shard)
    return str(output)


def task(output: str, teacher: str, **options: Any) -> LabelTask:
    settings: dict[str, Any] = {
        "labels": LabelSet(names=NAMES),
        "nli_classes": None,
        "max_length": None,
        "temperature": 1.0,
        "engine": "torch",
        "precision": None,
        "min_agreement": 0.99,
        "long_text": "truncate",
        "lengths": LengthSample.of(np.arange(8, 65), max_length=64),
        "sample": (UNIT,),
        "pairs": 24,
    }
    made = LabelTask(output=output, teacher=teacher, **{**settings, **options})
    sent: LabelTask = pickle.loads(pickle.dumps(made))  # as Ray hands it to an actor
    return sent


def test_the_logits_of_every_template_lie_beside_their_mean(teacher_of: Callable[..., str], tmp_path: Path) -> None:
    output = write_corpus(tmp_path)
    labels = LabelSet(names=NAMES, template="{}", more_templates=("It is {}.",))
    record = task(output, teacher_of("bert"), labels=labels)(Placement())(UNIT, worker="CPU here 1")
    assert (record.rows, record.pairs) == (len(TEXTS), 6 * len(TEXTS))
    table = pq.read_table(tmp_path / SOFT_LABELS / UNIT.part)
    for name in LOGITS:
        each_NTK = matrix(table[f"{name}_by_template"]).reshape(len(TEXTS), 2, 3)
        assert np.abs(each_NTK[:, 0] - each_NTK[:, 1]).max() > 1e-3
        np.testing.assert_allclose(matrix(table[name]), each_NTK.mean(axis=1), atol=1e-6)
    expected_NK = soft_labels(*(matrix(table[name]) for name in LOGITS), multi_label=False)
    np.testing.assert_array_equal(matrix(table["probs"]), expected_NK)


def test_texts_that_say_nothing_are_scored_once_where_that_is_asked(
    teacher_of: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = write_corpus(tmp_path)
    task(output, teacher_of("bert"))(Placement())
    assert not (tmp_path / CONTENT_FREE).exists()
    asked = task(output, teacher_of("bert"), content_free=True)
    asked(Placement())
    content = read_json(str(tmp_path / CONTENT_FREE))
    words = {word for text in TEXTS for word in text.split()}
    assert {word for text in content["texts"] for word in text.split()} <= words
    assert np.array(content["entailment"]).shape == (len(content["texts"]), len(NAMES))
    monkeypatch.setattr(labelling, "content_free_texts", None)  # whoever calls it fails
    asked(Placement())


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_a_unit_is_committed_with_labels_that_follow_from_its_logits(
    multi_label: bool, temperature: float, teacher_of: Callable[..., str], tmp_path: Path
) -> None:
    output = write_corpus(tmp_path)
    labels = LabelSet(names=NAMES, multi_label=multi_label)
    worker = task(output, teacher_of("bert"), labels=labels, temperature=temperature)(Placement())
    record = worker(UNIT, worker="CPU here 1")
    assert describe_file(str(tmp_path / SOFT_LABELS), UNIT.part).records == (record,)
    assert (record.rows, record.pairs, record.truncated) == (len(TEXTS), 3 * len(TEXTS), 2)
    assert (record.engine, record.precision, record.worker) == ("torch", "fp32", "CPU here 1")
    table = pq.read_table(tmp_path / SOFT_LABELS / UNIT.part)
    assert table["id"].to_pylist() == [f"row-{n}" for n in range(len(TEXTS))]
    assert table["text"].to_pylist() == TEXTS
    probs_NK = matrix(table["probs"])
    expected_NK = soft_labels(
        matrix(table["entailment"]), matrix(table["contradiction"]), multi_label=multi_label, temperature=temperature
    )
    np.testing.assert_array_equal(probs_NK, expected_NK)
    assert table["label"].to_pylist() == [NAMES[k] for k in probs_NK.argmax(axis=1)]
    np.testing.assert_array_equal(table["score"].to_numpy(), probs_NK.max(axis=1))


def test_a_unit_done_twice_is_the_same_but_for_its_timings(teacher_of: Callable[..., str], tmp_path: Path) -> None:
    output = write_corpus(tmp_path)
    tables, records = [], []
    for _ in range(2):
        records.append(task(output, teacher_of("roberta"))(Placement())(UNIT, worker="w"))
        tables.append(pq.read_table(tmp_path / SOFT_LABELS / UNIT.part).replace_schema_metadata(None))
    assert tables[0].equals(tables[1])
    timing = ("seconds", "started")
    first, second = ({k: v for k, v in vars(record).items() if k not in timing} for record in records)
    assert first == second


def choice_of(output: Path, record: UnitRecord) -> dict[str, Any]:
    return read_json(str(output / "engines" / record.choice))


def test_auto_writes_what_it_chose_and_the_next_actor_of_the_node_takes_it(
    teacher_of: Callable[..., str], shared_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = write_corpus(tmp_path)
    asked = task(output, teacher_of("bert"), engine="auto")
    record = asked(Placement())(UNIT, worker="cpu here 1")
    content = choice_of(tmp_path, record)
    trials = [(one["engine"], one["precision"]) for one in content["trials"]]
    assert trials == [(record.engine, record.precision)] == [(content["engine"], content["precision"])]
    monkeypatch.setattr(labelling, "choose_engine", None)  # whoever calls it fails
    again = asked(Placement())(UNIT, worker="cpu here 2")
    assert (again.engine, again.precision, again.choice) == (record.engine, record.precision, record.choice)
    with pytest.raises(TypeError):
        replace(asked, min_agreement=0.5)(Placement())


def test_an_engine_that_is_named_is_taken_untried(
    teacher_of: Callable[..., str], shared_cache: Path, tmp_path: Path
) -> None:
    output = write_corpus(tmp_path)
    asked = task(output, teacher_of("bert"), engine="torch", precision="bf16", pairs=10**9)
    record = asked(Placement())(UNIT, worker="cpu here 1")
    content = choice_of(tmp_path, record)
    assert (record.engine, record.precision) == (content["engine"], content["precision"]) == ("torch", "bf16")
    assert content["trials"] == []


def test_windows_are_counted_and_nothing_is_truncated(
    teacher_of: Callable[..., str], shared_cache: Path, tmp_path: Path
) -> None:
    output = write_corpus(tmp_path)
    record = task(output, teacher_of("bert"), long_text="window")(Placement())(UNIT, worker="cpu here 1")
    assert describe_file(str(tmp_path / SOFT_LABELS), UNIT.part).records == (record,)
    assert (record.rows, record.truncated, record.windowed) == (len(TEXTS), 0, 2)
    assert record.windows > 1000
    assert record.pairs == 3 * (len(TEXTS) - 2 + record.windows)


def test_two_threads_label_as_one_does(teacher_of: Callable[..., str], shared_cache: Path, tmp_path: Path) -> None:
    """A tokenizer that two threads use at once raises; two units in one engine would mix."""
    output = write_corpus(tmp_path)
    rows = [f"{line} {number}" for number in range(40) for line in LINES]
    units = Unit(shard="shard-00001.parquet", first=0, sizes=(20,) * 10).single()
    table = pa.table({"id": [f"r{n}" for n in range(200)], "text": rows})
    pq.write_table(table, tmp_path / "corpus" / units[0].shard, row_group_size=20)
    worker = task(output, teacher_of("bert"))(Placement())
    alone = [worker(unit, worker="w") for unit in units]
    tables = [pq.read_table(tmp_path / SOFT_LABELS / unit.part).replace_schema_metadata(None) for unit in units]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda unit: worker(unit, worker="w"), units))
    for unit, one, other, before in zip(units, alone, together, tables, strict=True):
        assert (one.part, one.rows, one.tokens) == (other.part, other.rows, other.tokens)
        assert pq.read_table(tmp_path / SOFT_LABELS / unit.part).replace_schema_metadata(None).equals(before)


def test_a_sample_has_rows_of_every_sample_unit(tmp_path: Path) -> None:
    output = write_corpus(tmp_path)
    corpus = f"{output}/corpus"
    assert sample_texts(corpus, (UNIT, UNIT), 2 * len(TEXTS)) == [*TEXTS, *TEXTS]
    assert sample_texts(corpus, (UNIT, UNIT), 5) == [*TEXTS[:3], *TEXTS[:3]]


@pytest.mark.parametrize(("count", "rows"), [(1, 64), (3, 1000), (40, 64), (200, 10), (1000, 256)])
def test_sample_units_come_from_all_over_the_corpus(count: int, rows: int) -> None:
    chosen = [unit.first for unit in sample_units([Unit(shard="shard-00000.parquet", first=0, sizes=(rows,) * count)])]
    assert len(set(chosen)) == len(chosen) >= min(count, 8)
    assert len(chosen) * rows >= min(SAMPLE_ROWS, count * rows)
    assert len(chosen) <= max(8, -(-SAMPLE_ROWS // rows))
    assert max(chosen) >= count // 2 or count == 1


def test_a_student_predicts_a_unit(tmp_path: Path) -> None:
    output = write_corpus(tmp_path)
    model, tokenizer = build_student(
        parse_student("layers:1"), teacher=bundled_teacher_path(), names=NAMES, multi_label=False, seed=0
    )
    save_student(model, tokenizer, tmp_path / "model")
    worker = PredictTask(output=output, model=str(tmp_path / "model"), engine="torch", precision="fp32")(Placement())
    record = worker(UNIT, worker="w")
    assert describe_file(str(tmp_path / PREDICTIONS), UNIT.part).records == (record,)
    assert (record.rows, record.pairs, record.truncated) == (len(TEXTS), len(TEXTS), 1)
    table = pq.read_table(tmp_path / PREDICTIONS / UNIT.part)
    assert table["text"].to_pylist() == TEXTS
    probs_NK = matrix(table["probs"])
    np.testing.assert_allclose(probs_NK.sum(axis=1), 1, atol=1e-5)
    assert table["label"].to_pylist() == [NAMES[k] for k in probs_NK.argmax(axis=1)]


def test_rows_to_skip_are_rejected_with_their_reason_and_the_others_keep_their_place(
    teacher_of: Callable[..., str], shared_cache: Path, tmp_path: Path
) -> None:
    output = write_corpus(tmp_path)
    worker = task(output, teacher_of("bert"))(Placement())
    record = worker(UNIT, worker="cpu here 1", skip=[(1, "boom"), (3, "out of memory")])
    assert (record.rows, record.rejected) == (len(TEXTS) - 2, 2)
    kept = [n for n in range(len(TEXTS)) if n not in (1, 3)]
    assert pq.read_table(tmp_path / SOFT_LABELS / UNIT.part)["text"].to_pylist() == [TEXTS[n] for n in kept]
    rejected = pq.read_table(tmp_path / "rejected" / UNIT.part).to_pylist()
    assert [(row["source"], row["row"], row["reason"], row["text"]) for row in rejected] == [
        (f"corpus/{UNIT.shard}", 1, "boom", TEXTS[1][:200]),
        (f"corpus/{UNIT.shard}", 3, "out of memory", TEXTS[3][:200]),
    ]


def test_logits_do_not_depend_on_how_units_are_cut(
    teacher_of: Callable[..., str], shared_cache: Path, tmp_path: Path
) -> None:
    output = write_corpus(tmp_path)
    whole = Unit(shard="shard-00001.parquet", first=0, sizes=(20,) * 6)
    rows = [f"{line} {number}" for number in range(24) for line in LINES]
    table = pa.table({"id": [f"r{n}" for n in range(120)], "text": rows})
    pq.write_table(table, tmp_path / "corpus" / whole.shard, row_group_size=20)
    worker = task(output, teacher_of("bert"))(Placement())
    for unit in (whole, *whole.single()):
        worker(unit, worker="cpu here 1")
    parts = [tmp_path / SOFT_LABELS / unit.part for unit in (whole, *whole.single())]
    one, *pieces = [pq.read_table(part).replace_schema_metadata(None) for part in parts]
    assert one.equals(pa.concat_tables(pieces))
