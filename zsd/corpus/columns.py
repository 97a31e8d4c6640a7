"""Which columns of a table are the text and the id, and an error that says what is there instead."""

from __future__ import annotations

from collections.abc import Sequence

from zsd.errors import CorpusError

_SHOWN = 20


def check_columns(name: str, columns: Sequence[str], text_column: str, id_column: str | None) -> None:
    """Both columns must be there, once.

    Raises:
        CorpusError: `name` lacks one, or has two of that name.
    """
    _check_one(name, columns, text_column, "text", "--text-column")
    if id_column is not None:
        _check_one(name, columns, id_column, "id", "--id-column")


def _check_one(name: str, columns: Sequence[str], column: str, role: str, flag: str) -> None:
    count = columns.count(column)
    if count > 1:
        raise CorpusError(f"{name}: {count} columns are named {column!r}: rename all but one of them")
    if count == 0:
        shown = columns_there_are(columns)
        raise CorpusError(f"{name}: no column {column!r} (it has: {shown}): name the {role} column with {flag}")


def columns_there_are(columns: Sequence[str]) -> str:
    """The names, the first ones of very many, for an error."""
    more = f" and {len(columns) - _SHOWN} more" if len(columns) > _SHOWN else ""
    return ", ".join(columns[:_SHOWN]) + more
