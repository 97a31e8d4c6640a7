"""Risk-coverage curves: how right a model is on the share of the rows that it is surest of."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from zsd.report.drawing import COLORS, PERCENT, key, new_figure, quiet
from zsd.report.facts import sides
from zsd.report.text import fraction

_Curve = tuple[str, str, dict[str, Any]]


def risk_coverage(benchmark: dict[str, Any]) -> Figure | None:
    """Accuracy of each side on its surest rows; None without gold labels."""
    curves = {who: s["risk_coverage"] for who, s in sides(benchmark).items() if s.get("risk_coverage")}
    if not curves:
        return None
    what = "all classes right" if benchmark["task"]["multi_label"] else "accuracy"
    return _figure("Accuracy where it is sure", what, [(who, who, curve) for who, curve in curves.items()])


def selective_agreement(heldout: dict[str, Any]) -> Figure | None:
    """How often the student answers as the teacher on the held-out rows that it is surest of."""
    curve = heldout["risk_coverage"]
    if not curve["points"]:
        return None
    return _figure("Agreement where it is sure", "same answer as the teacher", [("student", "held-out rows", curve)])


def _figure(title: str, what: str, curves: list[_Curve]) -> Figure:
    figure = new_figure(3.3, title)
    axes = figure.subplots()
    lowest = 1.0
    for color, name, curve in curves:
        x, y = ([point[one] for point in curve["points"]] for one in ("coverage", "accuracy"))
        lowest = min(lowest, *y)
        label = f"{name}, area under risk {fraction(curve['area'])}"
        axes.plot(x, y, color=COLORS[color], linewidth=1.6, marker="o", markersize=2.6, label=label, clip_on=False)
    quiet(axes, grid="both")
    axes.set(xlim=(0, 1), ylim=(math.floor(lowest * 20 - 1e-9) / 20, 1.0))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PERCENT)
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.set_xlabel("share of the rows answered, the surest first", fontsize=8.5)
    axes.set_ylabel(what, fontsize=8.5, rotation_mode="anchor")
    key(axes, columns=1)
    return figure
