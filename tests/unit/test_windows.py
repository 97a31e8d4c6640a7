from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zsd.windows import OVERLAP, FloatArray, pool_windows, window_starts

# Legend: N rows, W windows, K labels.


@given(tokens=st.integers(0, 3000), room=st.integers(1, 200))
def test_windows_cover_the_text_with_the_overlap_and_as_few_as_can(tokens: int, room: int) -> None:
    starts = window_starts(tokens, room)
    assert starts[0] == 0
    if tokens <= room:
        assert starts == [0]
        return
    assert starts[-1] == tokens - room
    gaps = np.diff(starts)
    assert (gaps > 0).all() and gaps.max() - gaps.min() <= 1
    assert room - gaps.max() >= room // OVERLAP
    assert tokens > room + (len(starts) - 2) * (room - room // OVERLAP), "one window less would do"


LOGITS = st.integers(-3, 3).map(float)


@given(data=st.data(), sizes=st.lists(st.integers(1, 4), max_size=5), labels=st.integers(1, 3))
def test_a_row_has_its_largest_entailment_and_the_contradiction_beside_it(
    data: st.DataObject, sizes: list[int], labels: int
) -> None:
    def draw() -> FloatArray:
        flat = data.draw(st.lists(LOGITS, min_size=sum(sizes) * labels, max_size=sum(sizes) * labels))
        return np.array(flat, dtype=np.float32).reshape(-1, labels)

    entailment_WK, contradiction_WK = draw(), draw()
    row_W = np.repeat(np.arange(len(sizes)), sizes)
    entailment_NK, contradiction_NK = pool_windows(entailment_WK, contradiction_WK, row_W)
    assert entailment_NK.shape == contradiction_NK.shape == (len(sizes), labels)
    for n in range(len(sizes)):
        for k in range(labels):
            windows = [(entailment_WK[w, k], -w, contradiction_WK[w, k]) for w in np.flatnonzero(row_W == n)]
            entailment, _, contradiction = max(windows)
            assert (entailment_NK[n, k], contradiction_NK[n, k]) == (entailment, contradiction)


@pytest.mark.parametrize("rows", [0, 3])
def test_rows_of_one_window_are_left_as_they_are(rows: int) -> None:
    logits = np.arange(rows * 2, dtype=np.float32).reshape(rows, 2)
    pooled = pool_windows(logits, -logits, np.arange(rows))
    np.testing.assert_array_equal(pooled[0], logits)
    np.testing.assert_array_equal(pooled[1], -logits)
