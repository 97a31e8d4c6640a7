from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit import store
from zsd import evaluate as evaluate_module
from zsd.assets import bundled_teacher_path
from zsd.confidence import differs
from zsd.config import EvaluateConfig
from zsd.errors import ConfigError, InputError, StudentError
from zsd.evaluate import evaluate, evaluation_table
from zsd.evaluation import classification_metrics, kl_divergence
from zsd.inference import probabilities
from zsd.shards import MANIFEST, Store, matrix, read_json, write_json
from zsd.soft_labels import Recipe
from zsd.students import load_student
from zsd.students.checkpoint import save_student
from zsd.students.layers import build_student
from zsd.students.spec import parse_student
from zsd.training_data import heldout_mask


@pytest.fixture
def gold(tmp_path: Path) -> Path:
    """Rows for the bundled teacher, which is a text classifier with two classes like any other."""
    file = tmp_path / "gold.csv"
    file.write_text("text,label\nA cat sleeps.,entailment\nA dog runs.,not_entailment\nIt rains.,not_entailment\n")
    return file


def test_the_figures_are_those_of_the_predictions(gold: Path) -> None:
    result = evaluate(EvaluateConfig(model=str(bundled_teacher_path()), data=(str(gold),)))
    texts = ["A cat sleeps.", "A dog runs.", "It rains."]
    probs_NK = load_student(bundled_teacher_path()).predict(texts)
    expected = classification_metrics(np.array([0, 1, 1]), probs_NK, ["entailment", "not_entailment"])
    assert {key: result[key] for key in expected} == expected
    assert (result["rows"], result["multi_label"], result["data"]) == (3, False, [str(gold)])
    table = evaluation_table(result)
    assert f"{result['accuracy']:.4f}" in table
    assert all(name in table for name in result["labels"])


def test_rows_are_answered_some_at_a_time_with_a_line_that_tells(
    gold: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = EvaluateConfig(model=str(bundled_teacher_path()), data=(str(gold),))
    at_once = evaluate(config)
    monkeypatch.setattr(evaluate_module, "CHUNK_ROWS", 2)
    capsys.readouterr()
    in_parts = evaluate(config)
    assert in_parts["confusion"] == at_once["confusion"]
    assert in_parts["expected_calibration_error"] == pytest.approx(at_once["expected_calibration_error"], abs=1e-5)
    assert capsys.readouterr().err.startswith("zsd: evaluate: 3 of 3 rows (100%), ")


def test_the_table_of_a_multi_label_student_tells_what_is_unknown() -> None:
    row = {"precision": 0.5, "recall": 1.0, "f1": 0.66, "support": 1234}
    result = {
        "multi_label": True,
        "labels": ["a"],
        "rows": 5000,
        "micro_f1": 0.5,
        "macro_f1": 0.5,
        "mean_average_precision": None,
        "subset_accuracy": 0.25,
        "expected_calibration_error": 0.1,
        "risk_coverage": {"area": 0.25, "points": []},
        "per_class": {"a": row},
    }
    table = evaluation_table(result)
    assert "5,000" in table
    assert "1,234" in table
    assert any(line.split()[-1] == "-" for line in table.splitlines() if line.startswith("mean average"))


def test_no_student_is_named(gold: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no student here"):
        evaluate(EvaluateConfig(model=str(tmp_path), data=(str(gold),)))


@pytest.fixture(scope="module", params=[False, True], ids=["single", "multi-label"])
def distilled(
    request: pytest.FixtureRequest, teacher_of: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """An untrained student of a small store, and that store; half of its rows are held out, labels are calibrated."""
    folder = tmp_path_factory.mktemp("evaluate")
    labels = {"names": store.NAMES, "template": "{}", "multi_label": request.param}
    store.build(folder / "store")
    manifest = read_json(str(folder / "store" / MANIFEST)) | {"labels": labels, "teacher_fingerprint": "t"}
    write_json(str(folder / "store" / MANIFEST), manifest)
    spec = parse_student("layers:1")
    model, tokenizer = build_student(
        spec, teacher=teacher_of("bert"), names=store.NAMES, multi_label=request.param, seed=0
    )
    save_student(model, tokenizer, folder / "student")
    recipe = Recipe(method="contextual", multi_label=request.param, prior=(0.6, 0.3, 0.2))
    card: dict[str, Any] = {"labels": labels, "teacher_fingerprint": "t", "heldout": {"fraction": 0.5}}
    card |= {"recipe": recipe.to_dict(), "temperature": 2.0}
    write_json(str(folder / "student" / "zsd.json"), card)
    return folder / "student", folder / "store"


def test_held_out_rows_are_compared_with_the_calibrated_teacher(distilled: tuple[Path, Path]) -> None:
    student, labelled = distilled
    heldout = evaluate(EvaluateConfig(model=str(student), soft_labels=str(labelled)))["heldout"]
    rows = Store(str(labelled)).read(["id", "text", "entailment", "contradiction"])
    mask_N = heldout_mask(rows["id"].to_pylist(), 0.5)
    recipe = Recipe.from_dict(read_json(str(student / "zsd.json"))["recipe"])
    teacher_NK = recipe.probs(matrix(rows["entailment"]), matrix(rows["contradiction"]))[mask_N]
    loaded = load_student(student)
    student_NK = loaded.predict([text for text, held in zip(rows["text"].to_pylist(), mask_N, strict=True) if held])
    assert heldout["rows"] == mask_N.sum() < len(mask_N)
    softened_NK = probabilities(np.log(student_NK / (1 - student_NK)) / 2, multi_label=True)
    if not loaded.multi_label:
        softened_NK = student_NK**0.5 / (student_NK**0.5).sum(axis=1, keepdims=True)
    assert heldout["kl"] == pytest.approx(kl_divergence(teacher_NK, softened_NK, multi_label=loaded.multi_label), 1e-4)
    same_N = ~differs(student_NK, teacher_NK, multi_label=loaded.multi_label)
    assert heldout["row_agreement"] == pytest.approx(same_N.mean())
    assert heldout["risk_coverage"]["points"][-1]["accuracy"] == pytest.approx(same_N.mean())


def test_the_page_holds_every_plot_and_the_thresholds_and_escapes_names(
    distilled: tuple[Path, Path], tmp_path: Path
) -> None:
    student, labelled = distilled
    multi_label = load_student(student).multi_label
    gold = tmp_path / "<b>gold.jsonl"
    rows: list[dict[str, Any]] = [
        {"text": f"row {n}", "label": [name] if multi_label else name} for n, name in enumerate(store.NAMES * 3)
    ]
    gold.write_text("\n".join(map(json.dumps, rows)))
    asked = EvaluateConfig(
        model=str(student), data=(str(gold),), soft_labels=str(labelled), output=str(tmp_path / "out")
    )
    result = evaluate(asked)
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text()) == result
    page = (tmp_path / "out" / "evaluation.html").read_text()
    assert "<b>gold" not in page
    assert "&lt;b&gt;gold" in page
    plots = {file.stem for file in (tmp_path / "out").glob("*.png")}
    assert plots == {"reliability", "risk_coverage", "selective_agreement", "scores", "class_balance"} | (
        set() if multi_label else {"confusion"}
    )
    assert page.count("<svg") == len(plots)
    assert result["gold_class_balance"] == dict.fromkeys(store.NAMES, pytest.approx(1 / 3))
    assert ">gold</text>" in page
    assert "http" not in page.replace("http://www.w3.org", "").replace("http-equiv", "")
    assert ("thresholds" in result) == ("at_thresholds" in result) == multi_label
    if multi_label:
        probs_NK = load_student(student).predict([row["text"] for row in rows])
        said_NK = probs_NK >= np.array([result["thresholds"][name] for name in store.NAMES], dtype=np.float32)
        right_N = (said_NK == np.tile(np.eye(3, dtype=bool), (3, 1))).all(axis=1)
        assert result["at_thresholds"]["subset_accuracy"] == pytest.approx(right_N.mean())
        assert "micro f1 at thresholds" in evaluation_table(result)
    assert "heldout agreement" in evaluation_table(result)


def test_a_store_that_is_not_the_students_is_refused(distilled: tuple[Path, Path], tmp_path: Path) -> None:
    student, _ = distilled
    store.build(tmp_path / "other")
    manifest = read_json(str(tmp_path / "other" / MANIFEST))
    labels = manifest["labels"] | {"names": ["a", "b", "d"]}
    write_json(str(tmp_path / "other" / MANIFEST), manifest | {"labels": labels, "teacher_fingerprint": "t"})
    with pytest.raises(ConfigError, match="its labels is not that of the student"):
        evaluate(EvaluateConfig(model=str(student), soft_labels=str(tmp_path / "other")))
    with pytest.raises(StudentError, match=r"has no zsd\.json"):
        evaluate(EvaluateConfig(model=str(bundled_teacher_path()), soft_labels=str(tmp_path / "other")))
    with pytest.raises(ConfigError, match="nothing to evaluate on"):
        EvaluateConfig(model=str(student))
