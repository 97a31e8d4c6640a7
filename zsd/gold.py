"""Rows with gold labels, for measuring only. Unlike a corpus, every row counts: a bad one is an error.

Legend: N rows, K labels.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from zsd.corpus import Source, normalize_text, resolve_sources
from zsd.distill_config import TrainingChoices
from zsd.errors import CorpusError, InputError
from zsd.evaluation import parse_gold
from zsd.gold_files import ABSENT, read_file
from zsd.inference import IntArray

INTEGER = re.compile(r"[+-]?[0-9]+")


@dataclass(frozen=True, kw_only=True)
class GoldRows:
    """N texts, and their gold labels where there are any.

    Attributes:
        texts: N normalized texts.
        gold: gold_N class indices, gold_NK of 0 and 1 for multi-label, or None without a label column.
    """

    texts: list[str]
    gold: IntArray | None


def read_gold(
    data: Sequence[str],
    *,
    text_column: str,
    label_column: str,
    names: Sequence[str],
    multi_label: bool,
    limit: int | None = None,
    required: bool = True,
    flags: str = "--",
) -> GoldRows:
    """Read texts and gold labels.

    Args:
        data: files, folders, globs or URIs.
        text_column: column of the text; a txt file has only lines.
        label_column: column of the label; see `zsd.evaluation.parse_gold` for what it may hold. The labels of a csv
            are integers where all are written as such and none is a class name. Labels of a `datasets` ``ClassLabel``
            are its names.
        names: K class names.
        multi_label: whether labels are lists.
        limit: only the first rows.
        required: whether a missing label column is an error; otherwise ``gold`` is None.
        flags: what the flags that name the columns begin with: ``--gold-`` for ``--gold-text-column``.

    Raises:
        CorpusError: a file cannot be read, a column is missing, a text is empty or no text, or there is no row.
        InputError: a label is not one of the classes.
    """
    texts: list[str] = []
    labels: list[Any] = []
    for source in resolve_sources(data):
        pick = partial(_pick, source, flags, text_column, label_column if required or labels else None)
        rows = read_file(source, pick, text_column, label_column, None if limit is None else limit - len(texts))
        here = [label for _, label in rows if label is not ABSENT]
        if here and len(labels) < len(texts):
            raise CorpusError(f"{source.uri}: has a column {label_column!r}, the files before it have none")
        if source.format in ("csv", "tsv"):
            here = _from_text(here, names)
        _check_labels(source, here, names, multi_label)
        texts += [_text(source, flags, row, text) for row, (text, _) in enumerate(rows)]
        labels += here
        if len(texts) == limit:
            break
    if not texts:
        raise CorpusError(f"{', '.join(data)}: holds no row: give a file with at least one")
    return GoldRows(texts=texts, gold=parse_gold(labels, names, multi_label=multi_label) if labels else None)


def read_reviewed(choices: TrainingChoices, names: Sequence[str], *, multi_label: bool) -> GoldRows | None:
    """The rows of ``--gold``; None where it is not given.

    Args:
        choices: name the files and their columns.
        names: K class names.
        multi_label: whether labels are lists.

    Raises:
        InputError: see `read_gold`.
    """
    if not choices.gold:
        return None
    return read_gold(
        choices.gold,
        text_column=choices.gold_text_column,
        label_column=choices.gold_label_column,
        names=names,
        multi_label=multi_label,
        flags="--gold-",
    )


def _pick(source: Source, flags: str, text_column: str, required_label: str | None, columns: Sequence[str]) -> None:
    """Check the columns of a file."""
    for column, flag in ((text_column, f"{flags}text-column"), (required_label, f"{flags}label-column")):
        if column is not None and columns.count(column) != 1:
            told = "has no column" if column not in columns else "has more than one column"
            raise CorpusError(f"{source.uri}: {told} {column!r} (it has {', '.join(columns)}): name it with {flag}")


def _check_labels(source: Source, labels: list[Any], names: Sequence[str], multi_label: bool) -> None:
    """Name the file in what `parse_gold` has to say; rows are counted from 0 in each."""
    try:
        parse_gold(labels, names, multi_label=multi_label)
    except InputError as error:
        raise InputError(f"{source.uri}: {error}") from None


def _text(source: Source, flags: str, row: int, value: Any) -> str:
    if value is not None and not isinstance(value, str):
        raise CorpusError(f"{source.uri}: the text in row {row} is {value!r}, not text: check {flags}text-column")
    text = normalize_text(value) if value else ""
    if not text:
        raise CorpusError(f"{source.uri}: row {row} has no text: drop it, or check {flags}text-column")
    return text


def _from_text(labels: list[Any], names: Sequence[str]) -> list[Any]:
    """Labels of a file that knows only text: integers where all are and none is a name; an empty one is missing."""
    given = [label or None for label in labels]
    written = [label for label in given if label is not None]
    if any(label in names for label in written) or not all(INTEGER.fullmatch(label) for label in written):
        return given
    return [None if label is None else int(label) for label in given]
