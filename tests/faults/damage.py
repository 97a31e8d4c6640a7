"""What can befall the files of a store, each kind on files that a die chooses."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path


def truncated(parts: list[Path], dice: random.Random) -> Path:
    """A shard loses its end."""
    file = dice.choice(parts)
    data = file.read_bytes()
    file.write_bytes(data[: dice.randrange(1, len(data))])
    return file


def corrupted(parts: list[Path], dice: random.Random) -> Path:
    """Some bytes of a shard are others."""
    file = dice.choice(parts)
    data = bytearray(file.read_bytes())
    for at in dice.sample(range(len(data)), 8):
        data[at] ^= dice.randrange(1, 256)
    file.write_bytes(data)
    return file


def missing(parts: list[Path], dice: random.Random) -> Path:
    """A shard is gone."""
    file = dice.choice(parts)
    file.unlink()
    return file


def foreign(parts: list[Path], dice: random.Random) -> Path:
    """A shard of another corpus lies among the store's."""
    file = dice.choice(parts)
    other = file.with_name(f"part-{dice.randrange(90_000, 99_999):05d}-000000-000001.parquet")
    shutil.copyfile(file, other)
    return other


def duplicated(parts: list[Path], dice: random.Random) -> Path:
    """A shard lies in another one's place, so that its rows are there twice and the other's not at all."""
    file, other = dice.sample(parts, 2)
    shutil.copyfile(file, other)
    return other


DAMAGE: dict[str, Callable[[list[Path], random.Random], Path]] = {
    "truncated shard": truncated,
    "corrupted bytes": corrupted,
    "missing shard": missing,
    "foreign shard": foreign,
    "duplicated shard": duplicated,
}
