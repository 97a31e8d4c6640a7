"""The next items are made in threads while the present one is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

In = TypeVar("In")
Out = TypeVar("Out")


def made_ahead(
    function: Callable[[In], Out], items: Iterable[In], *, depth: int = 2, pool: Executor | None = None
) -> Generator[Out, None, None]:
    """`map`, in order, up to `depth` items ahead of whoever takes them.

    In one thread, it gains where the user of the items leaves a processor idle, as a GPU engine does (on two cores that
    an engine keeps busy it was measured to change nothing). An exception of the function is raised as it is where its
    item would have come. Nothing of it runs any more when the iterator has ended: close one that is not used up
    (`contextlib.closing`).

    Args:
        function: what makes an item.
        items: what it makes them of.
        depth: how many may be made or under way that nobody has taken.
        pool: threads to make them in, which stay; None: one of its own.
    """
    own: AbstractContextManager[Executor]
    own = ThreadPoolExecutor(1, thread_name_prefix="zsd-ahead") if pool is None else nullcontext(pool)
    with own as threads:
        waiting: deque[Future[Out]] = deque()
        try:
            for item in items:
                waiting.append(threads.submit(function, item))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
            wait(waiting)
