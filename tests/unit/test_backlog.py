import heapq

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zsd.backlog import Backlog
from zsd.units import Unit


def simulate(units: list[Unit], speeds: dict[str, float]) -> tuple[float, dict[str, int], list[Unit]]:
    """Workers of these speeds (rows/s) until nothing is left: when the last ends, who did how many rows, the units."""
    backlog = Backlog(units)
    free = [(0.0, worker) for worker in speeds]
    done, rows, end = [], dict.fromkeys(speeds, 0), 0.0
    while backlog:
        now, worker = heapq.heappop(free)
        unit = backlog.take(worker, speeds)
        seconds = unit.rows / speeds[worker]
        backlog.done(worker, unit, seconds)
        done.append(unit)
        rows[worker] += unit.rows
        end = max(end, now + seconds)
        heapq.heappush(free, (now + seconds, worker))
    return end, rows, done


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=5),
    st.lists(st.floats(1, 500), min_size=1, max_size=4),
)
def test_every_row_group_is_handed_out_once(lengths: list[int], speeds: list[float]) -> None:
    units = [Unit(shard=f"shard-{n}.parquet", first=0, sizes=(16,) * count) for n, count in enumerate(lengths)]
    _, _, done = simulate(units, {str(n): speed for n, speed in enumerate(speeds)})
    groups = [(unit.shard, group) for unit in done for group in range(unit.first, unit.stop)]
    assert sorted(groups) == sorted((unit.shard, group) for unit in units for group in range(unit.stop))


def test_five_times_faster_workers_do_five_times_the_rows_and_nobody_waits() -> None:
    corpus = [Unit(shard="shard-0.parquet", first=0, sizes=(64,) * 2000)]
    speeds = {"cpu 1": 40.0, "cpu 2": 40.0, "gpu 1": 200.0, "gpu 2": 200.0}
    end, rows, done = simulate(corpus, speeds)
    assert end <= 1.02 * 128_000 / sum(speeds.values())
    assert (rows["gpu 1"] + rows["gpu 2"]) / (rows["cpu 1"] + rows["cpu 2"]) == pytest.approx(5, rel=0.05)
    assert len(done) < 600, "thousands of tiny units"
    assert max(unit.rows / 40 for unit in done) <= 50
