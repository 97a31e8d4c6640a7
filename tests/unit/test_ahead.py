from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from zsd.ahead import made_ahead


def own_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("zsd-ahead")]


@pytest.mark.parametrize("depth", [0, 1, 2, 50])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_everything_comes_once_and_in_order(depth: int, count: int) -> None:
    assert list(made_ahead(lambda n: n * n, range(count), depth=depth)) == [n * n for n in range(count)]
    assert own_threads() == []


def test_the_next_is_made_while_the_present_one_is_used() -> None:
    made = [threading.Event() for _ in range(3)]

    def make(number: int) -> int:
        made[number].set()
        return number

    for number in made_ahead(make, range(3), depth=1):
        if number < 2:
            assert made[number + 1].wait(120), "nothing was made ahead"


def test_no_more_is_made_ahead_than_asked_for() -> None:
    made: list[int] = []

    def make(number: int) -> int:
        made.append(number)
        return number

    for number in made_ahead(make, range(20), depth=2):
        assert len(made) <= number + 3


def test_an_exception_comes_as_it_is_in_its_place_and_leaves_no_thread() -> None:
    def make(number: int) -> int:
        if number == 2:
            raise KeyError("two")
        return number

    taken = []
    with pytest.raises(KeyError, match="two"):
        for number in made_ahead(make, range(10)):
            taken.append(number)
    assert taken == [0, 1]
    assert own_threads() == []


def test_threads_that_stay_are_left_with_nothing_to_do() -> None:
    begun, go_on, made = threading.Event(), threading.Event(), []

    def make(number: int) -> int:
        if number:
            begun.set()
            assert go_on.wait(120)
        made.append(number)
        return number

    with ThreadPoolExecutor(1) as pool:
        with closing(made_ahead(make, range(20), depth=5, pool=pool)) as items:
            next(items)
            assert begun.wait(120)
            threading.Timer(0.2, go_on.set).start()
        assert made == [0, 1], "what was not begun was made, or what was begun was not waited for"
        assert pool.submit(make, 7).result() == 7


def test_an_iterator_that_is_left_early_leaves_no_thread() -> None:
    with pytest.raises(RuntimeError, match="enough"), closing(made_ahead(str, range(100))) as items:
        for item in items:
            if item == "3":
                raise RuntimeError("enough")
    assert own_threads() == []
