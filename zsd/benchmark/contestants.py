"""Who is timed: the transformers zero-shot pipeline, the teacher on each engine, the student. Each in its own process.

A process of its own makes peak memory mean something, and lets the contestants be timed in turn in one run, so that a
machine that slows down slows all of them.

Legend: N rows, K labels.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import numpy.typing as npt

from zsd.engines.base import Placement
from zsd.errors import EngineError, ZsdError
from zsd.labels import LabelSet
from zsd.machine import peak_memory_mb

FloatArray = npt.NDArray[np.float32]
Score = Callable[[Sequence[str]], tuple[FloatArray, float]]
"""N texts to (probs_NK, padding waste)."""

LEAST_SECONDS = 1.0
PIPELINE_BATCH = 16


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """One way to classify texts; picklable.

    Args:
        name: as the report shows it.
        kind: ``pipeline``, ``teacher`` or ``student``.
        engine: engine name.
        precision: ``fp32`` or ``bf16``.
        model: checkpoint name or path.
        labels: what is asked; of a student, what it was distilled for.
        nli_classes: see `zsd.teachers.nli.find_nli_classes`.
        threads: processor threads.
    """

    name: str
    kind: str
    engine: str
    precision: str
    model: str
    labels: LabelSet
    nli_classes: str | None
    threads: int


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One timed run: rows/s and the probabilities of the rows."""

    rows_per_second: float
    probs: FloatArray
    padding_waste: float
    peak_memory_mb: float | None


class Process:
    """A contestant loaded in a process of its own.

    Raises:
        EngineError: it cannot run here.
    """

    def __init__(self, contestant: Contestant) -> None:
        self.contestant = contestant
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(contestant, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.loaded: dict[str, Any] = self._receive()

    def measure(self, texts: Sequence[str], *, least_seconds: float = LEAST_SECONDS) -> Measurement:
        """Classify the texts, over and over until the time is up, and say how fast that was."""
        self.pipe.send((list(texts), least_seconds))
        result: Measurement = self._receive()
        return result

    def close(self) -> None:
        """End the process."""
        self.pipe.close()
        self.process.join(timeout=10)
        self.process.terminate()

    def _receive(self) -> Any:
        try:
            result = self.pipe.recv()
        except EOFError:
            self.process.join(timeout=10)
            raise EngineError(
                f"{self.contestant.name}: its process died (exit code {self.process.exitcode}), perhaps for memory"
            ) from None
        if isinstance(result, ZsdError):
            raise result
        return result


def _serve(contestant: Contestant, pipe: Connection) -> None:
    """The process: load, tell what was loaded, then time whatever texts come."""
    try:
        started = time.perf_counter()
        score, parameters = _load(contestant)
        pipe.send({"load_seconds": round(time.perf_counter() - started, 2), "parameters": parameters})
        while True:
            texts, least_seconds = pipe.recv()
            pipe.send(_measure(score, texts, least_seconds))
    except ZsdError as error:
        pipe.send(error)
    except EOFError:
        pass


def _measure(score: Score, texts: list[str], least_seconds: float) -> Measurement:
    passes, started = 0, time.perf_counter()
    while passes == 0 or time.perf_counter() - started < least_seconds:
        probs_NK, waste = score(texts)
        passes += 1
    speed = passes * len(texts) / (time.perf_counter() - started)
    return Measurement(rows_per_second=speed, probs=probs_NK, padding_waste=waste, peak_memory_mb=peak_memory_mb())


def _load(contestant: Contestant) -> tuple[Score, int | None]:
    import torch

    from zsd.student import quiet_transformers

    torch.set_num_threads(contestant.threads)
    loaders = {"pipeline": _load_pipeline, "teacher": _load_teacher, "student": _load_student}
    with quiet_transformers():
        return loaders[contestant.kind](contestant)


def _load_pipeline(contestant: Contestant) -> tuple[Score, int | None]:
    """The peer: transformers' own zero-shot pipeline with the same weights, used as its documentation shows."""
    import torch
    from transformers import pipeline

    from zsd.teachers.nli import load_teacher

    path = load_teacher(contestant.model, nli_classes=contestant.nli_classes).path
    labels = contestant.labels
    # Called through Any: the stubs of transformers know only some of the tasks.
    classify: Any = pipeline("zero-shot-classification", model=path, device="cpu", dtype=torch.float32)

    def score(texts: Sequence[str]) -> tuple[FloatArray, float]:
        results = classify(
            list(texts),
            list(labels.names),
            hypothesis_template=labels.template,
            multi_label=labels.multi_label,
            batch_size=PIPELINE_BATCH,
        )
        by_name = [dict(zip(one["labels"], one["scores"], strict=True)) for one in results]
        return np.array([[row[name] for name in labels.names] for row in by_name], dtype=np.float32), float("nan")

    return score, sum(parameter.numel() for parameter in classify.model.parameters())


def _load_teacher(contestant: Contestant) -> tuple[Score, int | None]:
    from zsd.engines import load_engine
    from zsd.soft_labels import soft_labels
    from zsd.teachers.nli import load_teacher
    from zsd.teachers.scoring import Scorer

    teacher = load_teacher(contestant.model, nli_classes=contestant.nli_classes)
    placement = Placement(device="cpu", threads=contestant.threads)
    engine = load_engine(contestant.engine, teacher, placement, contestant.precision)
    scorer = Scorer(teacher, engine, contestant.labels)

    def score(texts: Sequence[str]) -> tuple[FloatArray, float]:
        scores = scorer.score(texts)
        multi_label = contestant.labels.multi_label
        return soft_labels(scores.entailment, scores.contradiction, multi_label=multi_label), scores.padding_waste

    return score, None


def _load_student(contestant: Contestant) -> tuple[Score, int | None]:
    from zsd.inference import predict
    from zsd.student import load_student

    model, tokenizer = load_student(contestant.model, contestant.precision)

    def score(texts: Sequence[str]) -> tuple[FloatArray, float]:
        predicted = predict(model, tokenizer, texts)
        return predicted.probs, predicted.padding_waste

    return score, sum(parameter.numel() for parameter in model.parameters())
