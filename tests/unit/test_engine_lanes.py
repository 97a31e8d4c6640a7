from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from zsd.engines.lanes import Lanes


def batch(rows: int) -> dict[str, Any]:
    ids = np.arange(rows * 3).reshape(rows, 3)
    return {"input_ids": ids, "attention_mask": ids * 0 + 1}


def sums(inputs: Mapping[str, Any]) -> Any:
    return np.stack([inputs["input_ids"].sum(axis=1), inputs["attention_mask"].sum(axis=1)], axis=1).astype(np.float32)


@pytest.mark.parametrize("equal", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_every_row_comes_back_in_its_place(count: int, equal: bool) -> None:
    lanes = Lanes(count, sums, equal=equal)
    for rows in range(1, 12):
        np.testing.assert_array_equal(lanes(batch(rows)), sums(batch(rows)))
    lanes.close()


@pytest.mark.parametrize("rows", range(2, 12))
def test_equal_lanes_see_one_shape_only(rows: int) -> None:
    shapes = set()

    def record(inputs: Mapping[str, Any]) -> Any:
        shapes.add(inputs["input_ids"].shape)
        return sums(inputs)

    lanes = Lanes(3, record, equal=True)
    lanes(batch(rows))
    lanes.close()
    assert shapes == {(-(-rows // 3), 3)}


def test_lanes_run_at_the_same_time_and_each_starts_once() -> None:
    together, started = threading.Barrier(2, timeout=120), []

    def meet(inputs: Mapping[str, Any]) -> Any:
        together.wait()
        return sums(inputs)

    lanes = Lanes(2, meet, start=lambda: started.append(threading.get_ident()))
    lanes(batch(4))
    lanes(batch(4))
    lanes.close()
    assert len(started) == len(set(started)) == 2


def test_an_error_in_a_lane_is_raised_and_the_lanes_go_on() -> None:
    def refuse_nine(inputs: Mapping[str, Any]) -> Any:
        if 9 in inputs["input_ids"]:
            raise MemoryError("row 3")
        return sums(inputs)

    lanes = Lanes(2, refuse_nine)
    with pytest.raises(MemoryError, match="row 3"):
        lanes(batch(4))
    assert len(lanes(batch(2))) == 2
    lanes.close()


def test_closed_lanes_leave_no_thread() -> None:
    before = set(threading.enumerate())
    lanes = Lanes(4, sums)
    lanes(batch(8))
    lanes.close()
    assert set(threading.enumerate()) <= before  # of others, one may have ended
