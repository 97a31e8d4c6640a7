"""What Ray costs: `zsd label` with one actor beside the engine that it runs."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from zsd import storage
from zsd.benchmark.contestants import Contestant, Process
from zsd.benchmark.measure import with_lengths
from zsd.benchmark.workload import sequence_lengths
from zsd.config import LabelConfig
from zsd.console import say
from zsd.distributed.cluster import connect
from zsd.distributed.label import label


def ray_overhead(teacher: Contestant, texts: list[str], *, folder: str, ray_address: str | None) -> dict[str, Any]:
    """`zsd label` with one actor against the bare engine on the same rows: bare, label, bare again.

    Both are rows/s of the teacher pass (of the manifest for `zsd label`: from the start of the first unit to the
    commit of the last); starting processes and loading the model are in neither.

    Args:
        teacher: the engine to compare.
        texts: N texts; repeats are taken out, since `zsd label` would.
        folder: where the label job may write; on a cluster, shared storage.
        ray_address: see `zsd.distributed.cluster.connect`.

    Returns:
        ``rows``, ``bare_rows_per_second`` (mean of the two), ``label_rows_per_second`` and their ``ratio``.
    """
    texts = list(dict.fromkeys(texts))
    connect(ray_address)
    process = Process(with_lengths(teacher, sequence_lengths(teacher, texts)))
    try:
        process.measure(texts[:64], least_seconds=0.0)
        say(f"benchmark: Ray overhead, {len(texts):,} rows: bare engine, zsd label with one actor, bare engine")
        before = process.measure(texts, least_seconds=0.0).rows_per_second
        corpus = storage.join(folder, "corpus.parquet")
        storage.write_table_atomic(corpus, pa.table({"text": texts}))
        manifest = label(
            LabelConfig(
                data=(corpus,),
                output=storage.join(folder, "label"),
                label=teacher.labels.names,
                template=teacher.labels.templates,
                multi_label=teacher.labels.multi_label,
                teacher=teacher.model,
                nli_classes=teacher.nli_classes,
                engine=teacher.engine,
                precision=teacher.precision,
                cpu_actors=1,
                gpu_actors=0,
                cpus_per_actor=teacher.threads,
                ray_address=ray_address,
            )
        )
        after = process.measure(texts, least_seconds=0.0).rows_per_second
    finally:
        process.close()
    bare = (before + after) / 2
    labelled = manifest["rows_per_second"]
    return {
        "rows": manifest["rows"],
        "bare_rows_per_second": bare,
        "label_rows_per_second": labelled,
        "ratio": labelled / bare,
    }
