"""The page of `zsd ablation`: what each step of the training brings, or what reviewed rows do, seed by seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from zsd.report.drawing import COLORS, INK, MUTED, PAPER, PERCENT, new_figure, quiet, style, to_png, to_svg
from zsd.report.templates import render
from zsd.report.text import count, percent

TOLD = {
    "teacher": "the teacher itself, plain",
    "plain": "student of the plain labels",
    "ensemble": "and several templates",
    "calibration": "and the teacher's bias off",
    "weighting": "and weighted by confidence",
    "self-training": "and self-training",
}


def write_ablation(made: dict[str, Any], directory: Path, name: str) -> Path:
    """Write NAME.html (one file, nothing loaded from elsewhere) and NAME.png; returns the page.

    Files of the same names are replaced: they follow from the figures alone.

    Args:
        made: what `zsd.distributed.ablation.ablation` returns.
        directory: of NAME.json.
        name: ``ablation`` or ``gold-curve``.
    """
    with style():
        figure = gold_curve(made) if name == "gold-curve" else steps(made)
    to_png(figure, directory / f"{name}.png")
    page = directory / f"{name}.html"
    lines = [
        {**one, "told": told(one), "gain": one["accuracy"] - made["steps"][0]["accuracy"]} for one in made["steps"]
    ]
    values = {"made": made, "lines": lines, "headline": headline(made), "curve": name == "gold-curve"}
    page.write_text(render("ablation.html", {"plot": to_svg(figure, "plot")}, **values), encoding="utf-8")
    return page


def told(step: dict[str, Any]) -> str:
    """A step in plain words."""
    if step.get("reviewed") is not None:
        return f"{count(step['reviewed'])} reviewed rows"
    name: str = step["step"]
    return TOLD.get(name, name)


def headline(made: dict[str, Any]) -> str:
    """What the last step has against the first."""
    first, last = made["steps"][0], made["steps"][-1]
    change = f"from {percent(first['accuracy'])} to {percent(last['accuracy'])}"
    if last.get("reviewed") is not None:
        return f"{count(last['reviewed'])} reviewed rows take the student’s accuracy {change}."
    return f"Without a gold label, accuracy goes {change}."


def steps(made: dict[str, Any]) -> Figure:
    """A line a step, from the top: the mean over the seeds, its standard deviation, and every seed."""
    shown = made["steps"][::-1]
    figure = new_figure(0.85 + 0.5 * len(shown), "Accuracy, each step with all before it")
    axes = figure.subplots()
    for y, one in enumerate(shown):
        color = COLORS["teacher" if one["step"] == "teacher" else "student"]
        spread = one["accuracy_spread"] or 0.0
        axes.plot([one["accuracy"] - spread, one["accuracy"] + spread], [y, y], color=color, linewidth=3, alpha=0.45)
        axes.plot(one["accuracies"], [y] * len(one["accuracies"]), "o", markersize=3.2, mfc=PAPER, mec=INK, mew=0.7)
        axes.plot(one["accuracy"], y, "o", markersize=6, color=color, zorder=3)
        beside = axes.get_yaxis_transform()
        axes.text(0, y + 0.22, told(one), transform=beside, va="bottom", fontsize=8.5)
        axes.text(1, y + 0.22, _value(one), transform=beside, ha="right", va="bottom", fontsize=8.5, fontweight="bold")
    quiet(axes)
    axes.set_yticks([])
    axes.set_ylim(-0.4, len(shown) - 0.3)
    axes.margins(x=0.08)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(PERCENT)
    return figure


def gold_curve(made: dict[str, Any]) -> Figure:
    """Accuracy by the number of reviewed rows: the mean over the seeds, its standard deviation, and every seed."""
    figure = new_figure(3.0, "Accuracy by reviewed rows")
    axes = figure.subplots()
    means = [one["accuracy"] for one in made["steps"]]
    spreads = [one["accuracy_spread"] or 0.0 for one in made["steps"]]
    places = range(len(means))
    axes.errorbar(
        places, means, yerr=spreads, color=COLORS["student"], marker="o", markersize=6, linewidth=1.5, capsize=4
    )
    for x, one in enumerate(made["steps"]):
        axes.plot([x] * len(one["accuracies"]), one["accuracies"], "o", markersize=3.2, mfc=PAPER, mec=INK, mew=0.7)
        top = max(*one["accuracies"], means[x] + spreads[x])
        at: dict[str, Any] = {
            "xytext": (0, 5),
            "textcoords": "offset points",
            "ha": "center",
            "fontsize": 8.5,
            "color": MUTED,
        }
        axes.annotate(percent(one["accuracy"]), (x, top), **at)
    quiet(axes, grid="y")
    axes.margins(x=0.12, y=0.16)
    axes.set_xticks(list(places), [count(one["reviewed"]) for one in made["steps"]])
    axes.set_xlabel("reviewed rows", fontsize=8.5)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(PERCENT)
    return figure


def _value(step: dict[str, Any]) -> str:
    spread = "" if step["accuracy_spread"] is None else f" ± {100 * step['accuracy_spread']:.1f}"
    return f"{100 * step['accuracy']:.1f}{spread}"
