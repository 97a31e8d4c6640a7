"""`zsd evaluate`: a student against gold labels, and against its teacher on held-out rows. Needs no cluster.

Legend: N rows, K labels.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zsd import storage
from zsd.benchmark.quality import gold_balance, side
from zsd.confidence import DECISION, FloatArray, confidence, differs
from zsd.config import EvaluateConfig
from zsd.console import Progress
from zsd.errors import ConfigError
from zsd.evaluation import agreement, calibration, classification_metrics, kl_divergence
from zsd.gold import GoldRows, read_gold
from zsd.heldout import heldout_rows, read_card
from zsd.inference import IntArray, probabilities
from zsd.report.evaluation import write_evaluation
from zsd.selective import risk_coverage
from zsd.shards import Store
from zsd.students import load_student
from zsd.students.base import Student
from zsd.students.folder import local_student, student_uri
from zsd.thresholds import choose_thresholds

CHUNK_ROWS = 2048
"""Rows between two looks at the clock."""

TUNED = ("micro_f1", "macro_f1", "subset_accuracy", "per_class")
"""Figures that depend on the thresholds."""


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Figures of `zsd.evaluation.classification_metrics`, with the model and the data they belong to.

    With ``soft_labels``, ``heldout`` says how the student compares with its teacher on rows that it was not trained
    on; for a multi-label student ``thresholds`` are chosen there, and ``at_thresholds`` are the figures with them.

    Raises:
        InputError: the student, the rows or their gold labels are not what they should be.
    """
    if config.output is not None and not storage.resolve(config.output).is_local:
        raise ConfigError(f"--output {config.output}: the page is written to a local or mounted folder only")
    uri = student_uri(config.model)
    directory = local_student(uri)
    student = load_student(directory, engine=config.engine, precision=config.precision)
    result: dict[str, Any] = {
        "model": uri,
        "kind": student.kind,
        "data": list(config.data),
        "labels": list(student.names),
        "multi_label": student.multi_label,
    }
    thresholds_K = None
    if config.soft_labels is not None:
        card = read_card(directory)
        heldout = heldout_rows(Store(config.soft_labels), card)
        logits_NK = _logits(student, heldout.texts)
        result["heldout"] = against_teacher(
            logits_NK, heldout.probs, multi_label=student.multi_label, temperature=card["temperature"]
        )
        if student.multi_label:
            thresholds_K = choose_thresholds(heldout.probs >= DECISION, probabilities(logits_NK, multi_label=True))
            result["thresholds"] = dict(zip(student.names, map(float, thresholds_K), strict=True))
    page: dict[str, Any] = {}
    if config.data:
        rows = _gold(config, student)
        assert rows.gold is not None, "read_gold raises without a label column"
        probs_NK = probabilities(_logits(student, rows.texts), multi_label=student.multi_label)
        result |= classification_metrics(rows.gold, probs_NK, student.names)
        result["gold_class_balance"] = gold_balance(rows.gold, student.names)
        page = side(probs_NK, rows.gold, student.names, multi_label=student.multi_label)
        if thresholds_K is not None:
            result["at_thresholds"] = _tuned(rows.gold, probs_NK, student, thresholds_K)
    if config.output is not None:
        write_evaluation(result, page, Path(storage.resolve(config.output).path))
    return result


def _logits(student: Student, texts: Sequence[str]) -> FloatArray:
    """[N, K] `Student.logits`, with a line now and then that says how far they are."""
    progress = Progress("evaluate", total=len(texts))
    parts = []
    for start in range(0, len(texts), CHUNK_ROWS):
        began = time.time()
        parts.append(student.logits(texts[start : start + CHUNK_ROWS]))
        progress.add(len(parts[-1]), started=began)
    return np.concatenate(parts)


def against_teacher(
    logits_NK: FloatArray, teacher_NK: FloatArray, *, multi_label: bool, temperature: float
) -> dict[str, Any]:
    """How a student compares with its teacher on the same rows, none of which it was trained on.

    Args:
        logits_NK: the student's.
        teacher_NK: the teacher's probabilities, softened by the temperature.
        multi_label: whether the labels are independent of each other.
        temperature: by which the student's logits are softened too before the two distributions are compared.

    Returns:
        ``rows``, ``agreement`` (see `zsd.evaluation.agreement`), ``kl`` in nats a row; ``row_agreement``, the share of
        rows whose answer is the same as a whole, ``risk_coverage`` and calibration, in which a row is right where its
        answer is the teacher's.
    """
    student_NK = probabilities(logits_NK, multi_label=multi_label)
    softened_NK = probabilities(logits_NK / np.float32(temperature), multi_label=multi_label)
    same_N = ~differs(student_NK, teacher_NK, multi_label=multi_label)
    sure_N = confidence(student_NK, multi_label=multi_label)
    likely_N = sure_N if multi_label else student_NK.max(axis=1)
    return {
        "rows": len(student_NK),
        "agreement": agreement(teacher_NK, student_NK, multi_label=multi_label),
        "row_agreement": float(same_N.mean()),
        "kl": kl_divergence(teacher_NK, softened_NK, multi_label=multi_label),
        **calibration(likely_N, same_N),
        "risk_coverage": risk_coverage(sure_N, same_N),
    }


def _gold(config: EvaluateConfig, student: Student) -> GoldRows:
    return read_gold(
        config.data,
        text_column=config.text_column,
        label_column=config.label_column,
        names=student.names,
        multi_label=student.multi_label,
        limit=config.limit,
    )


def _tuned(gold_NK: IntArray, probs_NK: FloatArray, student: Student, thresholds_K: FloatArray) -> dict[str, Any]:
    metrics = classification_metrics(gold_NK, probs_NK, student.names, thresholds_K=thresholds_K)
    return {name: metrics[name] for name in TUNED}


def evaluation_table(result: dict[str, Any]) -> str:
    """The figures as a few lines for a terminal."""
    lines = []
    if "rows" in result:
        quality = ["accuracy", "macro_f1"]
        if result["multi_label"]:
            quality = ["micro_f1", "macro_f1", "mean_average_precision", "subset_accuracy"]
        lines += [_line(key, result[key]) for key in ("rows", *quality, "expected_calibration_error")]
        lines.append(_line("area under risk", result["risk_coverage"]["area"]))
    if "at_thresholds" in result:
        lines += [_line(f"{key} at thresholds", result["at_thresholds"][key]) for key in TUNED[:3]]
    if "heldout" in result:
        held = {"heldout_rows": result["heldout"]["rows"]}
        held |= {f"heldout_{key}": result["heldout"][key] for key in ("agreement", "kl")}
        lines += [_line(key, value) for key, value in held.items()]
    if "per_class" in result:
        lines += _class_lines(result)
    return "\n".join(lines)


def _class_lines(result: dict[str, Any]) -> list[str]:
    width = max(len(name) for name in result["labels"])
    lines = [f"{'':<{width}}  precision  recall      f1  support"]
    for name, row in result["per_class"].items():
        figures = "".join(f"{_shown(row[key]):>{size}}" for key, size in (("precision", 9), ("recall", 8), ("f1", 8)))
        lines.append(f"{name:<{width}}  {figures}{row['support']:>9,}")
    return lines


def _line(key: str, value: float | int | None) -> str:
    return f"{key.replace('_', ' '):<28}{_shown(value)}"


def _shown(value: float | int | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
