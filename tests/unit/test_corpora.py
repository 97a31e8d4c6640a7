"""A large corpus with planted duplicates and bad rows: every row is accounted for."""

from pathlib import Path

import pyarrow.parquet as pq

from tests.corpora import BAD, write_corpus
from zsd.corpus import ingest_local


def test_all_planted_rows_are_found(tmp_path: Path) -> None:
    planted = write_corpus(tmp_path / "corpus.jsonl", 20_000, duplicates=0.02, bad=0.01)
    assert set(planted.by_kind) == set(BAD)
    result = ingest_local([str(tmp_path / "corpus.jsonl")], str(tmp_path / "out"), unit_rows=256)
    assert (result.rows, result.kept, result.duplicates, result.rejected) == (
        planted.rows,
        planted.distinct,
        planted.duplicates,
        planted.bad,
    )
    assert pq.read_table(tmp_path / "out" / "rejected").num_rows == planted.bad
    ids = pq.read_table(tmp_path / "out" / "corpus" / result.shards[0].name)["id"].to_pylist()
    assert len(set(ids)) == len(ids) == planted.distinct
