"""The plots of a benchmark, each a function of the dict that gives a figure, or None where its data were not measured.

Legend: K labels.
"""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from zsd.report.drawing import style
from zsd.report.plots_classes import class_balance, confusion
from zsd.report.plots_engines import engines
from zsd.report.plots_quality import accuracy, agreement, reliability, scores
from zsd.report.plots_selective import risk_coverage
from zsd.report.plots_speed import speed
from zsd.report.plots_tradeoff import tradeoff


def draw_plots(benchmark: dict[str, Any]) -> dict[str, Figure]:
    """Every plot whose data exist, by the name of its file."""
    with style():
        student, teacher = (confusion(benchmark, who) for who in ("student", "teacher"))
        drawn = {
            "speed": speed(benchmark),
            "tradeoff": tradeoff(benchmark),
            "engines": engines(benchmark),
            "accuracy": accuracy(benchmark),
            "agreement": agreement(benchmark),
            "scores": scores(benchmark),
            "class_balance": class_balance(benchmark),
            "reliability": reliability(benchmark),
            "risk_coverage": risk_coverage(benchmark),
            "confusion": student or teacher,
            "confusion_teacher": teacher if student else None,
        }
    return {name: figure for name, figure in drawn.items() if figure is not None}
