"""Who is timed, and how each classifies texts: the peers, the teacher on each engine, the student.

Each runs in a process of its own: peak memory means something then, and all can be timed in turn in one run, so that a
machine that slows down slows all of them.

Legend: N rows, K labels, H hypotheses.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from zsd.benchmark.remote import Answer, Remote
from zsd.benchmark.timing import Score, Scored, Timed, time_rows
from zsd.buckets import LengthSample
from zsd.engines import load_engine
from zsd.engines.base import Placement
from zsd.engines.select import load_scorer
from zsd.labels import LabelSet
from zsd.machine import peak_memory_mb
from zsd.quiet import quiet_transformers
from zsd.soft_labels import soft_labels
from zsd.soft_labels.ensemble import mean_over_templates, probs_of_mean_logits
from zsd.students import load_student
from zsd.students.folder import student_kind
from zsd.teachers.nli import load_teacher

LEAST_SECONDS = 1.0
PART_PAIRS = 1024
"""Pairs that a teacher gets at a time, to sort and batch as it likes: about what one unit of `zsd label` holds."""

PEER_PART_PAIRS = 64
"""Pairs that a peer gets at a time: it takes rows as they come, so that more would only coarsen the clock."""

STUDENT_PART_ROWS = 1024
PIPELINE_BATCH = 16

RECIPE_LENGTH = 128
"""Tokens the old recipe pads every pair to: the default ``sequence_length`` of DeepSparse's transformers pipelines."""


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """One way to classify texts; picklable.

    Args:
        name: as the report shows it; no two have the same.
        kind: ``pipeline``, ``recipe``, ``teacher``, ``compiled`` (another form of the teacher) or ``student``.
        engine: engine name.
        precision: ``fp32``, ``bf16``, ``int8`` or ``draft``.
        model: checkpoint name or path.
        labels: what is asked; of a student, what it was distilled for.
        nli_classes: see `zsd.teachers.nli.find_nli_classes`.
        threads: processor threads.
        lengths: of all pairs there are, from which an engine of fixed shapes chooses its own; None for who has no pairs
            batched by zsd.
    """

    name: str
    kind: str
    engine: str
    precision: str
    model: str
    labels: LabelSet
    nli_classes: str | None
    threads: int
    lengths: LengthSample | None = None

    @property
    def part_rows(self) -> int:
        """Rows it is given at a time."""
        if self.kind == "student":
            return STUDENT_PART_ROWS
        pairs = PEER_PART_PAIRS if self.kind in ("pipeline", "recipe") else PART_PAIRS
        return max(1, pairs // len(self.labels.hypotheses))


@dataclass(frozen=True, kw_only=True)
class Question:
    """Texts to classify, and the least and most seconds to take: see `time_rows`."""

    texts: Sequence[str]
    least_seconds: float
    most_seconds: float


@dataclass(frozen=True, kw_only=True)
class Measurement(Timed):
    """One timed run, and the most memory the process ever had, in MiB."""

    peak_memory_mb: float | None


class Process(Remote):
    """A contestant loaded in a process of its own.

    Raises:
        EngineError: it cannot run here.
    """

    def __init__(self, contestant: Contestant) -> None:
        super().__init__(contestant.name, make_contestant, contestant)
        self.contestant = contestant

    def measure(
        self, texts: Sequence[str], *, least_seconds: float = LEAST_SECONDS, most_seconds: float = float("inf")
    ) -> Measurement:
        """Classify the texts, or as many as the time allows, and say how fast that was."""
        question = Question(texts=list(texts), least_seconds=least_seconds, most_seconds=most_seconds)
        measurement: Measurement = self.ask(question)
        return measurement


def make_contestant(contestant: Contestant) -> tuple[dict[str, Any], Answer]:
    """Load a contestant: what that took (``load_seconds``, ``peak_memory_mb``), and `Question` to `Measurement`."""
    torch.set_num_threads(contestant.threads)
    loaders: dict[str, Callable[[Contestant], Score]] = {
        "pipeline": transformers_pipeline,
        "recipe": old_recipe,
        "teacher": teacher_engine,
        "compiled": teacher_engine,
        "student": student,
    }
    started = time.perf_counter()
    with quiet_transformers():
        score = loaders[contestant.kind](contestant)
    about = {"load_seconds": round(time.perf_counter() - started, 2), "peak_memory_mb": peak_memory_mb()}

    def answer(question: Question) -> Measurement:
        timed = time_rows(
            score,
            question.texts,
            part_rows=contestant.part_rows,
            least_seconds=question.least_seconds,
            most_seconds=question.most_seconds,
        )
        return Measurement(
            probs=timed.probs,
            rows_per_second=timed.rows_per_second,
            padding_waste=timed.padding_waste,
            peak_memory_mb=peak_memory_mb(),
        )

    return about, answer


def transformers_pipeline(contestant: Contestant) -> Score:
    """The peer: transformers' own zero-shot pipeline with the same weights, used as its documentation shows."""
    from transformers import pipeline

    path = load_teacher(contestant.model, nli_classes=contestant.nli_classes).path
    labels = contestant.labels
    # Called through Any: the stubs of transformers know only some of the tasks.
    classify: Any = pipeline("zero-shot-classification", model=path, device="cpu", dtype=torch.float32)

    def of_template(texts: Sequence[str], template: str) -> Any:
        results = classify(
            list(texts),
            list(labels.names),
            hypothesis_template=template,
            multi_label=labels.multi_label,
            batch_size=PIPELINE_BATCH,
        )
        by_name = [dict(zip(one["labels"], one["scores"], strict=True)) for one in results]
        return np.array([[row[name] for name in labels.names] for row in by_name], dtype=np.float32)

    def score(texts: Sequence[str]) -> Scored:
        each = [of_template(texts, template) for template in labels.templates]
        return Scored(probs=probs_of_mean_logits(each, multi_label=labels.multi_label))

    return score


def old_recipe(contestant: Contestant) -> Score:
    """The recipe zsd replaces: DeepSparse's zero-shot pipeline in a loop over the texts, as its users ran it.

    Row by row, as in the recipe's own write-up (https://www.argilla.io/blog/neural_magic/): the pairs of a text are
    tokenized together, each padded to `RECIPE_LENGTH` (or the teacher's limit, where that is less) and only the text
    cut, then run one after another at batch 1. So does ``MnliTextClassificationPipeline`` of deepsparse 1.8 by
    default; it cannot be imported beside transformers 5, so its loop is written out. Its one mistake is not repeated:
    which column is entailment is read from the model.
    """
    labels = contestant.labels
    teacher = load_teacher(contestant.model, nli_classes=contestant.nli_classes)
    placement = Placement(device="cpu", threads=contestant.threads)
    engine = load_engine(contestant.engine, teacher, placement, contestant.precision)
    length = recipe_length(teacher.max_length)

    def score(texts: Sequence[str]) -> Scored:
        logits: list[list[Any]] = []
        tokens = 0
        for text in texts:
            encoded = teacher.tokenizer(
                [[text, hypothesis] for hypothesis in labels.hypotheses],
                padding="max_length",
                max_length=length,
                truncation="only_first",
                return_tensors="np",
            )
            inputs = {name: np.asarray(array, dtype=np.int64) for name, array in encoded.items()}
            pairs = [{name: array[h : h + 1] for name, array in inputs.items()} for h in range(len(labels.hypotheses))]
            logits.append([engine.logits(pair)[0] for pair in pairs])
            tokens += int(inputs["attention_mask"].sum())
        logits_NHC = np.array(logits, dtype=np.float32)
        columns = (teacher.classes.entailment, teacher.classes.contradiction)
        means_NK = [mean_over_templates(logits_NHC[..., column], len(labels.templates)) for column in columns]
        return Scored(
            probs=soft_labels(*means_NK, multi_label=labels.multi_label),
            tokens=tokens,
            padding_waste=1.0 - tokens / (logits_NHC.shape[0] * logits_NHC.shape[1] * length),
        )

    return score


def recipe_length(limit: int) -> int:
    """Tokens the old recipe pads every pair of a teacher to, whose own limit is given."""
    return min(RECIPE_LENGTH, limit)


def teacher_engine(contestant: Contestant) -> Score:
    """The teacher on one of zsd's engines, batched as `zsd label` does."""
    assert contestant.lengths is not None, "a teacher's engine is told how long the pairs are"
    scorer = load_scorer(
        contestant.engine,
        contestant.precision,
        load_teacher(contestant.model, nli_classes=contestant.nli_classes),
        contestant.labels,
        Placement(device="cpu", threads=contestant.threads),
        lengths=contestant.lengths,
        long_text="truncate",
    )

    def score(texts: Sequence[str]) -> Scored:
        scores = scorer.score(texts)
        probs_NK = soft_labels(scores.entailment, scores.contradiction, multi_label=contestant.labels.multi_label)
        return Scored(probs=probs_NK, tokens=scores.tokens, padding_waste=scores.padding_waste)

    return score


def student(contestant: Contestant) -> Score:
    """A distilled student of any kind, run as `zsd predict` does."""
    chosen = {"engine": contestant.engine, "precision": contestant.precision}
    if student_kind(contestant.model) != "encoder":
        chosen = {}  # it has one way to run
    loaded = load_student(contestant.model, threads=contestant.threads, **chosen)

    def score(texts: Sequence[str]) -> Scored:
        answer = loaded.answer(texts)
        return Scored(probs=answer.probs, tokens=answer.tokens, padding_waste=answer.padding_waste)

    return score
