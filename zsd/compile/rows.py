"""Which rows of a corpus a compilation uses for what: no row is used twice, and what measures has seen nothing.

Legend: N rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zsd.assets import sample_path
from zsd.compile_config import CompileConfig
from zsd.console import say
from zsd.corpus import read_rows, resolve_sources
from zsd.errors import CorpusError

MOST_ROWS = 20_000
"""Rows read at most where --limit does not say: enough for pruning or a draft, and a corpus may be endless."""
FEWEST = 16
"""Rows below which nothing can be measured."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The rows of a compilation.

    Attributes:
        data: where they come from.
        ranges: rows that set the ranges of activations.
        selection: rows that decide what stays in fp32 or runs again.
        heldout: rows that measure.
        rest: all others, for pruning and for a draft together with `ranges`.
    """

    data: tuple[str, ...]
    ranges: list[str]
    selection: list[str]
    heldout: list[str]
    rest: list[str]


def read_compile_rows(config: CompileConfig) -> Rows:
    """Read, drop repeats, shuffle by a fixed seed, and share out.

    Raises:
        CorpusError: there is nothing to read, or too little.
    """
    data = config.data or (str(sample_path("corpus.txt")), str(sample_path("test.csv")))
    if not config.data:
        say("compile: no --data: calibrating on the bundled sample and its labels; your own rows and labels fit better")
    most = config.limit or MOST_ROWS
    texts: dict[str, None] = {}
    for source in resolve_sources(data):
        for batch in read_rows(source, text_column=config.text_column, limit=most - len(texts)):
            texts.update(dict.fromkeys(batch.texts.to_pylist()))
        if len(texts) >= most:
            break
    if len(texts) < FEWEST:
        raise CorpusError(f"{', '.join(data)}: {len(texts)} different rows, and zsd compile needs {FEWEST} at least")
    rows = list(texts)
    shuffled = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    used = min(config.calibration_rows, len(rows))
    first, second = max(1, used // 8), used // 2
    return Rows(
        data=data,
        ranges=shuffled[:first],
        selection=shuffled[first:second],
        heldout=shuffled[second:used],
        rest=shuffled[used:],
    )
