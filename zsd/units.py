"""Units of work: neighbouring row groups of one corpus shard, and what a folder of finished parts still lacks.

A unit's output is one file whose name says which row groups it holds, so the folder itself is the record of what is
done: a retry overwrites itself, a rerun sees what is missing, and the units may be cut differently every time. Two
files that hold the same row group (a worker that lived on after its driver died) are settled by one rule, here.

A file holds row groups ``first`` to ``stop - 1`` of a shard and is named ``part-SHARD-FIRST-STOP.parquet``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from zsd.corpus import Shard

_PART = re.compile(r"part-(?P<stem>.+)-(?P<first>\d{6,})-(?P<stop>\d{6,})\.parquet")


@dataclass(frozen=True, kw_only=True, order=True)
class Unit:
    """Neighbouring row groups of one corpus shard.

    Args:
        shard: file name under ``corpus/``.
        first: number of the first row group.
        sizes: rows of each row group.
    """

    shard: str
    first: int
    sizes: tuple[int, ...]

    @property
    def stop(self) -> int:
        """Number of the row group after the last one."""
        return self.first + len(self.sizes)

    @property
    def rows(self) -> int:
        """Rows in all its row groups."""
        return sum(self.sizes)

    @property
    def part(self) -> str:
        """File name of its output."""
        return f"part-{_stem(self.shard)}-{self.first:06d}-{self.stop:06d}.parquet"

    def cut(self, groups: int) -> tuple[Unit, Unit | None]:
        """The first row groups, that many, and the rest, or None where nothing is left."""
        head = Unit(shard=self.shard, first=self.first, sizes=self.sizes[:groups])
        if groups >= len(self.sizes):
            return head, None
        return head, Unit(shard=self.shard, first=self.first + groups, sizes=self.sizes[groups:])

    def single(self) -> list[Unit]:
        """One unit for each row group."""
        return [
            Unit(shard=self.shard, first=self.first + group, sizes=(rows,)) for group, rows in enumerate(self.sizes)
        ]


def _stem(shard: str) -> str:
    return shard.removeprefix("shard-").removesuffix(".parquet")


@dataclass(frozen=True, kw_only=True, order=True)
class Part:
    """A file of the store, as its name tells: row groups ``first`` to ``stop - 1`` of a shard."""

    stem: str
    first: int
    stop: int
    name: str


def parse_part(name: str) -> Part | None:
    """What a file name says; None where it is not the name of a part."""
    found = _PART.fullmatch(name)
    if found is None or int(found["first"]) >= int(found["stop"]):
        return None
    return Part(stem=found["stem"], first=int(found["first"]), stop=int(found["stop"]), name=name)


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What a folder of parts amounts to.

    Attributes:
        parts: the files that count, in order; no row group is in two of them.
        redundant: names of files all of whose row groups, or some, are in one that counts; they are deleted, and what
            only they held is in ``missing``.
        foreign: names that are no part of this corpus.
        missing: row groups in no file that counts, as units as long as can be.
    """

    parts: tuple[Part, ...]
    redundant: tuple[str, ...]
    foreign: tuple[str, ...]
    missing: tuple[Unit, ...]


def coverage(shards: Sequence[Shard], names: Iterable[str]) -> Coverage:
    """Compare the parts in a folder with the corpus they were made from.

    Of two files that share a row group the one that begins earlier counts, of those the longer one.

    Args:
        shards: the corpus shards.
        names: file names in the folder.
    """
    by_stem: dict[str, list[Part]] = {_stem(shard.name): [] for shard in shards}
    foreign = []
    groups = {_stem(shard.name): len(shard.row_groups) for shard in shards}
    for name in names:
        part = parse_part(name)
        if part is None or part.stop > groups.get(part.stem, 0):
            foreign.append(name)
        else:
            by_stem[part.stem].append(part)
    counted: list[Part] = []
    redundant: list[str] = []
    missing: list[Unit] = []
    for shard in shards:
        end = 0
        for part in sorted(by_stem[_stem(shard.name)], key=lambda part: (part.first, -part.stop)):
            if part.first < end:
                redundant.append(part.name)
                continue
            missing += _gap(shard, end, part.first)
            counted.append(part)
            end = part.stop
        missing += _gap(shard, end, len(shard.row_groups))
    return Coverage(parts=tuple(counted), redundant=tuple(redundant), foreign=tuple(foreign), missing=tuple(missing))


def _gap(shard: Shard, first: int, stop: int) -> list[Unit]:
    return [Unit(shard=shard.name, first=first, sizes=shard.row_groups[first:stop])] if first < stop else []
