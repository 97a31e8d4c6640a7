"""How right and how sure: accuracy with intervals, agreement, score histograms, reliability."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from zsd.report.drawing import COLORS, MUTED, PERCENT, key, new_figure, quiet
from zsd.report.engines import headliners
from zsd.report.facts import fastest, sides, wilson_interval
from zsd.report.text import NBSP, clip, fraction, percent

_MULTI_LABEL = {
    "micro_f1": "micro-F1",
    "macro_f1": "macro-F1",
    "map": "mAP",
    "subset_accuracy": "subset accuracy",
}


def accuracy(benchmark: dict[str, Any]) -> Figure | None:
    """Accuracy of teacher, student and pipeline with 95 % Wilson intervals; for multi-label its F1 measures and mAP."""
    if benchmark["task"]["multi_label"]:
        return _multi_label_quality(benchmark)
    shown = [(name, name, s["accuracy"], s["rows"]) for name, s in sides(benchmark).items() if _known(s, "accuracy")]
    if not shown:
        return None
    pipeline = fastest(benchmark, "pipeline")
    if pipeline is not None and _known(pipeline, "accuracy"):
        shown.append(("pipeline", "pipeline", pipeline["accuracy"], contestant_rows(benchmark, pipeline)))
    return _intervals("Accuracy: the gold class given", shown)


def agreement(benchmark: dict[str, Any]) -> Figure | None:
    """Agreement of the headliners with the teacher, drawn where there are no gold labels."""
    if benchmark["task"]["gold"] or benchmark["task"]["multi_label"]:
        return None
    known = [c for c in headliners(benchmark) if _known(c, "agreement")]
    shown = [(c["kind"], c["name"], c["agreement"], contestant_rows(benchmark, c)) for c in known]
    return _intervals("Agreement with the teacher", shown) if shown else None


def scores(benchmark: dict[str, Any]) -> Figure | None:
    """Histograms of the score of the chosen class, teacher above student on the same axes."""
    shown = {name: s["confidence_histogram"] for name, s in sides(benchmark).items() if s.get("confidence_histogram")}
    if not shown:
        return None
    figure = new_figure(0.9 + 1.25 * len(shown), "Scores: how sure of the chosen class")
    panels = figure.subplots(len(shown), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, (name, histogram) in zip(panels, shown.items(), strict=True):
        edges, total = histogram["edges"], max(sum(histogram["counts"]), 1)
        widths = [right - left for left, right in pairwise(edges)]
        shares = [value / total for value in histogram["counts"]]
        axes.bar(edges[:-1], shares, width=[0.92 * width for width in widths], align="edge", color=COLORS[name])
        axes.text(0.01, 0.97, name, transform=axes.transAxes, va="top", fontweight="bold", color=COLORS[name])
        quiet(axes, grid="y")
        axes.set_xlim(edges[0], edges[-1])
        axes.yaxis.set_major_formatter(PERCENT)
        axes.yaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
    panels[-1].set_xlabel("score of the chosen class (height: share of the rows)", fontsize=8.5)
    return figure


def reliability(benchmark: dict[str, Any]) -> Figure | None:
    """Reliability diagram (DeGroot and Fienberg 1983): accuracy in each confidence bin; area is the rows in it."""
    shown = {name: [b for b in s.get("reliability") or [] if b["count"]] for name, s in sides(benchmark).items()}
    if not any(shown.values()):
        return None
    figure = new_figure(4.5, "Reliability: is 0.8 right 8 times in 10?")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, dashes=(4, 3))
    axes.text(0.04, 0.02, "as right as it says", rotation=45, fontsize=8, color=MUTED, rotation_mode="anchor", va="top")
    for name, bins in shown.items():
        most = max((b["count"] for b in bins), default=1)
        x, y = [b["confidence"] for b in bins], [b["accuracy"] for b in bins]
        label = f"{name}, ECE {fraction(sides(benchmark)[name].get('ece'))}"
        axes.plot(x, y, color=COLORS[name], linewidth=1, alpha=0.5)
        sizes = [10 + 110 * b["count"] / most for b in bins]
        axes.scatter(x, y, s=sizes, color=COLORS[name], alpha=0.75, linewidths=0, label=label, clip_on=False)
    quiet(axes, grid="both")
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    multi_label = benchmark["task"]["multi_label"]
    axes.set_xlabel("score of a class" if multi_label else "score of the chosen class", fontsize=8.5)
    axes.set_ylabel(
        "share that is true" if multi_label else "share that is right", fontsize=8.5, rotation_mode="anchor"
    )
    key(axes)
    return figure


def contestant_rows(benchmark: dict[str, Any], contestant: dict[str, Any]) -> int:
    """On how many rows a contestant's accuracy and agreement stand: its `rows`, else the rows it was timed on."""
    rows: int = contestant.get("rows") or benchmark["task"]["speed_rows"]
    return rows


def _known(record: dict[str, Any], name: str) -> bool:
    return record.get(name) is not None and math.isfinite(record[name])


def _intervals(title: str, shown: list[tuple[str, str, float, int]]) -> Figure:
    sizes = {rows for *_, rows in shown}
    figure = new_figure(0.75 + 0.47 * len(shown), f"{title}, {shown[0][3]:,} rows" if len(sizes) == 1 else title)
    axes = figure.subplots()
    lowest = 1.0
    for y, (kind, name, value, rows) in zip(range(len(shown) - 1, -1, -1), shown, strict=True):
        low, high = wilson_interval(value, rows)
        lowest = min(lowest, low)
        axes.plot([low, high], [y, y], color=COLORS[kind], linewidth=3.2, alpha=0.45, solid_capstyle="round")
        axes.plot([value], [y], "o", color=COLORS[kind], markersize=8)
        beside = axes.get_yaxis_transform()
        label = clip(name, 30) if len(sizes) == 1 else f"{clip(name, 20)} ({rows:,} rows)"
        axes.text(0, y + 0.23, label, transform=beside, va="bottom", fontsize=8.5)
        figures = f"{percent(value)}{2 * NBSP}({100 * low:.1f} to {100 * high:.1f})"
        axes.text(1, y + 0.23, figures, transform=beside, ha="right", va="bottom", fontsize=8.5, fontweight="bold")
    quiet(axes)
    axes.yaxis.set_major_locator(NullLocator())
    axes.xaxis.set_major_formatter(PERCENT)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.set_xlim(math.floor(lowest * 10) / 10, 1.005)
    axes.set_ylim(-0.4, len(shown) - 0.2)
    return figure


def _multi_label_quality(benchmark: dict[str, Any]) -> Figure | None:
    pair = sides(benchmark)
    names = [name for name in _MULTI_LABEL if any(_known(s, name) for s in pair.values())]
    if not names:
        return None
    figure = new_figure(0.95 + 0.4 * len(names), "Quality, from 0 to 1")
    axes = figure.subplots()
    for who, quality in pair.items():
        known = [(quality[name], -y) for y, name in enumerate(names) if _known(quality, name)]
        values, heights = zip(*known, strict=True)
        axes.plot(values, heights, "o", color=COLORS[who], markersize=8, alpha=0.9, label=who)
    quiet(axes)
    axes.set(xlim=(0, 1), ylim=(0.5 - len(names), 0.5))
    axes.set_yticks([-y for y in range(len(names))], [_MULTI_LABEL[name] for name in names])
    key(axes)
    return figure
