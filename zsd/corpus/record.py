"""``ingest.json``: what an ingest was asked to do and what became of every row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from zsd.corpus.reduce import Shard
from zsd.corpus.sources import Source


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """All that decides what an ingest gives: equal inputs, equal corpus.

    Args:
        normalization: name of the normalization.
        text_column: column, or key, of the text.
        id_column: column, or key, of the id; None: ids are hashes of the texts.
        limit: rows read at most, over all sources in order; None: all.
        unit_rows: rows in a row group.
        sources: what is read, in order.
    """

    normalization: str
    text_column: str
    id_column: str | None
    limit: int | None
    unit_rows: int
    sources: tuple[Source, ...]


@dataclass(frozen=True, kw_only=True)
class IngestResult:
    """What an ingest gave; ``rows == kept + rejected + duplicates``.

    Args:
        inputs: what it was asked to do.
        rows: rows read.
        kept: rows in the shards.
        rejected: rows that cannot be used.
        rejected_by_reason: the same, by reason, the most frequent first.
        duplicates: rows whose text an earlier row has.
        shards: the shards that hold a row, in order.
        partitions: into how many the rows were divided by the hash of their text; shard ``n`` is one of them.
        seconds: how long it took.
    """

    inputs: Inputs
    rows: int
    kept: int
    rejected: int
    rejected_by_reason: dict[str, int]
    duplicates: int
    shards: tuple[Shard, ...]
    partitions: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """The form kept in ``ingest.json``: one flat object."""
        data = asdict(self)
        inputs: dict[str, Any] = data.pop("inputs")
        return inputs | data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> IngestResult:
        """Read what `to_dict` wrote."""
        data = dict(data)
        inputs = {name: data.pop(name) for name in Inputs.__dataclass_fields__}
        inputs["sources"] = tuple(Source(**source) for source in inputs["sources"])
        shards = tuple(Shard(**shard | {"row_groups": tuple(shard["row_groups"])}) for shard in data.pop("shards"))
        return cls(inputs=Inputs(**inputs), shards=shards, **data)


def differences(done: Inputs, asked: Inputs) -> Iterator[str]:
    """What is not the same, in words, as ``text_column 'text' -> 'body'``."""
    for name in ("normalization", "text_column", "id_column", "limit", "unit_rows"):
        before, now = getattr(done, name), getattr(asked, name)
        if before != now:
            yield f"{name} {before!r} -> {now!r}"
    old = {source.uri: source for source in done.sources}
    new = {source.uri: source for source in asked.sources}
    yield from (f"{uri} was not asked for" for uri in old if uri not in new)
    yield from (f"{uri} is new" for uri in new if uri not in old)
    for uri in (uri for uri in old if uri in new):
        if old[uri].size != new[uri].size:
            yield f"{uri} has changed size {old[uri].size} -> {new[uri].size}"
        elif old[uri] != new[uri]:
            yield f"{uri} was written again since"
    if old.keys() == new.keys() and list(old) != list(new):
        yield "the order of the sources"
