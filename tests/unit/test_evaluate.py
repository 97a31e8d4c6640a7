from __future__ import annotations

from pathlib import Path

import pytest

from zsd.assets import bundled_teacher_path
from zsd.config import EvaluateConfig
from zsd.errors import InputError
from zsd.evaluate import evaluate, evaluation_table
from zsd.evaluation import classification_metrics
from zsd.inference import predict
from zsd.students.checkpoint import load_checkpoint


@pytest.fixture
def gold(tmp_path: Path) -> Path:
    """Rows for the bundled teacher, which is a text classifier with two classes like any other."""
    file = tmp_path / "gold.csv"
    file.write_text("text,label\nA cat sleeps.,entailment\nA dog runs.,not_entailment\nIt rains.,not_entailment\n")
    return file


def test_the_figures_are_those_of_the_predictions(gold: Path) -> None:
    result = evaluate(EvaluateConfig(model=str(bundled_teacher_path()), data=(str(gold),)))
    texts = ["A cat sleeps.", "A dog runs.", "It rains."]
    import numpy as np

    model, tokenizer = load_checkpoint(bundled_teacher_path())
    probs_NK = predict(model, tokenizer, texts).probs
    expected = classification_metrics(np.array([0, 1, 1]), probs_NK, ["entailment", "not_entailment"])
    assert {key: result[key] for key in expected} == expected
    assert (result["rows"], result["multi_label"], result["data"]) == (3, False, [str(gold)])
    table = evaluation_table(result)
    assert f"{result['accuracy']:.4f}" in table
    assert all(name in table for name in result["labels"])


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
        "per_class": {"a": row},
    }
    table = evaluation_table(result)
    assert "5,000" in table
    assert "1,234" in table
    assert any(line.split()[-1] == "-" for line in table.splitlines() if line.startswith("mean average"))


def test_no_student_is_named(gold: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no student here"):
        evaluate(EvaluateConfig(model=str(tmp_path), data=(str(gold),)))
