"""The page of `zsd evaluate`: the figures and plots of one student, a pure function of what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from zsd.report.drawing import style, to_png, to_svg
from zsd.report.page import MOST_CLASSES, per_class
from zsd.report.plots_classes import class_balance, confusion
from zsd.report.plots_quality import reliability, scores
from zsd.report.plots_selective import risk_coverage, selective_agreement
from zsd.report.templates import render
from zsd.report.text import percent


def write_evaluation(result: dict[str, Any], student: dict[str, Any], directory: Path) -> Path:
    """Write evaluation.json, evaluation.html (one file, nothing loaded from elsewhere) and one PNG a plot.

    Files of the same names are replaced: they follow from what was measured alone.

    Args:
        result: of `zsd.evaluate.evaluate`.
        student: of `zsd.benchmark.quality.side`; empty without gold labels.
        directory: made if need be.

    Returns:
        the path of the page.
    """
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "evaluation.json").write_text(
        json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    figures = _draw(result, student)
    for name, figure in figures.items():
        to_png(figure, directory / f"{name}.png")
    page = directory / "evaluation.html"
    svgs = {name: to_svg(figure, name) for name, figure in figures.items()}
    page.write_text(_render(result, student, svgs), encoding="utf-8")
    return page


def _as_benchmark(result: dict[str, Any], student: dict[str, Any]) -> dict[str, Any]:
    """What the plots of the benchmark's page read."""
    task = {"labels": result["labels"], "multi_label": result["multi_label"], "gold": bool(student)}
    quality = {"student": student, "gold_class_balance": result.get("gold_class_balance")} if student else {}
    return {"task": task, "quality": quality, "contestants": []}


def _draw(result: dict[str, Any], student: dict[str, Any]) -> dict[str, Figure]:
    benchmark = _as_benchmark(result, student)
    with style():
        drawn = {
            "reliability": reliability(benchmark),
            "risk_coverage": risk_coverage(benchmark),
            "selective_agreement": selective_agreement(result["heldout"]) if "heldout" in result else None,
            "scores": scores(benchmark),
            "class_balance": class_balance(benchmark),
            "confusion": confusion(benchmark, "student"),
        }
    return {name: figure for name, figure in drawn.items() if figure is not None}


def _render(result: dict[str, Any], student: dict[str, Any], svgs: dict[str, str]) -> str:
    classes = per_class(_as_benchmark(result, student))
    return render(
        "evaluation.html",
        svgs,
        r=result,
        headline=_headline(result),
        heldout=result.get("heldout"),
        thresholds=result.get("thresholds"),
        tuned=result.get("at_thresholds"),
        classes=classes,
        most_classes=MOST_CLASSES,
    )


def _headline(result: dict[str, Any]) -> str:
    if "rows" not in result:
        same = percent(result["heldout"]["row_agreement"])
        return f"The student answers as its teacher on {same} of {result['heldout']['rows']:,} held-out rows."
    if result["multi_label"]:
        return (
            f"The student has micro\N{NON-BREAKING HYPHEN}F1 {result['micro_f1']:.2f} on {result['rows']:,} gold rows."
        )
    return f"The student is right on {percent(result['accuracy'])} of {result['rows']:,} gold rows."
