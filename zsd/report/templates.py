"""The Jinja templates of the pages: one file a page, all with the head of base.html, every text escaped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

import zsd
from zsd.report import text

_HERE = Path(__file__).parent
_FILTERS = (
    text.number,
    text.fraction,
    text.percent,
    text.factor,
    text.count,
    text.difference,
    text.points,
    text.clip,
)


def render(template: str, svgs: dict[str, str], **values: Any) -> str:
    """A page as one string, nothing of which is loaded from elsewhere.

    Args:
        template: name of its file.
        svgs: its plots by name, each one ``<svg>`` element.
        **values: what else it shows; a value that it needs and is not given is an error.
    """
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: text.plain(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {function.__name__: function for function in _FILTERS}
    return environment.get_template(template).render(
        version=zsd.__version__,
        css=Markup((_HERE / "style.css").read_text(encoding="utf-8")),
        plots={name: Markup(svg) for name, svg in svgs.items()},
        **values,
    )
