"""The engine plot: rows/s of every way to run the teacher, and beside each how often it answers as the teacher."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from zsd.report.drawing import COLORS, INK, MUTED, PAPER, PERCENT, RATE, new_figure, quiet
from zsd.report.engines import teacher_passes
from zsd.report.facts import wilson_interval
from zsd.report.text import NBSP, clip, factor, number, percent


def engines(benchmark: dict[str, Any]) -> Figure | None:
    """Two panels, fastest first: rows/s with the single runs, and agreement with its 95 % Wilson interval.

    A line marks the agreement from which an engine is admitted. None where there are fewer than two to compare.
    """
    shown = teacher_passes(benchmark)[::-1]
    if len(shown) < 2:
        return None
    figure = new_figure(0.95 + 0.42 * len(shown), "Engines: speed, and agreement with fp32")
    rates, agreements = figure.subplots(1, 2, sharey=True, width_ratios=(2.5, 1))
    lowest = benchmark["task"]["min_agreement"]
    for y, contestant in enumerate(shown):
        _rate(rates, y, contestant)
        lowest = min(lowest, _agreement(agreements, y, contestant, benchmark["task"]["multi_label"]))
    least = benchmark["task"]["min_agreement"]
    agreements.axvline(least, color=MUTED, linewidth=0.9, dashes=(4, 3))
    agreements.text(least, len(shown) - 0.35, f"{percent(least)}{NBSP}", ha="right", fontsize=8, color=MUTED)
    for axes, label in ((rates, "rows/s"), (agreements, "agreement")):
        quiet(axes)
        axes.yaxis.set_major_locator(NullLocator())
        axes.set_xlabel(label, fontsize=8.5)
    rates.xaxis.set_major_locator(MaxNLocator(5))
    rates.xaxis.set_major_formatter(RATE)
    rates.set_xlim(0, 1.03 * max(max(_runs(c)) for c in shown))
    agreements.xaxis.set_major_locator(MaxNLocator(2, steps=[1, 2, 5, 10]))
    agreements.xaxis.set_major_formatter(PERCENT)
    agreements.set_xlim(math.floor(lowest * 50) / 50, 1.0 + 0.04 * (1.0 - lowest) + 0.001)
    rates.set_ylim(-0.45, len(shown) - 0.15)
    return figure


def _runs(contestant: dict[str, Any]) -> list[float]:
    return [contestant["rows_per_second"], *(contestant.get("rows_per_second_runs") or [])]


def _rate(axes: Any, y: int, contestant: dict[str, Any]) -> None:
    axes.barh(y, contestant["rows_per_second"], height=0.3, color=COLORS[contestant["kind"]])
    runs = contestant.get("rows_per_second_runs") or []
    axes.plot(runs, [y] * len(runs), "o", markersize=3.2, markerfacecolor=PAPER, markeredgecolor=INK, mew=0.7)
    beside = axes.get_yaxis_transform()
    axes.text(0, y + 0.2, clip(contestant["name"], 34), transform=beside, va="bottom", fontsize=8)
    times = f"{2 * NBSP}{factor(contestant['speedup'])}" if contestant.get("speedup") else ""
    value = f"{number(contestant['rows_per_second'])}{times}"
    axes.text(1, y + 0.2, value, transform=beside, ha="right", va="bottom", fontsize=8.5, fontweight="bold")


def _agreement(axes: Any, y: int, contestant: dict[str, Any], multi_label: bool) -> float:
    """Draw it, and give the lowest value drawn. Yes-or-no answers of one row are not independent: no interval there."""
    value = contestant.get("agreement")
    if value is None:
        return 1.0
    color = COLORS[contestant["kind"]]
    low, high = (value, value) if multi_label else wilson_interval(value, contestant["rows"])
    axes.plot([low, high], [y, y], color=color, linewidth=3, alpha=0.45, solid_capstyle="round")
    axes.plot([value], [y], "o", color=color, markersize=5.5, clip_on=False)
    beside = axes.get_yaxis_transform()
    axes.text(0, y + 0.2, percent(value), transform=beside, va="bottom", fontsize=8.5)
    return float(low)
