"""The changelog of a registry as a page for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

COLUMNS = ("at", "event", "night", "version", "score", "ece", "rows", "new rows", "reason")


def changelog_page(lines: Sequence[dict[str, Any]]) -> str:
    """A Markdown table, the latest decision first.

    Args:
        lines: what ``changelog.jsonl`` holds, oldest first.
    """
    table = [COLUMNS, ("---",) * len(COLUMNS), *(_row(line) for line in reversed(lines))]
    body = "\n".join(f"| {' | '.join(row)} |" for row in table)
    return f"# Changelog\n\nWritten anew after each decision from changelog.jsonl.\n\n{body}\n"


def _row(line: dict[str, Any]) -> tuple[str, ...]:
    metrics = line.get("metrics") or {}
    found = line | {"score": metrics.get("score"), "ece": metrics.get("expected_calibration_error")}
    found |= {"rows": metrics.get("rows"), "new rows": metrics.get("new_rows")}
    return tuple(_cell(found.get(column)) for column in COLUMNS)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    text = f"{value:.4f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
