"""The manifest of a store: what was asked, what came out, what it cost. Written last, from the units' own records."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import zsd
from zsd.corpus import IngestResult
from zsd.shards import SCHEMA_VERSION, StoredFile, UnitRecord

MODEL_FAILED = "the model failed on it"
"""Reason, in the manifest's sums, of rows that were rejected while they were labelled or predicted."""

PAUSE = 60.0
"""Seconds without any unit running after which a job counts as interrupted; the pause is not counted as work."""


def make_manifest(
    *,
    job: str,
    folder: str,
    identity: dict[str, Any],
    ingest: IngestResult,
    files: Sequence[StoredFile],
    choices: Mapping[str, dict[str, Any]],
) -> dict[str, Any]:
    """The manifest as a dictionary.

    ``rows + rejected + duplicates == rows_in``. Speeds are rows and pairs over the wall time in which units ran on
    any actor, from the start of the first to the end of the last; loading the model and pauses between a killed run
    and its rerun are not in it.

    Args:
        job: ``label`` or ``predict``.
        folder: folder that holds the shards.
        identity: what makes this job this job; its keys are kept at the top level.
        ingest: what became of every row of the corpus.
        files: all files of the store.
        choices: what the files below ``engines/`` hold that the records name.
    """
    files = sorted(files, key=lambda file: file.part)
    records = [record for file in files for record in file.records]
    failed = sum(r.rejected for r in records)
    ran = [record for record in records if record.pairs]  # not what an earlier store knew
    seconds = max(1e-9, working_seconds(ran))
    rows, pairs = sum(file.rows for file in files), sum(r.pairs for r in records)
    computed = sum(r.tokens / (1 - r.padding_waste) for r in records)
    return {
        "schema": SCHEMA_VERSION,
        "job": job,
        "zsd_version": zsd.__version__,
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "folder": folder,
        **identity,
        "normalization": ingest.inputs.normalization,
        "partitions": ingest.partitions,
        "rows_in": ingest.rows,
        "rows": rows,
        "rejected": ingest.rejected + failed,
        "rejected_by_reason": ingest.rejected_by_reason | ({MODEL_FAILED: failed} if failed else {}),
        "duplicates": ingest.duplicates,
        "pairs": pairs,
        "tokens": sum(r.tokens for r in records),
        "truncated": sum(r.truncated for r in records),
        "windowed": sum(r.windowed for r in records),
        "windows": sum(r.windows for r in records),
        "rechecked": sum(r.rechecked for r in records),
        "padding_waste": round(1 - sum(r.tokens for r in records) / max(1.0, computed), 4),
        **(_answered_by(records) if "deferral" in identity else {}),
        "engine": "+".join(sorted({r.engine for r in records})),
        "engines": _engines(records, choices),
        "rows_per_second": round(sum(r.rows for r in ran) / seconds, 2),
        "pairs_per_second": round(pairs / seconds, 2),
        "seconds": {"ingest": round(ingest.seconds, 2), job: round(seconds, 2)},
        "inputs": [asdict(source) for source in ingest.inputs.sources],
        "shards": [{"part": file.part, "rows": file.rows, "checksum": file.checksum} for file in files],
        "timeline": [
            {"worker": r.worker, "started": r.started, "seconds": r.seconds, "rows": r.rows, "pairs": r.pairs}
            for r in sorted(records, key=lambda record: record.started)
        ],
    }


def _answered_by(records: Sequence[UnitRecord]) -> dict[str, Any]:
    """Of predictions with deferral: rows by who answered them, and what was asked of the teacher anew."""
    teacher = sum(r.by_teacher for r in records)
    return {
        "answered_by": {"student": sum(r.rows for r in records) - teacher, "teacher": teacher},
        "teacher_rows": sum(r.teacher_rows for r in records),
        "teacher_pairs": sum(r.teacher_pairs for r in records),
    }


def working_seconds(records: Sequence[UnitRecord]) -> float:
    """Wall seconds in which at least one unit was running, pauses of up to `PAUSE` included."""
    total, start, end = 0.0, 0.0, -1e18
    for record in sorted(records, key=lambda record: record.started):
        if record.started > end + PAUSE:
            total += max(0.0, end - start)
            start = record.started
        end = max(end, record.started + record.seconds)
    return total + max(0.0, end - start)


def _engines(records: Sequence[UnitRecord], choices: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What ran where, why and how much: one entry for each node, kind of actor, engine and precision."""
    groups: dict[tuple[str, str, str, str], list[UnitRecord]] = {}
    for record in records:
        kind, node = record.worker.split()[:2]
        groups.setdefault((node, kind, record.engine, record.precision), []).append(record)
    entries = []
    for (node, kind, engine, precision), group in sorted(groups.items()):
        known = [choices[name] for name in sorted({r.choice for r in group}) if name in choices]
        chosen = next((one for one in known if (one["engine"], one["precision"]) == (engine, precision)), {})
        entries.append(
            {
                "node": node,
                "kind": kind,
                "engine": engine,
                "precision": precision,
                "fingerprint": chosen.get("fingerprint"),
                "buckets": chosen.get("buckets"),
                "trials": chosen.get("trials", []),
                "units": len(group),
                "rows": sum(r.rows for r in group),
                "busy_seconds": round(sum(r.seconds for r in group), 2),
            }
        )
    return entries
