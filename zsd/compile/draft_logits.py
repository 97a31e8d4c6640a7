"""The teacher's logits of the rows that a draft is trained on, part by part, each kept in the cache of the node.

Legend: N rows, H hypotheses.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import transformers

from zsd.buckets import LengthSample
from zsd.cache import cached_file
from zsd.compile.heldout import all_pairs
from zsd.console import Progress, say
from zsd.engines.base import FloatArray, Placement
from zsd.engines.draft import half_precision
from zsd.engines.native.library import source_digest
from zsd.engines.native.weights import fits
from zsd.engines.select import load_scorer
from zsd.errors import EngineError, StoreError
from zsd.labels import LabelSet
from zsd.machine import describe_machine, has_amx
from zsd.teachers.nli import NLITeacher
from zsd.teachers.scoring import Scorer, Scores

PART_PAIRS = 4096
"""Pairs that the teacher gets at a time; what it said of them is kept in the cache."""

ASKED_BY = ("native", "openvino", "torch")
"""Engines that may give the teacher's logits, the fastest first; native where it was measured, with AMX."""

VERSION = 1
"""Raised when a change here makes logits and states stored before unfit."""


def logits_content(teacher: NLITeacher, labels: LabelSet) -> tuple[str, ...]:
    """What a teacher's logits of a text follow from, but for which of the engines ran it."""
    packages = describe_machine()["versions"]
    half = half_precision("torch", Placement())
    libraries = (torch.__version__, transformers.__version__, str(packages["openvino"]), source_digest())
    return (
        teacher.fingerprint,
        str(teacher.classes),
        str(teacher.max_length),
        *labels.hypotheses,
        *libraries,
        half,
        str(VERSION),
    )


def teacher_logits(teacher: NLITeacher, labels: LabelSet, texts: Sequence[str], threads: int) -> FloatArray:
    """[N, H, 2] the teacher's entailment and contradiction logits, part by part, each kept in the cache.

    By the first of `ASKED_BY` that can run this teacher, in bf16 where the processor has it: its rounding is small
    beside what a draft is off by, and the draft itself is held to fp32.

    Raises:
        StoreError: a part in the cache is damaged.
    """
    say(f"compile: the teacher's logits of {len(texts):,} rows, {len(texts) * len(labels.hypotheses):,} pairs")
    part_rows = max(1, PART_PAIRS // len(labels.hypotheses))
    shown = Progress("compile: asking the teacher", total=len(texts))
    left = [name for name in ASKED_BY if name != "native" or (has_amx() and fits(teacher.config))]
    scorers: list[Scorer] = []
    parts = []
    try:
        for start in range(0, len(texts), part_rows):
            part = texts[start : start + part_rows]

            def ask(file: Path, part: Sequence[str] = part) -> None:
                scores = _scored(scorers, left, teacher, labels, part, threads)
                np.save(file, np.stack([scores.raw_entailment, scores.raw_contradiction], axis=-1))

            began = time.time()
            file = cached_file("draft-logits", "logits.npy", *logits_content(teacher, labels), *part, make=ask)
            parts.append(_read(file, (len(part), len(labels.hypotheses), 2)))
            if scorers:
                shown.add(len(part), started=began)
            else:  # it was asked by a run that was killed
                shown.done, shown.before = shown.done + len(part), shown.before + len(part)
    finally:
        for scorer in scorers:
            scorer.close()
    return np.concatenate(parts)


def _scored(
    scorers: list[Scorer], left: list[str], teacher: NLITeacher, labels: LabelSet, texts: Sequence[str], threads: int
) -> Scores:
    """What the first of the engines that can says of a part; it is kept for the next, those that cannot are not."""
    while True:
        try:
            if not scorers:
                scorers.append(_scorer_on(left[0], teacher, labels, texts, threads))
            return scorers[0].score(texts)
        except EngineError as error:  # also with the first rows: OpenVINO compiles a shape when it is first met
            if len(left) == 1:
                raise
            say(f"compile: the teacher is asked by {left[1]}: {error}")
            del left[0]
            for scorer in scorers:
                scorer.close()
            scorers.clear()


def _read(file: Path, shape: tuple[int, ...]) -> FloatArray:
    try:
        logits = np.asarray(np.load(file), dtype=np.float32)
    except (OSError, ValueError, EOFError) as error:
        raise StoreError(f"{file} is damaged ({error}): delete it, and run the same command again") from None
    if logits.shape != shape:
        raise StoreError(f"{file} is damaged (it holds {logits.shape}): delete it, and run the same command again")
    return logits


def _scorer_on(engine: str, teacher: NLITeacher, labels: LabelSet, texts: Sequence[str], threads: int) -> Scorer:
    placement = Placement(threads=threads)
    half = half_precision(engine, placement)
    lengths = LengthSample.of(all_pairs(teacher, labels, texts).lengths, max_length=teacher.max_length)
    return load_scorer(engine, half, teacher, labels, placement, lengths=lengths, long_text="truncate")
