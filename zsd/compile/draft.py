"""A draft of a teacher: one or two of its layers, trained on the corpus's own pairs to give the teacher's logits.

A small model learns well which class a row is not, and less well which of two that are close: so the draft looks at
every pair, and the teacher at those that are close (`zsd.engines.draft`, `zsd.teachers.recheck`). How close is close is
measured on rows that the draft was not trained on.

With one layer, run for the first token only (`zsd.compile.first_token`), a pair costs little more than its embeddings.

Legend: N rows, H hypotheses, R rows of a batch, A hypotheses asked of each.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zsd.buckets import LengthSample
from zsd.cache import cache_directory
from zsd.compile.compiled import DRAFT, FP32_ONNX, RECHECK_DRAFT, Widths, write_recheck
from zsd.compile.draft_training import BATCH, DraftRows, asked_of_a_row, cut_to_layers, save_draft, train_draft
from zsd.compile.export import read_onnx
from zsd.compile.heldout import HeldOut, all_pairs
from zsd.compile.onnx_session import OnnxSession
from zsd.compile.rows import Rows
from zsd.compile_config import CompileConfig
from zsd.console import Progress, say
from zsd.engines import load_engine
from zsd.engines.base import FloatArray, Placement
from zsd.engines.draft import drafted, half_precision
from zsd.engines.select import choose_engine
from zsd.errors import EngineError
from zsd.labels import LabelSet
from zsd.teachers.nli import NLITeacher

PASSES = 2
"""Times each row is gone through where there are enough of them: more rows teach more than more passes."""

MOST_PASSES = 8
"""Passes where there are few rows."""

MAX_LENGTH = 256
"""Tokens a pair is cut to in training: what is learned there holds for longer pairs too, and costs less."""

TRIAL_ROWS = 100
"""Rows on which engines are timed for that: as few as tell 99 % agreement (`zsd.engines.select.trial_rows`)."""

PART_ROWS = 256
"""Rows that the teacher gets at a time."""

WIDTHS = tuple(round(0.1 * step, 1) for step in range(1, 41))
"""How close is close, as differences of raw logits: what is tried."""

EXACT_WIDTHS = tuple(round(0.01 * step, 2) for step in range(1, 21))
"""The same of what bf16 leaves to fp32."""

MOST_EXACT = 0.05
"""Share of the pairs that fp32 may be asked, which is several times as slow."""

MOST_RECHECKED = 0.5
"""Share of the pairs that the teacher may be asked: beyond it a draft saves too little."""


def write_draft(
    config: CompileConfig, teacher: NLITeacher, labels: LabelSet, rows: Rows, directory: Path, threads: int
) -> dict[str, Any]:
    """Train ``DIR/draft`` and measure how close is close; returns what compile.json says of it.

    Args:
        config: how many layers and steps, and the agreement asked for.
        teacher: what is in the directory.
        labels: what is asked.
        rows: to train on (all that measure nothing), and to decide on.
        directory: holds ``onnx/fp32.onnx``.
        threads: processor threads.

    Raises:
        EngineError: the teacher cannot be cut into layers, or its draft does not agree.
        StoreError: the state of an interrupted training is damaged.
    """
    started = time.perf_counter()
    assert config.draft is not None, "no draft was asked for"
    model = cut_to_layers(teacher, config.draft)
    asked = asked_of_a_row(len(labels.hypotheses))
    texts = [*rows.ranges, *rows.rest][: -(-config.draft_steps * BATCH // (asked * PASSES))]
    steps = max(1, min(config.draft_steps, MOST_PASSES * len(texts) * asked // BATCH))
    work = _work(config, teacher, labels, texts)
    work.mkdir(parents=True, exist_ok=True)
    shorter = replace(teacher, max_length=min(teacher.max_length, MAX_LENGTH))
    known = _teacher_logits(shorter, labels, texts, work / "logits.npy", threads)
    data = DraftRows(pairs=all_pairs(shorter, labels, texts), logits=known, multi_label=labels.multi_label)
    say(f"compile: training a draft of {config.draft} of the teacher's layers on {len(texts):,} rows")
    loss = train_draft(model, teacher, data, steps=steps, state=work / "training.state")
    save_draft(model, directory / DRAFT)
    return {
        "layers": config.draft,
        "rows": len(texts),
        "steps": steps,
        "loss": loss,
        **_measured(teacher, labels, rows.selection, directory, config.min_agreement, threads),
        "seconds": round(time.perf_counter() - started, 1),
    }


def _work(config: CompileConfig, teacher: NLITeacher, labels: LabelSet, texts: Sequence[str]) -> Path:
    """Where a killed run of the same training finds its state."""
    told = (teacher.fingerprint, str(config.draft), str(config.draft_steps), str(labels.to_dict()), torch.__version__)
    key = hashlib.blake2b("\0".join([*told, *texts]).encode(), digest_size=16)
    return cache_directory() / DRAFT / key.hexdigest()


def _teacher_logits(
    teacher: NLITeacher, labels: LabelSet, texts: Sequence[str], file: Path, threads: int
) -> FloatArray:
    """[N, H, 2] the teacher's entailment and contradiction logits, by the fastest engine; kept in a file."""
    if file.is_file():
        return np.asarray(np.load(file), dtype=np.float32)
    some = texts[:TRIAL_ROWS]
    lengths = LengthSample.of(all_pairs(teacher, labels, some).lengths, max_length=teacher.max_length)
    placement = Placement(device="cpu", threads=threads)
    total = len(texts) * len(labels.hypotheses)
    say(f"compile: the teacher's logits of {len(texts):,} rows, {total:,} pairs: timing engines on {len(some)} rows")
    scorer, _ = choose_engine(teacher, labels, placement, some, pairs=total, lengths=lengths)
    say(f"compile: asking the teacher by {scorer.engine.name} {scorer.engine.precision}")
    shown = Progress("compile: asking the teacher", total=len(texts))
    parts = []
    try:
        for start in range(0, len(texts), PART_ROWS):
            began = time.time()
            scores = scorer.score(texts[start : start + PART_ROWS])
            parts.append(np.stack([scores.raw_entailment, scores.raw_contradiction], axis=-1))
            shown.add(len(parts[-1]), started=began)
    finally:
        scorer.close()
    known_NH2 = np.concatenate(parts)
    scratch = file.with_name("writing.npy")
    np.save(scratch, known_NH2)
    scratch.replace(file)
    return known_NH2


def _measured(
    teacher: NLITeacher, labels: LabelSet, texts: Sequence[str], directory: Path, least: float, threads: int
) -> dict[str, Any]:
    """How the draft agrees alone and with its second look, which is written down.

    Raises:
        EngineError: not as asked for.
    """
    reference = OnnxSession(read_onnx(directory / FP32_ONNX), threads=threads)
    heldout = HeldOut.of_teacher(teacher, labels, texts, reference.logits)
    engine = load_engine("torch", drafted(teacher), Placement(threads=threads))
    alone = heldout.agreement(engine.logits)
    found = heldout.with_recheck(engine.logits, least, MOST_RECHECKED, widths=WIDTHS)
    engine.close()
    say(
        f"compile: the draft alone has {alone:.1%} agreement; with {found.share:.1%} of the pairs run by the teacher "
        f"{found.agreement:.1%}, {found.expected:.1%} expected"
    )
    if min(found.agreement, found.expected) < least:
        raise EngineError(
            f"a draft agrees with the teacher in {min(found.agreement, found.expected):.1%} of the held-out rows with "
            f"{found.share:.0%} of the pairs run again: give more rows or --draft-steps, --draft 2, or a lower "
            "--min-agreement"
        )
    exact = _third_look(teacher, heldout, least, threads)
    write_recheck(directory, RECHECK_DRAFT, Widths(within=found.within, exactly_within=exact))
    return {
        "agreement_alone": alone,
        "agreement": found.agreement,
        "expected": found.expected,
        "within": found.within,
        "exactly_within": exact,
        "rechecked": found.share,
    }


def _third_look(teacher: NLITeacher, heldout: HeldOut, least: float, threads: int) -> float:
    """Within how much bf16 cannot decide, so that fp32 must; 0 where it can, and where the processor has none.

    It may cost `SPARED` of the disagreement that is allowed, as what the draft leaves may.
    """
    placement = Placement(threads=threads)
    half = half_precision("torch", placement)
    if half == "fp32":
        return 0.0
    engine = load_engine("torch", teacher, placement, half)
    found = heldout.with_recheck(engine.logits, least, MOST_EXACT, widths=EXACT_WIDTHS)
    engine.close()
    return found.within
