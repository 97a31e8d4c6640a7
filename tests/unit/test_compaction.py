from pathlib import Path

import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.store import labelled, record
from zsd.compaction import Merge, merge, plan_merges
from zsd.corpus import Shard
from zsd.shards import commit_unit, describe_file
from zsd.units import Part, Unit, coverage, parse_part

SHARD = Shard(name="shard-00000.parquet", rows=20, row_groups=(4,) * 5)
UNITS = Unit(shard=SHARD.name, first=0, sizes=SHARD.row_groups).single()


def parts_of(*units: Unit) -> list[Part]:
    return [part for unit in units if (part := parse_part(unit.part))]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=12), st.integers(1, 120))
def test_neighbours_are_merged_up_to_the_target(rows: list[int], target: int) -> None:
    units = [
        Unit(shard=f"shard-{shard}.parquet", first=n, sizes=(size,)) for shard in "ab" for n, size in enumerate(rows)
    ]
    sizes = {unit.part: unit.rows for unit in units}
    merges = plan_merges("d", parts_of(*units), sizes, target_rows=target)
    merged = {part.name for one in merges for part in one.parts}
    assert len(merged) == sum(len(one.parts) for one in merges), "a part is in two files"
    for one in merges:
        assert len({part.stem for part in one.parts}) == 1
        assert all(a.stop == b.first for a, b in zip(one.parts, one.parts[1:], strict=False))
        assert sum(sizes[part.name] for part in one.parts) <= target
    after = [sum(sizes[part.name] for part in one.parts) for one in merges]
    after += [size for name, size in sizes.items() if name not in merged]
    assert sum(after) == 2 * sum(rows)


def test_a_merged_file_holds_the_rows_and_records_of_its_parts(tmp_path: Path) -> None:
    tables = [labelled([f"{n}-{row}" for row in range(4)], seed=n) for n in range(5)]
    records = [commit_unit(str(tmp_path), table, record(unit)) for table, unit in zip(tables, UNITS, strict=True)]
    asked = Merge(directory=str(tmp_path), parts=tuple(parts_of(*UNITS)))
    name = merge(asked)
    assert [file.name for file in tmp_path.iterdir()] == [name] == ["part-00000-000000-000005.parquet"]
    found = describe_file(str(tmp_path), name)
    assert (found.rows, found.records) == (20, tuple(records))
    ids = [one for table in tables for one in table["id"].to_pylist()]
    assert pq.read_table(tmp_path / name)["id"].to_pylist() == ids
    assert not coverage([SHARD], [name]).missing


def test_a_merge_that_dies_before_it_deletes_loses_and_doubles_nothing(tmp_path: Path) -> None:
    for n, unit in enumerate(UNITS):
        commit_unit(str(tmp_path), labelled([f"{n}-{row}" for row in range(4)], seed=n), record(unit))
    kept = {unit.part: (tmp_path / unit.part).read_bytes() for unit in UNITS[:2]}
    name = merge(Merge(directory=str(tmp_path), parts=tuple(parts_of(*UNITS))))
    for part, data in kept.items():
        (tmp_path / part).write_bytes(data)  # as if it had died with two of them not deleted
    found = coverage([SHARD], [file.name for file in tmp_path.iterdir()])
    assert ([part.name for part in found.parts], sorted(found.redundant)) == ([name], sorted(kept))
    assert not found.missing
