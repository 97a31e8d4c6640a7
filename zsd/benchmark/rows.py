"""What one contestant showed, as one entry of ``contestants`` in benchmark.json.

Legend: N rows, R rows the contestant did, K labels.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zsd.benchmark.contestants import PIPELINE_BATCH, Contestant, Measurement
from zsd.benchmark.flops import SequenceCost, row_flops
from zsd.benchmark.workload import pipeline_waste
from zsd.compile.compiled import DRAFT_FOLDER, compiled_file
from zsd.engines.candidates import INT8_FORMS
from zsd.engines.registry import DRAFT
from zsd.evaluation import agreement, classification_metrics
from zsd.teachers.nli import load_teacher

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

BATCHES = {"pipeline": PIPELINE_BATCH, "recipe": 1}


def figures(
    contestant: Contestant,
    runs: Sequence[Measurement],
    probs_RK: FloatArray,
    *,
    load_seconds: float,
    reference_NK: FloatArray,
    own_fp32_NK: FloatArray | None,
    gold: IntArray | None,
    lengths_NK: IntArray,
    cost: SequenceCost,
    peak: dict[str, float],
) -> dict[str, Any]:
    """One entry of ``contestants``.

    Args:
        contestant: who.
        runs: its timed runs.
        probs_RK: its probabilities of the first R rows.
        load_seconds: what loading took.
        reference_NK: the fp32 teacher's probabilities.
        own_fp32_NK: those of the same checkpoint in fp32, of at least some rows; None where it did not take part.
        gold: gold labels of the N rows, or None.
        lengths_NK: tokens of what its model reads: see `sequence_lengths`.
        cost: FLOP of a sequence.
        peak: operations per second of the matrix product, by precision.

    Returns:
        ``name``, ``kind``, ``engine``, ``precision``, ``model``, ``device``, ``threads``, ``batch`` (where fixed);
        speed: ``timed_rows``, ``rows_per_second`` (median), ``rows_per_second_runs``, ``passes_per_row``,
        ``pairs_per_second``, ``padding_waste`` (share of the computed tokens), ``load_seconds``, ``peak_memory_mb``,
        ``model_mb`` (MiB of the weights' files); arithmetic: ``flops_per_row`` (useful, dense-equivalent: see
        `zsd.benchmark.flops`; None of a draft),
        ``flops_per_second``, ``peak_share`` (of the matrix product's in the same precision); quality on ``rows`` R:
        ``agreement`` and ``mean_delta_p`` (mean absolute difference of probabilities) with the fp32 teacher,
        ``own_agreement`` with the fp32 of the same checkpoint, ``accuracy`` or ``micro_f1`` where there are gold
        labels, and ``reference_quality``, the fp32 teacher's on the same rows.
    """
    multi_label = contestant.labels.multi_label
    speed = statistics.median(run.rows_per_second for run in runs)
    timed = max(len(run.probs) for run in runs)
    # What a draft leaves to the teacher differs from row to row: its arithmetic is not counted.
    flops = None if contestant.precision == DRAFT else row_flops(cost, lengths_NK[:timed])
    rows = len(probs_RK)
    waste = pipeline_waste(lengths_NK[:timed]) if contestant.kind == "pipeline" else runs[-1].padding_waste
    ceiling = peak.get(contestant.precision)
    measure = "micro_f1" if multi_label else "accuracy"
    quality = {who: _quality(measure, probs, gold, contestant) for who, probs in _both(probs_RK, reference_NK)}
    return {
        "name": contestant.name,
        "kind": contestant.kind,
        "engine": contestant.engine,
        "precision": contestant.precision,
        "model": contestant.model,
        "device": "cpu",
        "threads": contestant.threads,
        "batch": BATCHES.get(contestant.kind),
        "timed_rows": timed,
        "rows_per_second": speed,
        "rows_per_second_runs": [run.rows_per_second for run in runs],
        "passes_per_row": lengths_NK.shape[1],
        "pairs_per_second": speed * lengths_NK.shape[1],
        "padding_waste": None if math.isnan(waste) else waste,
        "load_seconds": load_seconds,
        "peak_memory_mb": runs[-1].peak_memory_mb,
        "model_mb": weights_mb(contestant),
        "flops_per_row": flops,
        "flops_per_second": None if flops is None else flops * speed,
        "peak_share": None if ceiling is None or flops is None else flops * speed / ceiling,
        "rows": rows,
        "agreement": _agreement(reference_NK, probs_RK, multi_label),
        "own_agreement": None if own_fp32_NK is None else _agreement(own_fp32_NK, probs_RK, multi_label),
        "mean_delta_p": float(np.abs(reference_NK[:rows] - probs_RK).mean()),
        "accuracy": None if multi_label else quality["own"],
        "micro_f1": quality["own"] if multi_label else None,
        "reference_quality": quality["reference"],
    }


def _agreement(reference: FloatArray, probs: FloatArray, multi_label: bool) -> float:
    """On the rows that both did."""
    rows = min(len(reference), len(probs))
    return agreement(reference[:rows], probs[:rows], multi_label=multi_label)


def _both(probs_RK: FloatArray, reference_NK: FloatArray) -> list[tuple[str, FloatArray]]:
    return [("own", probs_RK), ("reference", reference_NK[: len(probs_RK)])]


def _quality(measure: str, probs: FloatArray, gold: IntArray | None, contestant: Contestant) -> float | None:
    if gold is None:
        return None
    value: float = classification_metrics(gold[: len(probs)], probs, contestant.labels.names)[measure]
    return value


def weights_mb(contestant: Contestant) -> float | None:
    """The files of the weights it runs: of its int8 form, or else of the checkpoint as it is stored, and its draft."""
    form = INT8_FORMS.get(contestant.engine) if contestant.precision == "int8" else None
    if contestant.kind == "student":
        directory, file = Path(contestant.model), form and Path(contestant.model) / form
    else:
        teacher = load_teacher(contestant.model, nli_classes=contestant.nli_classes)
        directory, file = Path(teacher.path), form and compiled_file(teacher, form)
    if form and file is None:
        return None
    # OpenVINO has the weights in a file of their own.
    files = [file, file.with_suffix(".bin")] if file else [*directory.glob("*.safetensors")]
    files += [*(directory / DRAFT_FOLDER).glob("*.safetensors")] if contestant.precision == DRAFT else []
    sizes = [one.stat().st_size for one in files if one.is_file()]
    return sum(sizes) / 2**20 if sizes else None
