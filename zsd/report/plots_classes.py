"""The classes one by one: how often each is chosen, and which are mistaken for which.

Legend: K labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from zsd.report.drawing import COLORS, INK, MUTED, PERCENT, WIDTH, key, new_figure, quiet
from zsd.report.facts import side, sides
from zsd.report.text import clip

MOST_BARS = 20  # classes shown one by one in the class balance
MOST_CONFUSED = 20  # K up to which a confusion matrix can be read


def class_balance(benchmark: dict[str, Any]) -> Figure | None:
    """Share of rows by class for gold, teacher and student; beyond `MOST_BARS` classes the rest is one line of text."""
    balances = _balances(benchmark)
    if not balances:
        return None
    first = next(iter(balances.values()))
    ranked = sorted(benchmark["task"]["labels"], key=lambda label: -first.get(label, 0.0))
    shown, others = ranked[:MOST_BARS], ranked[MOST_BARS:]
    pitch = 0.24 + 0.08 * len(balances) if len(shown) <= 10 else 0.16 + 0.06 * len(balances)
    figure = new_figure(1.05 + pitch * len(shown), "Class balance: share of the rows in each class")
    share_bars(figure.subplots(), shown, [(who, COLORS[who], balance) for who, balance in balances.items()])
    if others:
        parts = [f"{who} {100 * sum(b.get(label, 0.0) for label in others):.1f} %" for who, b in balances.items()]
        rest = f"other {len(others):,} classes: " + ", ".join(parts)
        figure.supxlabel(rest, x=0.012, ha="left", fontsize=8.5)
    return figure


def share_bars(axes: Any, names: Sequence[str], series: Sequence[tuple[str, str, Mapping[str, float]]]) -> None:
    """Bars of shares, one group a class, and the key to them.

    Args:
        axes: where.
        names: of the classes, from the top.
        series: name, colour, and share in [0, 1] by class of each; a class that is not there has 0.
    """
    thickness = 0.8 / len(series)
    for place, (name, color, share_of) in enumerate(series):
        heights = [y - 0.4 + thickness * (place + 0.5) for y in range(len(names))]
        shares = [share_of.get(one, 0.0) for one in names]
        axes.barh(heights, shares, height=0.86 * thickness, color=color, label=clip(name, 18))
    quiet(axes)
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.set_yticks(range(len(names)), [clip(one, 24) for one in names], color=INK)
    axes.xaxis.set_major_formatter(PERCENT)
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    key(axes)


def confusion(benchmark: dict[str, Any], who: str) -> Figure | None:
    """Confusion matrix of one side: K rows gold, K columns predicted; counts, shaded by the share of the gold row."""
    counts, labels = side(benchmark, who).get("confusion"), benchmark["task"]["labels"]
    if not counts or benchmark["task"]["multi_label"] or len(labels) > MOST_CONFUSED:
        return None
    figure = new_figure(WIDTH, f"Confusion of the {who}")
    axes = figure.subplots()
    size = 9 if len(labels) <= 8 else 6.5
    for row, line in enumerate(counts):
        for column, cell in enumerate(line):
            if cell:
                shade = 0.06 + 0.54 * cell / sum(line)
                square = (column - 0.48, row - 0.48)
                axes.add_patch(Rectangle(square, 0.96, 0.96, color=COLORS[who], alpha=shade, linewidth=0))
            color = INK if cell else MUTED
            axes.text(column, row, f"{cell:,}" if cell else "·", ha="center", va="center", fontsize=size, color=color)
    quiet(axes, grid=None)
    axes.set(xlim=(-0.5, len(labels) - 0.5), ylim=(len(labels) - 0.5, -0.5), aspect="equal")
    names = [clip(label, 18) for label in labels]
    upright = len(labels) > 5 or max(map(len, names)) > 12
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    upwards: dict[str, Any] = {"rotation": 90, "rotation_mode": "anchor", "ha": "left", "va": "center"}
    axes.set_xticks(range(len(labels)), names, color=INK, fontsize=min(size, 8.5), **(upwards if upright else {}))
    axes.set_yticks(range(len(labels)), names, color=INK, fontsize=min(size, 8.5))
    axes.set_xlabel(f"chosen by the {who}", fontsize=8.5)
    axes.set_ylabel("gold", fontsize=8.5, rotation_mode="anchor")
    return figure


def _balances(benchmark: dict[str, Any]) -> dict[str, dict[str, float]]:
    gold = (benchmark.get("quality") or {}).get("gold_class_balance")
    known = {name: s["class_balance"] for name, s in sides(benchmark).items() if s.get("class_balance")}
    return {"gold": gold, **known} if gold else known
