"""The speed plot: one bar for each contestant that tells what was gained, every run a dot."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from zsd.report.drawing import COLORS, INK, PAPER, RATE, new_figure, quiet
from zsd.report.engines import headliners
from zsd.report.text import NBSP, clip, factor, number

LOG_RATIO = 20.0  # beyond it a linear axis would leave of the slowest bar a hair


def speed(benchmark: dict[str, Any]) -> Figure | None:
    """Rows/s of the headliners, fastest first; the axis is logarithmic where the ratio is above `LOG_RATIO`."""
    contestants = headliners(benchmark)
    if not contestants:
        return None
    contestants.sort(key=lambda contestant: contestant["rows_per_second"])
    rates = [contestant["rows_per_second"] for contestant in contestants]
    logarithmic = rates[-1] / rates[0] > LOG_RATIO
    figure = new_figure(0.85 + 0.47 * len(rates), "Speed: rows answered in a second")
    axes = figure.subplots()
    left = 10.0 ** math.floor(math.log10(rates[0] / 2)) if logarithmic else 0.0
    for y, contestant in enumerate(contestants):
        _bar(axes, y, contestant, left)
    _axis(axes, [*rates, *(run for c in contestants for run in _runs(c))], left, logarithmic)
    axes.set_ylim(-0.4, len(rates) - 0.2)
    return figure


def _runs(contestant: dict[str, Any]) -> list[float]:
    return contestant.get("rows_per_second_runs") or []


def _bar(axes: Any, y: float, contestant: dict[str, Any], left: float) -> None:
    rate, runs = contestant["rows_per_second"], _runs(contestant)
    axes.barh(y, rate - left, left=left, height=0.34, color=COLORS[contestant["kind"]])
    axes.plot(runs, [y] * len(runs), "o", markersize=3.6, markerfacecolor=PAPER, markeredgecolor=INK, mew=0.8)
    beside = axes.get_yaxis_transform()
    axes.text(0, y + 0.23, clip(contestant["name"], 34), transform=beside, va="bottom", fontsize=9)
    times = f"{3 * NBSP}{factor(contestant['speedup'])}" if contestant.get("speedup") else ""
    axes.text(1, y + 0.23, f"{number(rate)}{times}", transform=beside, ha="right", va="bottom", fontweight="bold")


def _axis(axes: Any, values: list[float], left: float, logarithmic: bool) -> None:
    quiet(axes)
    axes.yaxis.set_major_locator(NullLocator())
    if logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(base=10))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(RATE)
    axes.set_xlim(left, max(values) * (1.25 if logarithmic else 1.03))
    axes.set_xlabel("rows/s" + (", each line ten times the one before" if logarithmic else ""), fontsize=8.5)
