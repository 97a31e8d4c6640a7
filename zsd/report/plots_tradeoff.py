"""The trade-off plot: how good each contestant is against how fast it is."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from zsd.report.drawing import COLORS, PAPER, PERCENT, RATE, new_figure, quiet
from zsd.report.engines import headliners
from zsd.report.text import clip

LEAST = 2
"""Students, below which there is no choice to show."""
LIFTS = (8, -15, 19, -26, 30, -37, 41, -48)
"""Points above (or below) its dot at which a name may stand, the nearest first."""
MEASURES = {"accuracy": "accuracy", "micro_f1": "micro-F1", "agreement": "agreement with the teacher"}


def tradeoff(benchmark: dict[str, Any]) -> Figure | None:
    """Accuracy (multi-label: micro-F1; without gold labels agreement) against rows/s, a dot a headliner.

    None where fewer than `LEAST` students were measured.
    """
    shown = headliners(benchmark)
    if len({one.get("model") for one in shown if one["kind"] == "student"}) < LEAST:
        return None
    measure = next((name for name in MEASURES if all(one.get(name) is not None for one in shown)), None)
    if measure is None:
        return None
    figure = new_figure(3.3, f"What speed costs: {MEASURES[measure]} against rows/s")
    axes = figure.subplots()
    quiet(axes, grid="both")
    names, dots = [], []
    for one in shown:
        at, color = (one["rows_per_second"], one[measure]), COLORS[one["kind"]]
        dots += axes.plot(*at, "o", markersize=7, color=color, mec=PAPER)
        text = clip(one["name"], 26)
        names.append(axes.annotate(text, at, xytext=(0, 0), textcoords="offset points", ha="center", fontsize=8))
    axes.set_xscale("log")
    axes.margins(x=0.22, y=0.3)
    axes.xaxis.set_major_locator(LogLocator(base=10))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(RATE)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(PERCENT)
    axes.set_xlabel("rows/s, each line ten times the one before", fontsize=8.5)
    _spread(figure, names, dots)
    return figure


def _spread(figure: Figure, names: list[Annotation], dots: list[Line2D]) -> None:
    """Put each name at the nearest place above or below its dot where it meets no other name or dot."""
    for name in names:
        name.set_in_layout(False)  # or the axes would make room for where it is put
    figure.draw_without_rendering()  # sizes are known after it
    taken = [dot.get_window_extent() for dot in dots]
    for name in names:
        for lift in LIFTS:
            name.set_position((0, lift))
            if not any(name.get_window_extent().overlaps(other) for other in taken):
                break
        else:
            name.set_position((0, LIFTS[0]))
        taken.append(name.get_window_extent())
