"""All contestants on the same rows in one run, in turn, medians; then teacher and student on all rows.

Legend: N rows, K labels.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zsd.benchmark.contestants import PIPELINE_BATCH, Contestant, Measurement, Process
from zsd.console import say
from zsd.errors import EngineError
from zsd.evaluation import agreement, classification_metrics
from zsd.labels import LabelSet
from zsd.student import student_directory
from zsd.teachers.nli import load_teacher

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What `measure` found.

    Attributes:
        contestants: the ``contestants`` part of benchmark.json.
        teacher: [N, K] probabilities of the fp32 teacher on all rows.
        student: [N, K] probabilities of the student on all rows, in the precision that was faster.
    """

    contestants: list[dict[str, Any]]
    teacher: FloatArray
    student: FloatArray


def line_up(
    *, teacher: str, student: str, labels: LabelSet, nli_classes: str | None, engines: Sequence[str], threads: int
) -> list[Contestant]:
    """Who takes part: the pipeline, the teacher on each engine, the student in fp32 and bf16.

    torch fp32 is always among the teacher's engines: it is the reference.
    """
    common: dict[str, Any] = {"labels": labels, "nli_classes": nli_classes, "threads": threads}
    chosen = [*dict.fromkeys(["torch:fp32", *engines])]
    contestants = [
        Contestant(
            name="transformers pipeline", kind="pipeline", engine="torch", precision="fp32", model=teacher, **common
        )
    ]
    for one in chosen:
        engine, _, precision = one.partition(":")
        name = f"teacher, {engine} {precision}"
        contestants.append(
            Contestant(name=name, kind="teacher", engine=engine, precision=precision or "fp32", model=teacher, **common)
        )
    directory = str(student_directory(student))
    students = [
        Contestant(
            name=f"student, torch {precision}",
            kind="student",
            engine="torch",
            precision=precision,
            model=directory,
            **common,
        )
        for precision in ("fp32", "bf16")
    ]
    return contestants + students


def measure(
    contestants: Sequence[Contestant], texts: Sequence[str], gold: IntArray | None, *, speed_rows: int, rounds: int
) -> Result:
    """Time every contestant in turn, round after round, then let teacher and student classify all rows.

    A contestant that cannot run here is left out with a line that says why.

    Args:
        contestants: from `line_up`.
        texts: N texts.
        gold: their gold labels, or None.
        speed_rows: rows of one timed run: the first ones.
        rounds: timed runs of each, after one that is not counted.

    Raises:
        EngineError: the reference teacher or the student cannot run.
    """
    timed = list(texts[:speed_rows])
    processes = _start(contestants)
    try:
        runs: dict[str, list[Measurement]] = {}
        for number in range(rounds + 1):
            say(f"benchmark: round {number} of {rounds}{'' if number else ' (warm-up)'}, {len(timed)} rows each")
            for process in processes:
                least = {"least_seconds": 0.0} if number == 0 else {}
                result = process.measure(timed, **least)
                if number:
                    runs.setdefault(process.contestant.name, []).append(result)
        reference = next(p for p in processes if p.contestant.kind == "teacher")
        students = [p for p in processes if p.contestant.kind == "student"]
        student = max(students, key=lambda p: _median_speed(runs[p.contestant.name]))
        say(f"benchmark: teacher and {student.contestant.name} on all {len(texts):,} rows")
        teacher_NK = reference.measure(texts, least_seconds=0.0).probs
        student_NK = student.measure(texts, least_seconds=0.0).probs
        rows = [_row(p, runs[p.contestant.name], teacher_NK[: len(timed)], gold) for p in processes]
    finally:
        for process in processes:
            process.close()
    slowest = next(row for row in rows if row["kind"] == "pipeline")["rows_per_second"]
    for row in rows:
        row["speedup"] = row["rows_per_second"] / slowest
    return Result(contestants=rows, teacher=teacher_NK, student=student_NK)


def _start(contestants: Sequence[Contestant]) -> list[Process]:
    processes = []
    for contestant in contestants:
        say(f"benchmark: loading {contestant.name}")
        try:
            processes.append(Process(contestant))
        except EngineError as error:
            if contestant.kind != "teacher" or (contestant.engine, contestant.precision) == ("torch", "fp32"):
                raise
            say(f"benchmark: {contestant.name} is left out: {error}")
    return processes


def _row(process: Process, runs: list[Measurement], reference_NK: FloatArray, gold: IntArray | None) -> dict[str, Any]:
    contestant = process.contestant
    speeds = [run.rows_per_second for run in runs]
    probs_NK = runs[-1].probs
    multi_label = contestant.labels.multi_label
    speed = _median_speed(runs)
    passes = 1 if contestant.kind == "student" else len(contestant.labels)
    waste = runs[-1].padding_waste
    metrics = {} if gold is None else classification_metrics(gold[: len(probs_NK)], probs_NK, contestant.labels.names)
    return {
        "name": contestant.name,
        "kind": contestant.kind,
        "engine": contestant.engine,
        "precision": contestant.precision,
        "rows": len(probs_NK),
        "device": "cpu",
        "batch": PIPELINE_BATCH if contestant.kind == "pipeline" else None,
        "threads": contestant.threads,
        "rows_per_second": speed,
        "rows_per_second_runs": speeds,
        "pairs_per_second": speed * passes,
        "passes_per_row": passes,
        "peak_memory_mb": runs[-1].peak_memory_mb,
        "load_seconds": process.loaded["load_seconds"],
        "parameters": process.loaded["parameters"],
        "model_mb": _weights_mb(contestant),
        "padding_waste": None if math.isnan(waste) else waste,
        "agreement": agreement(reference_NK, probs_NK, multi_label=multi_label),
        "accuracy": metrics.get("accuracy"),
        "micro_f1": metrics.get("micro_f1"),
    }


def _median_speed(runs: list[Measurement]) -> float:
    return statistics.median(run.rows_per_second for run in runs)


def _weights_mb(contestant: Contestant) -> float | None:
    directory = Path(contestant.model)
    if contestant.kind != "student":
        directory = Path(load_teacher(contestant.model, nli_classes=contestant.nli_classes).path)
    sizes = [file.stat().st_size for file in directory.glob("*.safetensors")]
    return sum(sizes) / 2**20 if sizes else None
