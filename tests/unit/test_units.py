import pytest
from hypothesis import given
from hypothesis import strategies as st

from zsd.corpus import Shard
from zsd.units import Unit, coverage, parse_part

SHARDS = [
    Shard(name="shard-00000.parquet", rows=9, row_groups=(4, 4, 1)),
    Shard(name="shard-00001-rest.parquet", rows=30, row_groups=(3,) * 10),
]
WHOLE = [Unit(shard=shard.name, first=0, sizes=shard.row_groups) for shard in SHARDS]


def test_a_name_tells_what_the_file_holds() -> None:
    for unit in WHOLE:
        part = parse_part(unit.part)
        assert part is not None
        assert (part.first, part.stop) == (unit.first, unit.stop)
    assert WHOLE[1].part == "part-00001-rest-000000-000010.parquet"


@pytest.mark.parametrize("name", ["part-00000-000002-000002.parquet", "part-00000.parquet", "x.parquet", "part-1-1-2"])
def test_other_names_are_no_parts(name: str) -> None:
    assert parse_part(name) is None
    assert coverage(SHARDS, [name]).foreign == (name,)


def test_parts_of_another_corpus_are_foreign() -> None:
    beyond = Unit(shard=SHARDS[0].name, first=2, sizes=(1, 1)).part
    unknown = Unit(shard="shard-00007.parquet", first=0, sizes=(1,)).part
    assert set(coverage(SHARDS, [beyond, unknown]).foreign) == {beyond, unknown}


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 10)), max_size=8))
def test_every_row_group_is_in_one_counted_part_or_missing(spans: list[tuple[int, int]]) -> None:
    big = SHARDS[1]
    names = {
        Unit(shard=big.name, first=first, sizes=big.row_groups[first : first + count]).part for first, count in spans
    }
    found = coverage([big], names)
    groups = [group for part in found.parts for group in range(part.first, part.stop)]
    groups += [group for unit in found.missing for group in range(unit.first, unit.stop)]
    assert sorted(groups) == list(range(10)), "a row group is lost or counted twice"
    assert {part.name for part in found.parts} | set(found.redundant) == names
    assert coverage([big], [part.name for part in found.parts]).missing == found.missing


def test_a_merged_part_replaces_its_pieces() -> None:
    pieces = [unit.part for unit in WHOLE[1].single()]
    found = coverage(SHARDS[1:], [*pieces, WHOLE[1].part])
    assert [part.name for part in found.parts] == [WHOLE[1].part]
    assert sorted(found.redundant) == pieces
    assert not found.missing


def test_a_cut_keeps_all_rows() -> None:
    for groups in range(1, 11):
        head, rest = WHOLE[1].cut(groups)
        assert len(head.sizes) == groups
        assert head.rows + (rest.rows if rest else 0) == 30
        assert rest is None or (rest.first, rest.stop) == (groups, 10)
