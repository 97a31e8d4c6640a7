"""The page of a night's drift: a pure function of what `zsd.drift.compare` found."""

from __future__ import annotations

from typing import Any

from zsd.report.templates import render
from zsd.report.text import clip, count, number, percent

SIDES = {"new": "New rows", "all": "All rows"}
WORD_COLUMNS = 24


def drift_page(drift: dict[str, Any], *, night: str) -> str:
    """The page as one string; nothing is loaded from elsewhere.

    Args:
        drift: of `zsd.drift.compare`, with ``against``, the version it was compared with.
        night: whose drift it is.
    """
    sides = [_side(title, drift[side]) for side, title in SIDES.items()]
    return render("drift.html", {}, night=night, against=drift["against"], sides=sides)


def _side(title: str, found: dict[str, Any]) -> dict[str, Any]:
    classes, confidence, length, vocabulary = (found[key] for key in ("classes", "confidence", "length", "vocabulary"))
    words = ", ".join(clip(word, WORD_COLUMNS) for word in vocabulary["new_words"])
    measures = [
        _measure("class balance", classes, classes["told"]),
        _measure(
            "confidence",
            confidence,
            f"mean {number(confidence['mean_before'])} before, {number(confidence['mean'])} now",
        ),
        _measure(
            "text length", length, f"{count(length['mean_before'])} characters before, {count(length['mean'])} now"
        ),
        _measure(
            "vocabulary", vocabulary, f"{percent(vocabulary['unknown_share'])} of the words unknown before: {words}"
        ),
    ]
    sizes = {key: found[key] for key in ("rows", "rows_before")}
    return {"title": title, "measures": measures, "balance": classes.get("balance"), **sizes}


def _measure(name: str, found: dict[str, Any], told: str) -> dict[str, Any]:
    return {"name": name, "told": told, **{key: found.get(key) for key in ("js", "psi", "chance")}}
