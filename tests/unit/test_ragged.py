from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from zsd.ragged import Ragged, spans

LISTS = st.lists(st.lists(st.integers(0, 99), max_size=6), max_size=6)


@given(lists=LISTS)
def test_every_list_is_a_span_of_the_values(lists: list[list[int]]) -> None:
    ragged = Ragged.of([np.array(one, dtype=np.int64) for one in lists])
    assert len(ragged) == len(lists)
    assert [ragged.values[s : s + c].tolist() for s, c in zip(ragged.starts, ragged.counts, strict=True)] == lists


@given(pairs=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 7)), max_size=8))
def test_spans_are_ranges_one_behind_the_other(pairs: list[tuple[int, int]]) -> None:
    starts, counts = (np.array([pair[n] for pair in pairs], dtype=np.int64) for n in (0, 1))
    assert spans(starts, counts).tolist() == [n for start, count in pairs for n in range(start, start + count)]
