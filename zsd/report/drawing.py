"""What all plots share: colours, fonts, a figure narrow enough for a phone, and how it becomes PNG and SVG.

In the page the plots are SVG whose colours are replaced by CSS variables, so that they follow light,
dark and print; their text stays text, set by the browser in any script.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter

WIDTH = 4.4  # inches: 9-point text stays readable at the 360 CSS pixels of a phone
INK, MUTED, RULE, PAPER = "#1f2329", "#6a717c", "#dcdfe4", "#ffffff"
COLORS = {
    "teacher": "#0072b2",
    "compiled": "#009e73",
    "student": "#d55e00",
    "pipeline": "#8b919b",
    "recipe": "#cc79a7",
    "gold": "#ddb310",
}
PERCENT = FuncFormatter(lambda value, _: f"{100 * value:g} %")
RATE = FuncFormatter(lambda value, _: f"{value:,g}")
_VARIABLES = {INK: "--ink", MUTED: "--muted", RULE: "--rule", PAPER: "--paper"}
_VARIABLES |= {color: f"--{name}" for name, color in COLORS.items()}
_FONTS = ("Noto Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans Arabic", "Noto Sans Hebrew",
          "Noto Sans Devanagari", "Noto Emoji", "PingFang SC", "Microsoft YaHei", "Segoe UI Symbol")  # fmt: skip


@contextmanager
def style() -> Iterator[None]:
    """The settings under which plots are drawn and saved; they end with the block.

    `parse_math` is off because class names may hold dollar signs.
    """
    installed = set(fontManager.get_font_names())
    settings: dict[str, Any] = {
        "text.parse_math": False,
        "font.family": ["DejaVu Sans", *(name for name in _FONTS if name in installed)],
        "font.size": 9,
        "text.color": INK,
        "axes.edgecolor": RULE,
        "axes.labelcolor": MUTED,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "svg.fonttype": "none",
        "svg.hashsalt": "zsd",
    }
    with mpl.rc_context(settings), warnings.catch_warnings():
        # A class name in a script no installed font has: boxes in the PNG, right in the page.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def new_figure(height: float, title: str) -> Figure:
    """An empty figure, `height` inches high, with its title at the top left."""
    figure = Figure(figsize=(WIDTH, height), layout=ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.06))
    figure.suptitle(title, x=0.012, ha="left", fontsize=10.5, fontweight="bold")
    return figure


def quiet(axes: Any, *, grid: str | None = "x") -> None:
    """Take away the box and the tick marks; leave light grid lines on the axis that is read."""
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0, labelsize=8.5, pad=5)
    axes.set_axisbelow(True)
    if grid is not None:
        axes.grid(axis=grid, color=RULE, linewidth=0.7)


def key(axes: Any, *, columns: int = 3) -> None:
    """The colour key, above the plot."""
    legend = axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, frameon=False, fontsize=8.5, borderaxespad=0.2,
        handlelength=1, handleheight=0.7, columnspacing=1.4, handletextpad=0.5, borderpad=0, scatterpoints=1,
    )  # fmt: skip
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set_sizes([40])


def to_png(figure: Figure, path: Path) -> None:
    """Save on white, 200 dots an inch."""
    with style():
        FigureCanvasAgg(figure)
        figure.savefig(path, format="png", dpi=200, facecolor=PAPER, metadata={"Software": None})


def to_svg(figure: Figure, name: str) -> str:
    """One `<svg>` element for the page: no fixed size, no background, ids that begin with `name`, CSS colours."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with style():
        FigureCanvasSVG(figure)
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, f"var({variable})")
    return svg
