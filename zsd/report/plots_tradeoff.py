"""The trade-off plot: how good each contestant is against how fast it is."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from zsd.report.drawing import COLORS, PAPER, PERCENT, RATE, new_figure, quiet
from zsd.report.engines import headliners
from zsd.report.text import clip

LEAST = 2
"""Students, below which there is no choice to show."""
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
    for one in shown:
        axes.plot(one["rows_per_second"], one[measure], "o", markersize=7, color=COLORS[one["kind"]], mec=PAPER)
    for one, lift in zip(shown, _lifts(shown, measure), strict=True):
        at = (one["rows_per_second"], one[measure])
        text = clip(one["name"], 26)
        axes.annotate(text, at, xytext=(0, lift), textcoords="offset points", ha="center", fontsize=8)
    axes.set_xscale("log")
    axes.margins(x=0.22, y=0.22)
    axes.xaxis.set_major_locator(LogLocator(base=10))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(RATE)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(PERCENT)
    axes.set_xlabel("rows/s, each line ten times the one before", fontsize=8.5)
    return figure


def _lifts(shown: list[dict[str, Any]], measure: str) -> list[float]:
    """Points above (or below) each dot at which its name stands: neighbours by speed take turns."""
    order = sorted(range(len(shown)), key=lambda n: (shown[n]["rows_per_second"], shown[n][measure]))
    lifts = [0.0] * len(shown)
    for place, n in enumerate(order):
        lifts[n] = 8.0 if place % 2 == 0 else -15.0
    return lifts
