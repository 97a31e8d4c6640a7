"""The page and the plots made from a benchmark: a pure function of the dict that `benchmark.json` holds.

`write_report` writes `report.html` (one file, nothing loaded from elsewhere) and the plots as PNG;
`summary_table` is the same result for a terminal. Nothing is measured here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zsd.errors import StoreError
from zsd.report.drawing import to_png, to_svg
from zsd.report.page import render_page
from zsd.report.plots import draw_plots
from zsd.report.summary import summary_table

SCHEMA = 2

__all__ = ["SCHEMA", "summary_table", "write_report"]


def write_report(benchmark: dict[str, Any], directory: Path) -> Path:
    """Write `report.html` and one PNG a plot into `directory`, and return the path of the page.

    Only the plots whose data were measured are written. Files of the same names are replaced: they
    follow from `benchmark` alone.

    Raises:
        StoreError: `benchmark` has a schema this version does not read.
    """
    if benchmark.get("schema") != SCHEMA:
        raise StoreError(f"benchmark: schema {benchmark.get('schema')!r} is not {SCHEMA}: run `zsd benchmark` again")
    directory.mkdir(parents=True, exist_ok=True)
    figures = draw_plots(benchmark)
    for name, figure in figures.items():
        to_png(figure, directory / f"{name}.png")
    page = directory / "report.html"
    svgs = {name: to_svg(figure, name) for name, figure in figures.items()}
    page.write_text(render_page(benchmark, svgs), encoding="utf-8")
    return page
