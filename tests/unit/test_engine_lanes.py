from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import pytest

from zsd.engines.lanes import Lanes
from zsd.engines.run import run_batches
from zsd.errors import EngineError
from zsd.planning import Batch, plan_batches

LENGTHS = np.arange(3, 23)


class Numbered:
    """Sequences of which each token is the number of its sequence; see `zsd.checkpoint.Sequences`."""

    lengths = LENGTHS

    def batch(self, numbers: Any, /, *, length: int, rows: int | None = None) -> dict[str, Any]:
        return {"input_ids": np.repeat(numbers, length).reshape(len(numbers), length)}


class Asked:
    """An engine whose logit is the number of the sequence; what it does besides is given."""

    name, precision, fingerprint, token_budget = "asked", "fp32", "asked", 24
    most_buckets = 8
    pads = True
    buckets: tuple[int, ...] | None = None

    def __init__(self, lanes: int, do: Any = lambda numbers: None) -> None:
        self.started: list[int] = []
        self.threads, self.lanes = lanes, Lanes(lanes, start=lambda: self.started.append(threading.get_ident()))
        self.do = do

    def logits(self, inputs: Mapping[str, Any]) -> Any:
        numbers = inputs["input_ids"][:, 0]
        self.do(set(numbers.tolist()))
        return numbers[:, None].astype(np.float32)

    def close(self) -> None:
        self.lanes.close()


@pytest.fixture(params=[1, 2, 3, 5])
def count(request: pytest.FixtureRequest) -> Iterator[int]:
    before = set(threading.enumerate())
    yield request.param
    assert not [one.name for one in set(threading.enumerate()) - before if one.name.startswith("zsd-")]


def plan(lanes: int) -> Sequence[Batch]:
    return plan_batches(LENGTHS, token_budget=24, lanes=lanes)


def test_every_row_comes_back_in_its_place_and_batches_in_theirs(count: int) -> None:
    with closing(Asked(count)) as engine:
        done = list(run_batches(engine, Numbered(), plan(count), 1))
    assert [batch.length for batch, _ in done] == [batch.length for batch in plan(count)]
    for batch, logits in done:
        np.testing.assert_array_equal(logits[:, 0], batch.pairs)


def test_lanes_run_at_the_same_time_and_each_starts_once(count: int) -> None:
    together, threads = threading.Barrier(count, timeout=120), set()

    def meet(numbers: set[int]) -> None:
        threads.add(threading.get_ident())
        together.wait()

    batches = plan_batches(np.full(2 * count, 24), token_budget=24)
    with closing(Asked(count, meet)) as engine:
        for _ in range(2):
            assert len(list(run_batches(engine, Numbered(), batches, 1))) == 2 * count
        assert sorted(engine.started) == (sorted(threads) if count > 1 else [])
    assert len(threads) == count


def test_a_single_batch_runs_in_the_callers_thread(count: int) -> None:
    threads = set()
    with closing(Asked(count, lambda numbers: threads.add(threading.get_ident()))) as engine:
        assert len(list(run_batches(engine, Numbered(), plan(1)[:1], 1))) == 1
        assert engine.started == []
    assert threads == {threading.get_ident()}


def test_an_error_in_a_lane_is_raised_and_the_lanes_go_on(count: int) -> None:
    def refuse_nine(numbers: set[int]) -> None:
        if 9 in numbers:
            raise MemoryError("sequence 9")

    with closing(Asked(count, refuse_nine)) as engine:
        with pytest.raises(MemoryError, match="sequence 9"):
            list(run_batches(engine, Numbered(), plan(count), 1))
        without = [batch for batch in plan(count) if 9 not in batch.pairs]
        assert len(list(run_batches(engine, Numbered(), without, 1))) == len(without)


def test_a_wrong_number_of_classes_is_refused(count: int) -> None:
    with closing(Asked(count)) as engine, pytest.raises(EngineError, match="engine asked returned shape"):
        list(run_batches(engine, Numbered(), plan(count), 2))


def test_nothing_runs_any_more_when_a_run_is_left(count: int) -> None:
    running: set[int] = set()

    def enter(numbers: set[int]) -> None:
        running.update(numbers)
        threading.Event().wait(0.01)
        running.difference_update(numbers)

    with closing(Asked(count, enter)) as engine:
        with closing(run_batches(engine, Numbered(), plan_batches(LENGTHS, token_budget=1), 1)) as done:
            next(done)
        assert not running
