"""What earlier stores already know about a corpus: rows with all their logits, rows that lack some classes, the rest.

::

    corpus/shard-00000.parquet  ->  corpus/shard-00000-known.parquet   and soft_labels/part-00000-known-*.parquet
                                    corpus/shard-00000-more0.parquet   id, text, and the logits that store 0 has
                                    corpus/shard-00000-rest.parquet

Rows are matched by the hash of their text, so a corpus that was moved, sorted or cut anew costs nothing. Raw logits
are what is reused: the new job's temperature, mode and order of classes apply.

Legend: N rows, K labels of the new job.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

from zsd import storage
from zsd.corpus import IngestResult
from zsd.corpus.normalize import NORMALIZATION
from zsd.errors import OutputError
from zsd.known_rows import Reused, ReuseTask, reuse_shard
from zsd.labels import LabelSet
from zsd.shards import SOFT_LABELS, Store, read_json, write_json

SAME = ("teacher_fingerprint", "nli_classes", "max_length", "long_text", "normalization")
"""What must be equal for two jobs' logits to be the same, beside the template."""


def reuse_stores(
    output: str,
    ingest: IngestResult,
    stores: Sequence[str],
    labels: LabelSet,
    temperature: float,
    run: Callable[[Callable[[ReuseTask], Reused], Iterable[ReuseTask]], Iterable[Reused]] = map,
) -> Reused:
    """Take from finished stores what they know of a corpus; done once, and remembered in ``corpus/reuse.json``.

    Args:
        output: the new job's directory, with its corpus.
        ingest: of that corpus.
        stores: directories of stores that fit, see `check_reusable`.
        labels: what is asked now.
        temperature: of the soft labels.
        run: a map-like callable.
    """
    record = storage.join(output, "corpus", "reuse.json")
    if storage.exists(record):
        return Reused.from_dict(read_json(record))
    tasks = [
        ReuseTask(
            output=output,
            shard=shard,
            partitions=ingest.partitions,
            unit_rows=ingest.inputs.unit_rows,
            stores=tuple(stores),
            labels=labels,
            temperature=temperature,
        )
        for shard in ingest.shards
    ]
    done = list(run(reuse_shard, tasks))
    result = Reused(
        shards=tuple(shard for one in done for shard in one.shards),
        rows=sum(one.rows for one in done),
        partly=sum(one.partly for one in done),
    )
    write_json(record, asdict(result))
    return result


def check_reusable(store: Store, identity: dict[str, Any]) -> None:
    """Refuse a store whose logits another teacher, template or normalization made.

    Raises:
        OutputError: it does not fit; what differs is named.
    """
    manifest = store.manifest
    asked = {**identity, "template": identity["labels"]["template"], "normalization": NORMALIZATION}
    found = {**manifest, "template": manifest["labels"]["template"]}
    changes = [
        f"{key} was {found.get(key)!r}, now {asked[key]!r}"
        for key in (*SAME, "template")
        if found.get(key) != asked[key]
    ]
    if manifest["folder"] != SOFT_LABELS:
        changes = ["it holds a student's predictions and no logits"]
    if changes:
        raise OutputError(
            f"--reuse {store.root}: its logits are not those of this job: {'; '.join(changes)}: leave it away, or give "
            "--reuse-other recompute"
        )
