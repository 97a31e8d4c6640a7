"""What earlier stores already know about a corpus: rows with all their logits, rows that lack some, the rest.

::

    corpus/shard-00000.parquet  ->  corpus/shard-00000-known.parquet   and soft_labels/part-00000-known-*.parquet
                                    corpus/shard-00000-more0.parquet   id, text, and the logits that store 0 has
                                    corpus/shard-00000-rest.parquet

Rows are matched by the hash of their text, so a corpus that was moved, sorted or cut anew costs nothing. Raw logits
are what is reused: the new job's temperature, mode and order of classes apply.

Legend: N rows, K labels of the new job.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

from zsd import storage
from zsd.corpus import IngestResult
from zsd.corpus.normalize import NORMALIZATION
from zsd.engines.registry import DRAFT
from zsd.errors import OutputError
from zsd.known_rows import Reused, ReuseTask, reuse_shard
from zsd.labels import LabelSet
from zsd.shards import SOFT_LABELS, Store, read_json, write_json

REUSE = "corpus/reuse.json"
"""Record of a job that has taken what the stores know."""

SAME = ("teacher_fingerprint", "nli_classes", "max_length", "long_text", "normalization")
"""What must be equal for two jobs' logits to be the same, beside a template in common."""


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
    record = storage.join(output, REUSE)
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
        made_by=tuple(made_by(Store(uri)) for uri in stores),
    )
    write_json(record, asdict(result))
    return result


def made_by(store: Store) -> dict[str, Any]:
    """Which engines in which precisions made a store's logits, and how many rows each; for the manifest."""
    rows: Counter[tuple[str, str]] = Counter()
    for one in store.manifest["engines"]:
        rows[str(one["engine"]), str(one["precision"])] += int(one["rows"])
    engines = [{"engine": name, "precision": precision, "rows": n} for (name, precision), n in rows.most_common()]
    return {"store": store.root, "engines": engines}


def check_reusable(store: Store, identity: dict[str, Any]) -> None:
    """Refuse a store whose logits another teacher, template or normalization made.

    Raises:
        OutputError: it does not fit; what differs is named.
    """
    manifest = store.manifest
    engines = made_by(store)["engines"] if manifest["folder"] == SOFT_LABELS else []
    asked = {**identity, "normalization": NORMALIZATION}
    changes = [
        f"{key} was {manifest.get(key)!r}, now {asked[key]!r}" for key in SAME if manifest.get(key) != asked[key]
    ]
    if manifest["folder"] != SOFT_LABELS:
        changes = ["it holds a student's predictions and no logits"]
    else:
        was, now = (LabelSet.from_dict(labels).templates for labels in (manifest["labels"], identity["labels"]))
        if not set(was) & set(now):
            told = [" and ".join(map(repr, templates)) for templates in (was, now)]
            changes.append(f"template was {told[0]}, now {told[1]}")
    if not changes and manifest["labels"] != identity["labels"] and any(one["precision"] == DRAFT for one in engines):
        changes.append("a draft of the teacher made them, which decides between the classes it was made for only")
    if changes:
        raise OutputError(
            f"--reuse {store.root}: its logits are not those of this job: {'; '.join(changes)}: leave it away, or give "
            "--reuse-other recompute"
        )
