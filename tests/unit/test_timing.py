"""The benchmark's clock, with a clock of our own: no test here takes time or depends on it."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zsd.benchmark.timing import Score, Scored, time_rows


class Clock:
    """Seconds that pass only when a text is classified."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def scoring(self, seconds_a_row: float) -> Score:
        """Gives every text its number as probability and takes that long for each."""

        def score(texts: Sequence[str]) -> Scored:
            self.now += seconds_a_row * len(texts)
            probs = np.array([[float(text)] for text in texts], dtype=np.float32)
            return Scored(probs=probs, tokens=10 * len(texts), padding_waste=0.5)

        return score


def texts(count: int) -> list[str]:
    return [str(n) for n in range(count)]


@given(rows=st.integers(1, 40), part_rows=st.integers(1, 50), seconds=st.floats(0.001, 3))
def test_with_time_enough_every_row_is_done_once_and_in_order(rows: int, part_rows: int, seconds: float) -> None:
    clock = Clock()
    timed = time_rows(
        clock.scoring(seconds), texts(rows), part_rows=part_rows, least_seconds=0, most_seconds=math.inf, clock=clock
    )
    assert timed.probs[:, 0].tolist() == list(range(rows))
    assert timed.rows_per_second == pytest.approx(1 / seconds, rel=1e-6)
    assert timed.padding_waste == pytest.approx(0.5)


@given(rows=st.integers(1, 40), part_rows=st.integers(1, 50), most=st.floats(0, 60), least=st.floats(0, 60))
def test_no_part_is_begun_after_the_time_and_at_least_one_is_done(
    rows: int, part_rows: int, most: float, least: float
) -> None:
    clock = Clock()
    timed = time_rows(
        clock.scoring(1.0), texts(rows), part_rows=part_rows, least_seconds=least, most_seconds=most, clock=clock
    )
    spent = clock.now - 100.0
    last_part = min(part_rows, rows)
    assert spent < max(most, 0.001) + last_part
    assert len(timed.probs) >= last_part
    assert timed.probs[:, 0].tolist() == list(range(len(timed.probs)))
    if len(timed.probs) < rows:
        assert spent >= most, "rows are left undone only for time"
    assert timed.rows_per_second == pytest.approx(1.0)


def test_a_fast_contestant_goes_on_until_it_can_be_timed() -> None:
    clock = Clock()
    timed = time_rows(
        clock.scoring(0.125), texts(5), part_rows=2, least_seconds=4.0, most_seconds=30.0, clock=clock
    )  # binary fractions: exact sums
    assert clock.now - 100.0 == pytest.approx(4.0, abs=0.25)
    assert len(timed.probs) == 5
    assert timed.rows_per_second == pytest.approx(8.0)


def test_waste_is_that_of_all_parts_together_and_unknown_where_nobody_counts() -> None:
    parts = iter([Scored(probs=np.ones((1, 1), dtype=np.float32), tokens=30, padding_waste=0.0),
                  Scored(probs=np.ones((1, 1), dtype=np.float32), tokens=10, padding_waste=0.9)])  # fmt: skip
    options = {"part_rows": 1, "least_seconds": 0.0, "most_seconds": math.inf}
    timed = time_rows(lambda _: next(parts), texts(2), **options)  # type: ignore[arg-type]
    assert timed.padding_waste == pytest.approx(1 - 40 / 130)
    untold = time_rows(lambda t: Scored(probs=np.ones((len(t), 1), dtype=np.float32)), texts(2), **options)  # type: ignore[arg-type]
    assert math.isnan(untold.padding_waste)
