"""The next item is made in a thread while the present one is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

In = TypeVar("In")
Out = TypeVar("Out")


def made_ahead(function: Callable[[In], Out], items: Iterable[In], *, depth: int = 2) -> Generator[Out, None, None]:
    """`map`, one thread and up to `depth` items ahead of whoever takes them.

    It gains where the user of the items leaves a processor idle, as a GPU engine does (on two cores that an engine
    keeps busy it was measured to change nothing). An exception of the function is raised as it is where its item would
    have come. The thread ends with the iterator: close one that is not used up (`contextlib.closing`).
    """
    with ThreadPoolExecutor(1, thread_name_prefix="zsd-ahead") as pool:
        waiting: deque[Future[Out]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
