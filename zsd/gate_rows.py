"""The rows that candidate and production are judged on: the same for both, and from night to night.

Legend: N rows, K labels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from zsd import storage
from zsd.confidence import DECISION
from zsd.evaluation import classification_metrics, parse_gold
from zsd.gold import GoldRows, read_gold, read_reviewed
from zsd.heldout import heldout_rows
from zsd.nightly_config import NightlyConfig
from zsd.registry import Registry
from zsd.shards import Store, checksum
from zsd.students import load_student

MOST_ROWS = 5000
"""Held-out rows that are kept: the standard error of an accuracy of 0.8 on them is half a point."""

LEFT_OUT = ("confusion", "calibration_bins", "risk_coverage")
"""Figures of `classification_metrics` that the registry does not keep."""

FloatArray = npt.NDArray[np.float32]


def read_test(config: NightlyConfig) -> GoldRows:
    """The rows of ``--test``.

    Raises:
        InputError: they are not what they should be.
    """
    labels = config.label_set()
    return read_gold(
        config.test,
        text_column=config.text_column,
        label_column=config.label_column,
        names=labels.names,
        multi_label=labels.multi_label,
    )


def reviewed_checksum(config: NightlyConfig) -> str | None:
    """Of the rows that ``--gold`` and ``--test`` hold, whatever the files are called; None where neither is given.

    Raises:
        InputError: they are not what they should be.
    """
    labels = config.label_set()
    given = [read_test(config)] if config.test else []
    gold = read_reviewed(config, labels.names, multi_label=labels.multi_label)
    if gold is not None:
        given.append(gold)
    told = [(rows.texts, [] if rows.gold is None else rows.gold.tolist()) for rows in given]
    return checksum(repr((bool(config.test), told)).encode()) if given else None


def gate_rows(config: NightlyConfig, registry: Registry, store: Store, card: dict[str, Any]) -> GoldRows:
    """The rows of ``--test``; without them held-out rows of the first night, which the registry keeps.

    Another label set, teacher or held-out fraction is another set of rows.

    Args:
        config: of the night.
        registry: keeps ``heldout-KEY.parquet``.
        store: of tonight, where the rows come from on the first night.
        card: of tonight's student.
    """
    if config.test:
        return read_test(config)
    labels = store.manifest["labels"]
    asked = {"labels": labels, "teacher": card["teacher_fingerprint"], "fraction": card["heldout"]["fraction"]}
    key = checksum(json.dumps(asked, sort_keys=True).encode())[:10]
    file = storage.join(registry.uri, f"heldout-{key}.parquet")
    if not storage.exists(file):
        rows = heldout_rows(store, card)
        names = pa.array([_decision(row, labels) for row in rows.probs[:MOST_ROWS]], pa.list_(pa.string()))
        storage.write_table_atomic(file, pa.table({"text": pa.array(rows.texts[:MOST_ROWS]), "labels": names}))
    table = storage.read_parquet(file)
    given = table["labels"].to_pylist()
    values = given if labels["multi_label"] else [one[0] for one in given]
    gold = parse_gold(values, labels["names"], multi_label=labels["multi_label"])
    return GoldRows(texts=table["text"].to_pylist(), gold=gold)


def judge_student(folder: str, rows: GoldRows, names: Sequence[str]) -> dict[str, Any]:
    """Figures of a student on the rows.

    Args:
        folder: local folder of the student.
        rows: with gold labels.
        names: K class names that the labels refer to; classes that the student does not know get probability 0.
    """
    student = load_student(folder)
    probs_NK = aligned(student.predict(rows.texts), student.names, names)
    student.close()
    assert rows.gold is not None, "gate rows have labels"
    metrics = classification_metrics(rows.gold, probs_NK, names)
    return {name: value for name, value in metrics.items() if name not in LEFT_OUT}


def aligned(probs: FloatArray, known: Sequence[str], names: Sequence[str]) -> FloatArray:
    """Probabilities of a student in the order of other class names.

    Args:
        probs: [N, classes that it knows].
        known: names of those.
        names: K names wanted; one that is unknown gets 0.
    """
    columns = [list(known).index(name) if name in known else -1 for name in names]
    padded = np.hstack([probs, np.zeros((len(probs), 1), dtype=probs.dtype)])
    return padded[:, columns]


def _decision(probs_K: FloatArray, labels: dict[str, Any]) -> list[str]:
    chosen = np.flatnonzero(probs_K >= DECISION) if labels["multi_label"] else [int(probs_K.argmax())]
    return [labels["names"][k] for k in chosen]
