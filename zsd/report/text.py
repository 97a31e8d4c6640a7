"""How numbers and untrusted texts are written, for people.

A value that was not measured (None or not finite) is written as a dash.
"""

from __future__ import annotations

import math
import unicodedata

MISSING = "–"
NBSP = "\N{NO-BREAK SPACE}"
_UNITS = (("s", 60.0), ("min", 60.0), ("h", 48.0), ("days", math.inf))


def number(value: float | None) -> str:
    """Three significant digits with thousands separators: 0.0123, 12.1, 410, 12,300."""
    if value is None or not math.isfinite(value):
        return MISSING
    if abs(value) >= 99.95:
        digits = 0
    elif abs(value) >= 9.995:
        digits = 1
    elif abs(value) >= 0.9995 or value == 0:
        digits = 2
    else:
        digits = min(2 - math.floor(math.log10(abs(value))), 6)
    return f"{value:,.{digits}f}"


def difference(value: float | None) -> str:
    """A mean absolute difference of probabilities: 0, 0.0123, or below 0.0001 just that."""
    if value is None or not math.isfinite(value):
        return MISSING
    return "0" if value == 0 else "<0.0001" if value < 0.00005 else f"{value:.4f}"


def points(value: float | None, *, share: bool) -> str:
    """How much better or worse, with its sign: of two shares in points (+0.3), else as it is (-0.02)."""
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{100 * value:+.1f}" if share else f"{value:+.2f}"


def fraction(value: float | None) -> str:
    """A score between 0 and 1 with two digits: 0.83."""
    return MISSING if value is None or not math.isfinite(value) else f"{value:.2f}"


def percent(value: float | None) -> str:
    """A share between 0 and 1 as a percentage with one digit: 81.2 %."""
    return MISSING if value is None or not math.isfinite(value) else f"{100 * value:.1f}{NBSP}%"


def factor(value: float | None) -> str:
    """A ratio: 33×, 2.7×, 0.84×."""
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{value:,.{0 if value >= 9.95 else 1 if value >= 0.995 else 2}f}×"


def count(value: float | None) -> str:
    """A whole number with thousands separators: 1,920."""
    return MISSING if value is None or not math.isfinite(value) else f"{value:,.0f}"


def duration(seconds: float) -> str:
    """A time in the unit a person would use: 41 s, 2.3 h, 12 days."""
    for unit, most in _UNITS:
        if seconds < most:
            return f"{seconds:,.{0 if seconds >= 9.95 else 1}f}{NBSP}{unit}"
        seconds /= 24.0 if unit == "h" else 60.0
    raise AssertionError("the last unit has no upper end")


def plain(text: str) -> str:
    """The text with what no page can hold (control characters, lone surrogates) shown as U+FFFD."""
    return "".join("\ufffd" if _unprintable(char) else char for char in text)


def clip(text: str, columns: int) -> str:
    """One line of at most `columns` columns (a wide character takes two), with an ellipsis where cut."""
    line = " ".join(plain(text).split())
    if sum(map(_columns, line)) <= columns:
        return line
    used, kept = 1, []
    for char in line:
        used += _columns(char)
        if used > columns:
            break
        kept.append(char)
    return "".join(kept).rstrip() + "…"


def _columns(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _unprintable(char: str) -> bool:
    return unicodedata.category(char) in ("Cc", "Cs") and char not in "\n\t"
