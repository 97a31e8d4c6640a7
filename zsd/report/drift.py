"""The page of a night's drift: a pure function of what `zsd.drift.compare` found."""

from __future__ import annotations

from typing import Any

from zsd.report.templates import render
from zsd.report.text import clip, count, number, percent

SIDES = {"unseen": "Unseen rows", "all": "All rows"}
WORD_COLUMNS = 24


def drift_page(drift: dict[str, Any], *, night: str) -> str:
    """The page as one string; nothing is loaded from elsewhere.

    Args:
        drift: of `zsd.drift.compare` with production's rows, with ``against``, the version, or None in all four; and
            ``previous``, the same with the rows of the night before and its name, or None.
        night: whose drift it is.
    """
    previous = drift["previous"]
    same = previous is not None and all(previous[side] == drift[side] for side in SIDES)
    return render(
        "drift.html",
        {},
        night=night,
        production=drift["against"],
        all_unseen=drift["all_unseen"],
        against_production=_sides(drift) if drift["against"] is not None else [],
        previous=previous["against"] if previous else None,
        against_previous=_sides(previous) if previous and not same else [],
    )


def _sides(compared: dict[str, Any]) -> list[dict[str, Any]]:
    return [_side(title, compared[side]) for side, title in SIDES.items()]


def _side(title: str, found: dict[str, Any]) -> dict[str, Any]:
    classes, confidence, length, vocabulary = (found[key] for key in ("classes", "confidence", "length", "vocabulary"))
    new = [clip(word, WORD_COLUMNS) for word in vocabulary["new_words"]]
    words = f": {', '.join(new)}" if new else ""
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
            "vocabulary", vocabulary, f"{percent(vocabulary['unknown_share'])} of the words unknown before{words}"
        ),
    ]
    sizes = {key: found[key] for key in ("rows", "rows_before")}
    return {"title": title, "measures": measures, "balance": classes.get("balance"), **sizes}


def _measure(name: str, found: dict[str, Any], told: str) -> dict[str, Any]:
    return {"name": name, "told": told, **{key: found.get(key) for key in ("js", "psi", "chance")}}
