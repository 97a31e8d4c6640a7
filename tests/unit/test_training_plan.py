from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.store import NAMES, build, labelled
from zsd.config import DistillConfig
from zsd.distill_config import CALIBRATIONS
from zsd.errors import ConfigError, CorpusError, InputError
from zsd.soft_labels import METHODS
from zsd.training_plan import TrainingPlan, folder_name, plan_training


@pytest.fixture
def store(tmp_path: Path) -> Path:
    build(tmp_path / "store")
    manifest = tmp_path / "store" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"teacher": "bundled"}))
    return tmp_path / "store"


def plan(store: Path, arguments: dict[str, Any] | None = None, **changes: Any) -> TrainingPlan:
    config = DistillConfig(soft_labels=str(store), output=str(store.parent / "out"), **changes)
    return plan_training(config, arguments or {})


def texts_of(store: Path, unit: int) -> list[str]:
    return [str(text) for text in labelled([f"id-{unit}-{n}" for n in range(4)], seed=unit)["text"].to_pylist()]


def write_rows(file: Path, rows: list[tuple[str, str]]) -> str:
    file.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    return str(file)


def test_the_plain_job_has_one_student_and_no_reviewed_rows(store: Path) -> None:
    made = plan(store)
    (task,) = made.tasks
    assert task.student == "layers:half"
    assert task.objective.freeze_embeddings
    assert task.gold == {} and task.new_gold == () and task.excluded == frozenset()
    assert task.target.endswith("/out/student")
    assert json.loads(json.dumps(made.identity)) == made.identity


@pytest.mark.parametrize(
    ("teacher", "student"),
    [("bundled-sparse", "layers:half"), ("someone/nli", "distilbert/distilbert-base-uncased")],
)
def test_a_bundled_teacher_needs_no_download_for_its_student(store: Path, teacher: str, student: str) -> None:
    manifest = store / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"teacher": teacher}))
    assert [task.student for task in plan(store).tasks] == [student]


def test_whatever_changes_what_is_learned_makes_it_another_job(store: Path, tmp_path: Path) -> None:
    gold = write_rows(tmp_path / "gold.csv", [(texts_of(store, 0)[0], "a"), ("a new text", "b")])
    changes: list[dict[str, Any]] = [
        {"calibrate": "batch"},
        {"weight": "margin"},
        {"balance": 0.5},
        {"rounds": 1},
        {"hard_labels": 0.5},
        {"patience": 2},
        {"gold": (gold,)},
        {"test": (gold,)},
        {"students": ("layers:half", "layers:2")},
        {"heldout_fraction": 0.2},
    ]
    seen = [plan(store, calibrate="none").identity]
    for change in changes:
        identity = plan(store, **({"calibrate": "none"} | change)).identity
        assert identity not in seen, change
        seen.append(identity)
    assert plan(store, calibrate="none", num_workers=3, min_workers=2).identity == seen[0]


def test_every_calibration_can_be_asked_for() -> None:
    assert CALIBRATIONS == METHODS


def test_reviewed_rows_are_known_by_their_text_and_test_rows_are_no_reviewed_rows(store: Path, tmp_path: Path) -> None:
    first, second = texts_of(store, 0)[:2]
    gold = write_rows(tmp_path / "gold.csv", [(first, "a"), (second, "c"), ("a new text", "b")])
    (task,) = plan(store, gold=(gold,)).tasks
    assert sorted(task.gold.values()) == [(0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)]
    assert task.new_gold == ("a new text",)
    assert task.objective.temperature == 1
    test = write_rows(tmp_path / "test.csv", [(second, "c"), ("seen nowhere", "a")])
    made = plan(store, gold=(gold,), test=(test,))
    (task,) = made.tasks
    assert len(task.excluded) == 2
    assert sorted(task.gold.values()) == [(0.0, 1.0, 0.0), (1.0, 0.0, 0.0)]
    assert made.remarks == ("1 row(s) of --gold are among --test and are not trained on",)
    with pytest.raises(ConfigError, match="all its rows are among --test"):
        plan(store, gold=(gold,), test=(gold,))


def test_a_column_that_is_missing_is_named_by_the_flag_that_there_is(store: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("body,topic\na,b\n")
    with pytest.raises(CorpusError, match="name it with --gold-text-column"):
        plan(store, gold=(str(file),))
    with pytest.raises(CorpusError, match="name it with --gold-label-column"):
        plan(store, gold=(str(file),), gold_text_column="body")
    with pytest.raises(CorpusError, match="name it with --test-text-column"):
        plan(store, test=(str(file),))


def test_a_text_reviewed_twice_must_have_one_label(store: Path, tmp_path: Path) -> None:
    twice = write_rows(tmp_path / "gold.csv", [("one text", "a"), ("one text", "a")])
    assert len(plan(store, gold=(twice,)).tasks[0].gold) == 1
    torn = write_rows(tmp_path / "torn.csv", [("one text", "a"), ("one text", "b")])
    with pytest.raises(ConfigError, match="twice with different labels"):
        plan(store, gold=(torn,))
    unknown = write_rows(tmp_path / "unknown.csv", [("one text", "z")])
    with pytest.raises(InputError, match="'z'"):
        plan(store, gold=(unknown,))


def test_several_students_have_a_folder_each_and_the_first_is_the_student(store: Path) -> None:
    made = plan(store, students=("layers:2", "linear", "static"), rounds=2)
    assert [Path(task.target).name for task in made.tasks] == ["student", "student-linear", "student-static"]
    assert [task.rounds for task in made.tasks] == [2, 0, 0]
    assert [line for line in made.remarks if "--rounds" in line and "linear" in line]
    assert len({task.work for task in made.tasks}) == 3
    with pytest.raises(ConfigError, match="both would be called bert"):
        plan(store, students=("a/bert", "b/bert"))
    with pytest.raises(ConfigError, match="named twice"):
        plan(store, students=("linear", "linear"))


def test_an_earlier_student_goes_on_and_one_with_other_classes_says_so(store: Path, tmp_path: Path) -> None:
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    card = {"labels": {"names": NAMES}, "freeze_embeddings": True}
    (earlier / "zsd.json").write_text(json.dumps(card))
    made = plan(store, student=str(earlier))
    assert made.tasks[0].objective.freeze_embeddings
    assert "going on" in made.remarks[0]
    (earlier / "zsd.json").write_text(json.dumps(card | {"labels": {"names": ["x", "y", "z"]}}))
    assert "'x', 'y', 'z'" in plan(store, student=str(earlier)).remarks[0]
    before = plan(store, student=str(earlier)).identity
    (earlier / "model.safetensors").write_bytes(b"other weights")
    assert plan(store, student=str(earlier)).identity != before


def test_what_a_light_student_takes_no_notice_of_is_said_and_nothing_else(store: Path) -> None:
    given: dict[str, Any] = {"limit": 5, "weight": "margin", "patience": 2, "freeze_embeddings": False}
    remarks = plan(store, {"learning_rate": 1e-3, "seed": 1}, student="linear", **given).remarks
    assert [line.split()[1] for line in remarks] == ["--patience", "--freeze-embeddings", "--learning_rate"]
    assert plan(store, {"learning_rate": 1e-3}, student="layers:2", **given).remarks == ()


@pytest.mark.parametrize(
    ("student", "folder"),
    [
        ("layers:half", "layers-half"),
        ("static", "static"),
        ("org/some-model", "some-model"),
        ("/models/mine/", "mine"),
        ("..", "checkpoint"),
    ],
)
def test_a_folder_is_named_after_the_student(student: str, folder: str) -> None:
    assert folder_name(student) == folder
