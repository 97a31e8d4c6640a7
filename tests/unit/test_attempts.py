import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zsd.attempts import Attempts, Piece
from zsd.errors import CorpusError, EngineError, StoreError
from zsd.units import Unit

CORPUS = [
    Unit(shard="shard-0.parquet", first=0, sizes=(8,) * 6),
    Unit(shard="shard-1.parquet", first=0, sizes=(8, 8, 3)),
]
WORKERS = ["cpu 1", "cpu 2", "gpu 1"]


def rows_of(piece: Piece) -> set[tuple[str, int, int]]:
    """(shard, row group, row in it) that a piece runs."""
    unit = piece.unit
    places = [(unit.shard, unit.first + group, row) for group, size in enumerate(unit.sizes) for row in range(size)]
    chosen = range(*(piece.probe or (0, unit.rows)))
    return {places[n] for n in chosen if n not in dict(piece.skip)}


def run(attempts: Attempts, fails: Callable[[Piece], str | None]) -> list[Piece]:
    """Three workers until all is done; what was committed."""
    committed = []
    while attempts:
        pieces = [(worker, attempts.next(worker, WORKERS)) for worker in WORKERS]
        assert any(piece for _, piece in pieces), "something is left and nobody is given it"
        for worker, piece in pieces:
            if piece is None:
                continue
            error = fails(piece)
            if error is not None:
                attempts.failed(piece, error)
                continue
            attempts.succeeded(piece, worker, 1.0)
            if piece.probe is None:
                committed.append(piece)
    return committed


PLACES = [("shard-0.parquet", group, row) for group in range(6) for row in range(8)]


@given(st.sets(st.sampled_from(PLACES), max_size=6), st.integers(0, 1000))
def test_bad_rows_are_left_out_and_every_other_row_is_committed_once(bad: set[tuple[str, int, int]], seed: int) -> None:
    attempts = Attempts(CORPUS, most_rejected=6)
    dice, died = random.Random(seed), set[Piece]()

    def fails(piece: Piece) -> str | None:
        if rows_of(piece) & bad:
            return "bad row"
        if piece in died or dice.random() > 0.2:
            return None
        died.add(piece)  # a worker dies now and then, of nothing in its rows
        return "worker died"

    done = [place for piece in run(attempts, fails) for place in rows_of(piece)]
    everything = {place for unit in CORPUS for place in rows_of(Piece(unit=unit))}
    assert len(done) == len(set(done)), "a row was committed twice"
    assert set(done) == everything - bad
    assert sum(map(len, attempts.rejected.values())) == len(bad)


def test_too_many_bad_rows_stop_the_job() -> None:
    with pytest.raises(CorpusError, match="3 rows make the teacher fail, more than --max-rejected"):
        run(
            Attempts(CORPUS, most_rejected=2),
            lambda piece: (
                "boom" if {r for s, g, r in rows_of(piece) if (s, g) == ("shard-0.parquet", 3)} & {1, 2, 5} else None
            ),
        )


def test_nothing_is_bisected_where_nothing_works() -> None:
    tried: list[Piece] = []

    def fails(piece: Piece) -> str:
        tried.append(piece)
        return "no such kernel"

    with pytest.raises(EngineError, match=r"nothing works: 60 attempts .* no such kernel"):
        run(Attempts(CORPUS, most_rejected=100), fails)
    assert len(tried) == 60


def test_rows_that_fail_only_together_end_the_job_and_not_the_rows() -> None:
    def fails(piece: Piece) -> str | None:
        return "together" if len(rows_of(piece)) == 3 and piece.unit.shard == "shard-1.parquet" else None

    with pytest.raises(EngineError, match=r"shard-1.parquet: row group 2 keeps failing and no row"):
        run(Attempts(CORPUS, most_rejected=100), fails)


def test_storage_is_tried_a_bounded_number_of_times_and_accuses_no_row() -> None:
    attempts = Attempts(CORPUS[:1], most_rejected=0)
    with pytest.raises(StoreError, match="storage failed 3 times, the last with: 503"):
        while attempts:
            piece = attempts.next("cpu 1", WORKERS)
            assert piece is not None
            assert piece.probe is None
            attempts.storage_failed(piece, "503")
