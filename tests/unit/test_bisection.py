from hypothesis import given
from hypothesis import strategies as st

from zsd.bisection import Bisection


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
