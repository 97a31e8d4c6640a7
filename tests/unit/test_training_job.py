from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from transformers import AutoTokenizer

from tests.unit.store import NAMES, build, labelled
from zsd.assets import bundled_teacher_path
from zsd.corpus.normalize import text_ids
from zsd.errors import InputError
from zsd.inference import FloatArray
from zsd.round_labels import prepare_answers, prepare_labels
from zsd.soft_labels import Recipe
from zsd.training import Objective
from zsd.training_job import TrainTask, open_sides, prepare_rows, publish, student_card, trained_card

# Legend: N rows, K labels.

IDS = [[f"id-{unit}-{n}" for n in range(40)] for unit in range(2)]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(bundled_teacher_path())


@pytest.fixture
def task(tmp_path: Path) -> TrainTask:
    build(tmp_path / "store", [labelled(ids, seed=unit) for unit, ids in enumerate(IDS)])
    manifest = tmp_path / "store" / "manifest.json"
    teacher = {"teacher": "bundled", "teacher_fingerprint": "f", "nli_classes": {"entailment": 0}}
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | teacher))
    return TrainTask(
        store=str(tmp_path / "store"),
        work=str(tmp_path / "out" / "checkpoints" / "tiny"),
        target=str(tmp_path / "out" / "student"),
        tensorboard=str(tmp_path / "out" / "tensorboard"),
        student="layers:half",
        teacher="bundled",
        recipe=Recipe(method="none", multi_label=False),
        heldout_fraction=0.2,
        objective=Objective(multi_label=False),
        weight="none",
        balance=0.0,
        gold_weight=5.0,
        rounds=2,
        arguments={},
    )


def files(folder: str) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(Path(folder).iterdir())}


def test_any_number_of_workers_prepares_the_same_rows(task: TrainTask, tokenizer: Any, tmp_path: Path) -> None:
    task = replace(task, gold={"f" * 32: (1.0, 0.0, 0.0)}, new_gold=())
    prepare_rows(task, tokenizer, worker=0, workers=1)
    other = replace(task, work=str(tmp_path / "other"))
    for worker in range(3):
        prepare_rows(other, tokenizer, worker=worker, workers=3)
    assert files(task.rows) == files(other.rows)
    train, heldout = open_sides(task, task.rows, None)
    assert len(train) + len(heldout) == 80


def test_rows_that_are_prepared_are_not_prepared_again(task: TrainTask, tokenizer: Any) -> None:
    prepare_rows(task, tokenizer, worker=0, workers=1)
    before = files(task.rows)
    (lost, kept) = (Path(task.rows) / f"train-0000{part}.arrow" for part in range(2))
    lost.unlink()
    stamp = kept.stat().st_mtime_ns
    prepare_rows(task, tokenizer, worker=0, workers=1)
    assert files(task.rows) == before
    assert kept.stat().st_mtime_ns == stamp


@pytest.mark.parametrize("limit", [10, 40, 55])
def test_a_limit_takes_the_first_rows_of_the_store(limit: int, task: TrainTask, tokenizer: Any) -> None:
    task = replace(task, limit=limit)
    prepare_rows(task, tokenizer, worker=0, workers=1)
    train, heldout = open_sides(task, task.rows, None)
    assert len(train) + len(heldout) == limit


def test_too_few_rows_for_a_split_is_an_error_that_says_what_to_do(task: TrainTask, tokenizer: Any) -> None:
    task = replace(task, limit=1)
    prepare_rows(task, tokenizer, worker=0, workers=1)
    with pytest.raises(InputError, match=r"1 soft-labelled row.*label more rows"):
        open_sides(task, task.rows, None)


def test_a_round_has_labels_from_student_and_teacher_and_leaves_reviewed_rows_alone(
    task: TrainTask, tokenizer: Any, tmp_path: Path
) -> None:
    text = labelled(IDS[0], seed=0)["text"][3].as_py()
    (key,) = text_ids(pa.array([text], pa.large_string())).to_pylist()
    task = replace(task, round=1, gold={key: (0.0, 0.0, 1.0)}, recipe=Recipe(method="batch", multi_label=False))
    prepare_rows(task, tokenizer, worker=0, workers=1)

    def sure_of_the_first(ids: Any) -> FloatArray:
        return np.tile(np.array([0.9, 0.05, 0.05], dtype=np.float32), (len(ids), 1))

    def made(work: str, workers: int) -> dict[str, bytes]:
        here = replace(task, work=work)
        for worker in range(workers):
            prepare_answers(here, task.rows, sure_of_the_first, worker=worker, workers=workers)
        for worker in range(workers):
            prepare_labels(here, task.rows, here.answers, worker=worker, workers=workers)
        assert here.labels is not None
        return files(here.labels)

    assert made(task.work, 1) == made(str(tmp_path / "two"), 2)
    train, _ = open_sides(task, task.rows, task.labels)
    before, _ = open_sides(replace(task, round=0), task.rows, None)
    teacher_NK, labels_NK = np.concatenate(before.probs), np.concatenate(train.probs)
    np.testing.assert_array_equal(train.keep, (teacher_NK.argmax(axis=1) == 0) | train.gold)
    # A student that says the same of all rows is not sure of any: evened out, its answers are no sharper.
    np.testing.assert_allclose(labels_NK[~train.gold, 0], 0.9, rtol=1e-6)
    np.testing.assert_array_equal(labels_NK[train.gold], teacher_NK[train.gold])
    assert train.gold.sum() == 1
    task = replace(task, work=str(tmp_path / "uneven"), recipe=Recipe(method="none", multi_label=False))
    prepare_rows(task, tokenizer, worker=0, workers=1)
    made(task.work, 1)
    uneven, _ = open_sides(task, task.rows, task.labels)
    np.testing.assert_allclose(np.concatenate(uneven.probs)[~uneven.gold, 0], 0.81 / 0.815, rtol=1e-5)


def test_a_student_is_published_with_its_card(task: TrainTask, tokenizer: Any, tmp_path: Path) -> None:
    prepare_rows(task, tokenizer, worker=0, workers=1)
    train, heldout = open_sides(task, task.rows, None)
    metrics = {"eval_agreement": 0.5, "eval_kl": 0.1, "eval_loss": 1.0, "eval_runtime": 3.0}
    card = trained_card(replace(task, round=2), train, heldout, metrics, parameters=7)
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    publish(folder, card, task.target)
    written = json.loads((Path(task.target) / "zsd.json").read_text())
    assert written["labels"]["names"] == NAMES
    assert written["heldout"] == {"rows": len(heldout), "fraction": 0.2, "agreement": 0.5, "kl": 0.1, "loss": 1.0}
    assert written["train_rows"] == len(train)
    assert written["rounds"] == 2
    assert Recipe.from_dict(written["recipe"]) == task.recipe
    assert student_card(task)["rounds"] == 0


def test_rounds_follow_one_another(task: TrainTask) -> None:
    first, second, third = task.turns
    assert first.labels is None
    assert second.before == first.published != task.target
    assert third.before == second.published
    assert third.published == task.target
