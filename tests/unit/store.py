"""A small finished store, made by hand, for the tests of what reads stores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from zsd.corpus import IngestResult, Inputs, Shard, Source
from zsd.manifest import make_manifest
from zsd.shards import (
    MANIFEST,
    SOFT_LABELS,
    FloatArray,
    UnitRecord,
    commit_unit,
    describe_file,
    soft_label_schema,
    vectors,
    write_json,
)
from zsd.soft_labels import soft_labels
from zsd.units import Unit

# Legend: N rows, K labels.

NAMES = ["a", "b", "c"]
UNITS = Unit(shard="shard-00000.parquet", first=0, sizes=(4, 4)).single()


def record(unit: Unit, **changes: Any) -> UnitRecord:
    values: dict[str, Any] = {
        "part": unit.part,
        "rows": unit.rows,
        "pairs": unit.rows * len(NAMES),
        "tokens": 100,
        "truncated": 1,
        "padding_waste": 0.5,
        "seconds": 2.0,
        "started": 1000.0,
        "worker": "cpu host 1",
        "engine": "torch",
        "precision": "fp32",
    }
    return UnitRecord(**{**values, **changes})


def logits(rows: int, seed: int) -> FloatArray:
    return np.random.default_rng(seed).normal(size=(rows, len(NAMES))).astype(np.float32)


def labelled(ids: list[str], seed: int = 0, probs_NK: FloatArray | None = None) -> pa.Table:
    entailment_NK, contradiction_NK = logits(len(ids), seed), logits(len(ids), seed + 1)
    if probs_NK is None:
        probs_NK = soft_labels(entailment_NK, contradiction_NK, multi_label=False, temperature=1.0)
    columns = {
        "id": pa.array(ids, pa.string()),
        "text": pa.array([f"text of {one}" for one in ids], pa.string()),
        "label": pa.array([NAMES[k] for k in probs_NK.argmax(axis=1)], pa.string()),
        "score": pa.array(probs_NK.max(axis=1), pa.float32()),
        "probs": vectors(probs_NK),
        "entailment": vectors(entailment_NK),
        "contradiction": vectors(contradiction_NK),
    }
    return pa.table(columns, schema=soft_label_schema(len(NAMES)))


def ingest(rows: int, kept: int) -> IngestResult:
    source = Source("/data/c.txt", "txt", 10, None)
    inputs = Inputs(normalization="n", text_column="text", id_column=None, limit=None, unit_rows=4, sources=(source,))
    shard = Shard(name="shard-00000.parquet", rows=kept, row_groups=(4,) * (kept // 4))
    return IngestResult(
        inputs=inputs,
        rows=rows,
        kept=kept,
        rejected=0,
        rejected_by_reason={},
        duplicates=rows - kept,
        shards=(shard,),
        partitions=1,
        seconds=0.5,
    )


def build(
    root: Path, tables: list[pa.Table] | None = None, *, labels: dict[str, Any] | None = None, temperature: float = 1.0
) -> Path:
    """Commit two units and the manifest; returns the folder of the shards."""
    directory = root / SOFT_LABELS
    tables = tables or [labelled([f"id-{u}-{n}" for n in range(4)], seed=u) for u in range(len(UNITS))]
    for table, unit in zip(tables, UNITS, strict=True):
        commit_unit(str(directory), table, record(unit))
    files = [describe_file(str(directory), unit.part) for unit in UNITS]
    labels = labels or {"names": NAMES, "template": "{}", "multi_label": False}
    identity = {"labels": labels, "temperature": temperature}
    manifest = make_manifest(
        job="label", folder=SOFT_LABELS, identity=identity, ingest=ingest(8, 8), files=files, choices={}
    )
    write_json(str(root / MANIFEST), manifest)
    return directory
