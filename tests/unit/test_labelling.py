from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.families import LINES
from zsd.assets import bundled_teacher_path
from zsd.engines.base import Placement
from zsd.engines.select import SAMPLE_ROWS
from zsd.labelling import LabelTask, sample_units
from zsd.labels import LabelSet
from zsd.predicting import PredictTask
from zsd.shards import PREDICTIONS, SOFT_LABELS, Unit, matrix, read_json, read_record
from zsd.soft_labels import soft_labels
from zsd.student import build_student, parse_student, save_student

# Legend: N rows, K labels.

NAMES = ("world", "sports", "business")
TEXTS = [*LINES, "word " * 200, "a megabyte of text " * 55_000, "日本"]
UNIT = Unit(shard="shard-00000.parquet", row_group=0, rows=len(TEXTS))


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
        "sample": (UNIT,),
        "pairs": 24,
    }
    made = LabelTask(output=output, teacher=teacher, **{**settings, **options})
    sent: LabelTask = pickle.loads(pickle.dumps(made))  # as Ray hands it to an actor
    return sent


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_a_unit_is_committed_with_labels_that_follow_from_its_logits(
    multi_label: bool, temperature: float, teacher_of: Callable[..., str], tmp_path: Path
) -> None:
    output = write_corpus(tmp_path)
    labels = LabelSet(names=NAMES, multi_label=multi_label)
    worker = task(output, teacher_of("bert"), labels=labels, temperature=temperature)(Placement())
    record = worker(UNIT, worker="CPU here 1")
    assert record == read_record(str(tmp_path / SOFT_LABELS), UNIT.part)
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
    timing = ("seconds", "started", "checksum")
    first, second = ({k: v for k, v in vars(record).items() if k not in timing} for record in records)
    assert first == second


def test_auto_writes_what_it_measured_once(teacher_of: Callable[..., str], tmp_path: Path) -> None:
    output = write_corpus(tmp_path)
    worker = task(output, teacher_of("bert"), engine="auto")(Placement())
    record = worker(UNIT, worker="CPU here 1")
    (file,) = (tmp_path / "engines").iterdir()
    content = read_json(str(file))
    assert content["worker"] == "CPU here 1"
    assert [(t["engine"], t["precision"]) for t in content["trials"]] == [(record.engine, record.precision)]
    file.unlink()
    worker(UNIT, worker="CPU here 1")
    assert not file.exists()


def test_auto_measures_on_rows_of_every_sample_unit(teacher_of: Callable[..., str], tmp_path: Path) -> None:
    output = write_corpus(tmp_path)
    worker = task(output, teacher_of("bert"), sample=(UNIT, UNIT))(Placement())
    assert worker._sample_texts() == [*TEXTS, *TEXTS]


@pytest.mark.parametrize(("count", "rows"), [(1, 64), (3, 1000), (40, 64), (200, 10), (1000, 256)])
def test_sample_units_come_from_all_over_the_corpus(count: int, rows: int) -> None:
    units = [Unit(shard="shard-00000.parquet", row_group=group, rows=rows) for group in range(count)]
    chosen = [unit.row_group for unit in sample_units(units)]
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
    worker = PredictTask(output=output, model=str(tmp_path / "model"), precision="fp32")(Placement())
    record = worker(UNIT, worker="w")
    assert record == read_record(str(tmp_path / PREDICTIONS), UNIT.part)
    assert (record.rows, record.pairs, record.truncated) == (len(TEXTS), len(TEXTS), 1)
    table = pq.read_table(tmp_path / PREDICTIONS / UNIT.part)
    assert table["text"].to_pylist() == TEXTS
    probs_NK = matrix(table["probs"])
    np.testing.assert_allclose(probs_NK.sum(axis=1), 1, atol=1e-5)
    assert table["label"].to_pylist() == [NAMES[k] for k in probs_NK.argmax(axis=1)]
