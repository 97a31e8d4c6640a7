"""`zsd evaluate`: a student against gold labels. Needs no cluster."""

from __future__ import annotations

from typing import Any

from zsd.config import EvaluateConfig
from zsd.evaluation import classification_metrics
from zsd.gold import read_gold
from zsd.inference import predict
from zsd.students.checkpoint import load_checkpoint, student_names
from zsd.students.folder import student_directory


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Figures of `zsd.evaluation.classification_metrics`, with the model and the data they belong to.

    Raises:
        InputError: the student, the rows or their gold labels are not what they should be.
    """
    directory = student_directory(config.model)
    model, tokenizer = load_checkpoint(directory)
    names, multi_label = student_names(model)
    rows = read_gold(
        config.data,
        text_column=config.text_column,
        label_column=config.label_column,
        names=names,
        multi_label=multi_label,
        limit=config.limit,
    )
    assert rows.gold is not None, "read_gold raises without a label column"
    metrics = classification_metrics(rows.gold, predict(model, tokenizer, rows.texts).probs, names)
    return {"model": str(directory), "data": list(config.data), "labels": names, "multi_label": multi_label, **metrics}


def evaluation_table(result: dict[str, Any]) -> str:
    """The figures as a few lines for a terminal."""
    quality = ["accuracy", "macro_f1"]
    if result["multi_label"]:
        quality = ["micro_f1", "macro_f1", "mean_average_precision", "subset_accuracy"]
    keys = ["rows", *quality, "expected_calibration_error"]
    lines = [f"{key.replace('_', ' '):<28}{_shown(result[key])}" for key in keys]
    width = max(len(name) for name in result["labels"])
    lines.append(f"{'':<{width}}  precision  recall      f1  support")
    for name, row in result["per_class"].items():
        figures = "".join(f"{_shown(row[key]):>{size}}" for key, size in (("precision", 9), ("recall", 8), ("f1", 8)))
        lines.append(f"{name:<{width}}  {figures}{row['support']:>9,}")
    return "\n".join(lines)


def _shown(value: float | int | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
