"""`zsd label --report`: what each correction does to class balance and confidence, as a table and as a page.

Legend: K labels.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from zsd.report.drawing import COLORS, PERCENT, key, new_figure, quiet, style, to_png, to_svg
from zsd.report.plots_classes import share_bars
from zsd.report.templates import render
from zsd.report.text import clip, percent

FOLDER = "label-report"
MOST_CLASSES = 20
"""Classes shown one by one; those whose share the corrections change most."""

COLOR_OF = {
    "none": COLORS["pipeline"],
    "information": COLORS["teacher"],
    "batch": COLORS["gold"],
    "contextual": COLORS["compiled"],
}
TEMPLATE_COLORS = (COLORS["student"], COLORS["recipe"])


def corrections_table(figures: dict[str, Any]) -> str:
    """The figures of `zsd.soft_labels.figures` as text: a column for each correction."""
    corrections = figures["corrections"]
    heads = [clip(one["name"], 24) for one in corrections]
    rows = [("share of rows", *heads)]
    rows += [(clip(name, 30), *(percent(one["balance"][name]) for one in corrections)) for name in shown(figures)]
    rows += [
        ("mean confidence", *(percent(one["confidence"]) for one in corrections)),
        ("answers at 0.9 or more", *(percent(one["sure"]) for one in corrections)),
        ("rows with another answer", *(percent(one["changed"]) for one in corrections)),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    return "\n".join([*lines, "", *verdicts(figures)])


def verdicts(figures: dict[str, Any]) -> list[str]:
    """Sentences that say what ``--calibrate auto`` takes, and why not more."""
    told = [f"--calibrate auto takes {figures['auto']}."]
    by_name = {one["name"]: one for one in figures["corrections"]}
    evidence = by_name["information"]["recipe"]["facts"]["evidence"]
    refused = {name: one["refused"] for name, one in evidence.items() if one["refused"]}
    if "all" in refused:
        told.append(f"No correction: {refused['all']}.")
    elif refused:
        told.append(f"{len(refused)} of {len(evidence)} classes are left as they are, by the rule for each of them.")
    if "batch" in by_name:
        trusted = evidence["all"]["batch_trusted"]
        because = f"the rows agree with it on {evidence['all']['agreement']:.0%} of the answers"
        told.append(
            f"Batch calibration may be trusted: {because}."
            if trusted
            else "Batch calibration assumes classes of equal size, which these rows do not support."
        )
    return told


def shown(figures: dict[str, Any]) -> list[str]:
    """Up to `MOST_CLASSES` names, those whose share changes most, in the order of the classes."""

    def spread(name: str) -> float:
        shares = [one["balance"][name] for one in figures["corrections"]]
        return float(max(shares) - min(shares))

    most = set(sorted(figures["labels"], key=spread, reverse=True)[:MOST_CLASSES])
    return [name for name in figures["labels"] if name in most]


def write_corrections(figures: dict[str, Any], output: Path) -> Path:
    """Write corrections.json, report.html and one PNG a plot below ``label-report/``; returns the page.

    Files of the same names are replaced: they follow from the store alone.
    """
    directory = output / FOLDER
    directory.mkdir(parents=True, exist_ok=True)
    document = json.dumps(figures, indent=2, ensure_ascii=False) + "\n"
    (directory / "corrections.json").write_text(document, encoding="utf-8")
    with style():
        drawn = {"balance": balance(figures), "confidence": confidence(figures)}
    for name, figure in drawn.items():
        to_png(figure, directory / f"{name}.png")
    svgs = {name: to_svg(figure, name) for name, figure in drawn.items()}
    page = directory / "report.html"
    html = render("corrections.html", svgs, f=figures, names=shown(figures), verdicts=verdicts(figures))
    page.write_text(html, encoding="utf-8")
    return page


def balance(figures: dict[str, Any]) -> Figure:
    """Bars: the share of the rows that each correction gives each class."""
    names, corrections = shown(figures), figures["corrections"]
    figure = new_figure(1.2 + (0.16 + 0.08 * len(corrections)) * len(names), "Class balance: share of the rows")
    series = [(one["name"], color(one["name"], place), one["balance"]) for place, one in enumerate(corrections)]
    share_bars(figure.subplots(), names, series)
    return figure


def confidence(figures: dict[str, Any]) -> Figure:
    """Steps: how sure the answers are."""
    figure = new_figure(2.6, "Confidence of the answers")
    axes = figure.subplots()
    for place, one in enumerate(figures["corrections"]):
        edges = [bin / len(one["histogram"]) for bin in range(len(one["histogram"]) + 1)]
        axes.stairs(
            one["histogram"], edges, color=color(one["name"], place), label=clip(one["name"], 18), linewidth=1.3
        )
    quiet(axes, grid="y")
    axes.set_xlim(0, 1)
    axes.yaxis.set_major_formatter(PERCENT)
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axes.set_xlabel("probability of the answer given")
    key(axes)
    return figure


def color(name: str, place: int) -> str:
    """Of a correction; of a template, one of two in turn."""
    return COLOR_OF.get(name, TEMPLATE_COLORS[place % len(TEMPLATE_COLORS)])
