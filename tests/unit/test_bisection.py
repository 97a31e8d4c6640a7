import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zsd.bisection import Bisection, without_bad


def search(rows: int, bad: set[int]) -> tuple[dict[int, str], int]:
    bisection, tried = Bisection(rows), 0
    while (asked := bisection.next()) is not None:
        start, stop = asked
        hit = sorted(bad & set(range(start, stop)))
        bisection.report(f"row {hit[0]}" if hit else None)
        tried += 1
    return bisection.bad, tried


@given(st.integers(1, 300), st.data())
def test_all_bad_rows_are_found_and_no_other(rows: int, data: st.DataObject) -> None:
    bad = data.draw(st.sets(st.integers(0, rows - 1), max_size=4))
    found, tried = search(rows, bad)
    assert found == {row: f"row {row}" for row in bad}
    assert tried <= 2 * max(1, len(bad)) * (rows.bit_length() + 2)


def test_a_failure_of_several_rows_together_accuses_none() -> None:
    bisection = Bisection(8)
    tried = []
    while (asked := bisection.next()) is not None:
        tried.append(asked)
        bisection.report("together" if {0, 3} <= set(range(*asked)) else None)
    assert (0, 4) in tried
    assert (0, 2) in tried
    assert bisection.bad == {}


def test_a_row_whose_worker_died_once_is_not_accused() -> None:
    bisection, died = Bisection(16), False
    while (asked := bisection.next()) is not None:
        dies = asked == (5, 6) and not died
        died |= dies
        bisection.report("worker died" if dies or asked in [(0, 8), (4, 8), (4, 6)] else None)
    assert died
    assert bisection.bad == {}


def test_bad_texts_are_left_out_and_a_fault_that_is_not_theirs_is_raised() -> None:
    texts = [f"text {n}" for n in range(50)]

    def run(some: list[str], bad: set[str]) -> int:
        if bad & set(some):
            raise KeyError("labels")
        return len(some)

    assert without_bad(texts, lambda some: run(some, set()), share=0.1) == (50, texts)
    done, good = without_bad(texts, lambda some: run(some, {"text 3", "text 40"}), share=0.1)
    assert (done, good) == (48, [text for text in texts if text not in ("text 3", "text 40")])
    for bad in (set(texts), set(texts[:6])):
        with pytest.raises(KeyError):
            without_bad(texts, functools.partial(run, bad=bad), share=0.1)
    with pytest.raises(KeyError):  # two texts that fail only together: none is to blame
        without_bad(texts, lambda some: run(some, {"text 3"}) if "text 40" in some else len(some), share=0.1)
