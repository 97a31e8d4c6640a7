from __future__ import annotations

from typing import Any

import pytest

from tests.unit.store import UNITS, ingest, record
from zsd.manifest import MODEL_FAILED, PAUSE, make_manifest, working_seconds
from zsd.shards import StoredFile
from zsd.units import Unit


def test_sums_and_speeds() -> None:
    records = [
        record(UNITS[1], rows=3, rejected=1, started=1002.0, worker="gpu host 2", precision="bf16", choice="g.json"),
        record(UNITS[0], tokens=300, padding_waste=0.25, windowed=2, windows=7, choice="c.json"),
    ]
    trials = [{"engine": "torch", "precision": "bf16", "verdict": "chosen"}]
    chosen: dict[str, Any] = {"engine": "torch", "fingerprint": "f", "buckets": None}
    choices = {
        "c.json": chosen | {"precision": "fp32", "trials": []},
        "g.json": chosen | {"precision": "bf16", "trials": trials},
    }
    manifest = make_manifest(
        job="label",
        folder="soft_labels",
        identity={"teacher": "t"},
        ingest=ingest(10, 8),
        files=[StoredFile(part=r.part, rows=r.rows, checksum="c", records=(r,)) for r in records],
        choices=choices,
    )
    assert manifest["rows"] + manifest["rejected"] + manifest["duplicates"] == manifest["rows_in"] == 10
    assert (manifest["rows"], manifest["pairs"], manifest["tokens"], manifest["truncated"]) == (7, 24, 400, 2)
    assert (manifest["rejected"], manifest["rejected_by_reason"]) == (1, {MODEL_FAILED: 1})
    assert (manifest["rows_per_second"], manifest["pairs_per_second"]) == (1.75, 6.0)
    assert manifest["padding_waste"] == pytest.approx(1 - 400 / (200 + 400), abs=1e-4)
    assert [shard["part"] for shard in manifest["shards"]] == [unit.part for unit in UNITS]
    assert [(one["rows"], one["started"]) for one in manifest["timeline"]] == [(4, 1000.0), (3, 1002.0)]
    assert (manifest["windowed"], manifest["windows"]) == (2, 7)
    told = [(one["node"], one["kind"], one["precision"], one["rows"], one["trials"]) for one in manifest["engines"]]
    assert told == [("host", "cpu", "fp32", 4, []), ("host", "gpu", "bf16", 3, trials)]
    assert (manifest["engine"], manifest["teacher"]) == ("torch", "t")


@pytest.mark.parametrize(
    ("spans", "seconds"),
    [
        ([], 0),
        ([(0, 5)], 5),
        ([(0, 5), (3, 5)], 8),
        ([(0, 10), (2, 1)], 10),
        ([(0, 5), (5 + PAUSE, 5)], 10 + PAUSE),
        ([(0, 5), (6 + PAUSE, 5)], 10),
        ([(1e6, 5), (0, 5)], 10),
    ],
)
def test_overlap_counts_once_and_a_long_pause_not(spans: list[tuple[float, float]], seconds: float) -> None:
    unit = Unit(shard="s", first=0, sizes=(1,))
    records = [record(unit, started=1e9 + start, seconds=length) for start, length in spans]
    assert working_seconds(records) == pytest.approx(seconds)
