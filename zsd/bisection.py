"""Which rows of a unit make it fail: halves are tried until single rows stand accused.

Delta debugging's first half (Zeller & Hildebrandt 2002): every half that fails is divided, one that passes is left.
A row that fails by itself, and again when it is tried once more, is bad: the first time, its worker may have died of
something else. A failure that needs several rows together is found as no row at all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TypeVar

R = TypeVar("R")
Range = tuple[int, int]
"""Rows ``start`` to ``stop - 1`` of a unit."""


class Bisection:
    """The search in one unit: ask `next` what to try, tell `report` how it went, until `next` is None.

    Args:
        rows: rows of the unit, all known to fail together.

    Attributes:
        bad: rows that fail by themselves, and with which error.
    """

    def __init__(self, rows: int) -> None:
        self.bad: dict[int, str] = {}
        self._accused: int | None = None
        self._suspects: deque[Range] = deque([(0, rows)] if rows == 1 else [(0, rows // 2), (rows // 2, rows)])

    def next(self) -> Range | None:
        """The next rows to try by themselves; None where the search is over."""
        return self._suspects[0] if self._suspects else None

    def report(self, error: str | None) -> None:
        """How the rows of `next` went: None, or their error."""
        start, stop = self._suspects.popleft()
        if error is None:
            return
        if stop - start == 1 and self._accused != start:
            self._accused = start
            self._suspects.appendleft((start, stop))
            return
        if stop - start == 1:
            self.bad[start] = error
            return
        middle = (start + stop) // 2
        self._suspects.extendleft([(middle, stop), (start, middle)])


def without_bad(texts: list[str], run: Callable[[list[str]], R], *, share: float) -> tuple[R, list[str]]:
    """Do something with all texts, or, where that fails, with all but those that make it fail by themselves.

    Args:
        texts: what to run on.
        run: what to do; it may be done with any of the texts, any number of times.
        share: of the texts, that may be left out.

    Returns:
        what `run` returned, and the texts it was done with.

    Raises:
        Exception: what `run` raised, where no text or too many are to blame.
    """
    try:
        return run(texts), texts
    except Exception:  # whatever a model or a tokenizer raises on rows it does not master
        hunt = Bisection(len(texts))
        while (suspects := hunt.next()) is not None and len(hunt.bad) <= share * len(texts):
            hunt.report(_failure(run, texts[slice(*suspects)]))
        if not 0 < len(hunt.bad) <= share * len(texts):
            raise
    good = [text for n, text in enumerate(texts) if n not in hunt.bad]
    return run(good), good


def _failure(run: Callable[[list[str]], object], texts: list[str]) -> str | None:
    try:
        run(texts)
    except Exception as error:  # see `without_bad`
        return f"{type(error).__name__}: {error}"
    return None
