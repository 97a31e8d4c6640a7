"""A draft of a teacher: one or two of its layers, trained on the corpus's own pairs to give the teacher's logits.

A small model learns well which class a row is not, and less well which of two that are close: so the draft looks at
every pair, and the teacher at those that are close (`zsd.engines.draft`, `zsd.teachers.recheck`). How close is close is
measured on rows that the draft was not trained on.

With one layer, run for the first token only (`zsd.compile.first_token`), a pair costs little more than its embeddings.

Legend: N rows, H hypotheses, R rows of a batch, A hypotheses asked of each.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from zsd.cache import cache_directory
from zsd.compile.compiled import DRAFT_FOLDER, FP32_ONNX, RECHECK_DRAFT, Widths, write_recheck
from zsd.compile.draft_logits import logits_content, teacher_logits
from zsd.compile.draft_training import DraftRows, asked_of_a_row, cut_to_layers, rows_of_a_step, save_draft, train_draft
from zsd.compile.export import read_onnx
from zsd.compile.heldout import HeldOut, Looks, all_pairs
from zsd.compile.onnx_session import OnnxSession
from zsd.compile.rows import Rows
from zsd.compile_config import CompileConfig
from zsd.console import say
from zsd.engines import load_engine
from zsd.engines.base import FloatArray, Placement
from zsd.engines.draft import drafted, half_precision
from zsd.errors import EngineError
from zsd.labels import LabelSet
from zsd.soft_labels.sample import DIVISIONS, MOST_NUMBERS
from zsd.soft_labels.trust import trusted_bias
from zsd.teachers.nli import NLITeacher

STEPS = 1500
"""Training steps where none are given, at most."""

PASSES = 2
"""Times each row is gone through where there are enough of them: more rows teach more than more passes."""

MOST_PASSES = 8
"""Passes where there are few rows."""

MAX_LENGTH = 256
"""Tokens a pair is cut to in training: what is learned there holds for longer pairs too, and costs less."""

WIDTHS = tuple(round(0.1 * step, 1) for step in range(1, 41))
"""How close is close, as differences of raw logits: what is tried."""

MOST_RECHECKED = 0.5
"""Share of the pairs that the teacher may be asked: beyond it a draft saves too little."""

EXACT_WIDTHS = tuple(round(0.01 * step, 2) for step in range(1, 21))
"""The same of what bf16 leaves to fp32."""

MOST_EXACT = 0.05
"""Share of the pairs that fp32 may be asked, which is several times as slow."""


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
        StoreError: what an interrupted run left in the cache is damaged.
    """
    started = time.perf_counter()
    assert config.draft is not None, "no draft was asked for"
    model = cut_to_layers(replace(teacher, name=config.teacher), config.draft)
    asked, together = asked_of_a_row(len(labels.hypotheses)), rows_of_a_step(len(labels.hypotheses))
    wanted = config.draft_steps or STEPS
    texts = [*rows.ranges, *rows.rest][: -(-wanted * together // PASSES)]
    steps = max(1, min(wanted, MOST_PASSES * len(texts) // together))
    shorter = replace(teacher, max_length=min(teacher.max_length, MAX_LENGTH))
    known = teacher_logits(shorter, labels, texts, threads)
    data = DraftRows(pairs=all_pairs(shorter, labels, texts), logits=known, multi_label=labels.multi_label)
    say(f"compile: training a draft of {config.draft} of the teacher's layers on {len(texts):,} rows")
    work = _work(config.draft, steps, shorter, labels, texts)
    work.mkdir(parents=True, exist_ok=True)
    loss = train_draft(model, teacher, data, steps=steps, state=work / "training.state")
    save_draft(model, directory / DRAFT_FOLDER)
    bias_K = None if labels.multi_label else _bias(known[:, :, 0])
    measured = _measured(teacher, labels, rows.selection, directory, config.min_agreement, threads, bias_K)
    shutil.rmtree(work, ignore_errors=True)
    return {
        "layers": config.draft,
        "rows": len(texts),
        "pairs_of_a_step": together * asked,
        "steps": steps,
        "loss": loss,
        **measured,
        "seconds": round(time.perf_counter() - started, 1),
    }


def _work(layers: int, steps: int, teacher: NLITeacher, labels: LabelSet, texts: Sequence[str]) -> Path:
    """Where a killed run of the same training finds its state."""
    told = (*logits_content(teacher, labels), str(labels.multi_label), str(layers), str(steps))
    key = hashlib.blake2b("\0".join([*told, *texts]).encode(), digest_size=16)
    return cache_directory() / "draft" / key.hexdigest()


def _bias(entailment_NK: FloatArray) -> FloatArray:
    """[K] about what `zsd distill` will take off the teacher's logits by itself (`zsd.soft_labels.trust`)."""
    entailment_NK = entailment_NK[: max(1, MOST_NUMBERS // entailment_NK.shape[1])]
    halves_NS = np.random.default_rng(0).random((len(entailment_NK), DIVISIONS)) < 0.5
    return trusted_bias(entailment_NK, halves_NS)[0].astype(np.float32)


def _measured(
    teacher: NLITeacher,
    labels: LabelSet,
    texts: Sequence[str],
    directory: Path,
    least: float,
    threads: int,
    bias_K: FloatArray | None,
) -> dict[str, Any]:
    """How the draft agrees alone and with what looks after it, all by torch, in fp32 and bf16; the widths are written.

    A row agrees where its class is the same by the raw logits and after the teacher's bias is taken off them.

    Raises:
        EngineError: not as asked for.
    """
    placement = Placement(threads=threads)
    half = half_precision("torch", placement)
    say(f"compile: the draft and the teacher, fp32 and {half}, on {len(texts)} rows: how close is close")
    reference = OnnxSession(read_onnx(directory / FP32_ONNX), threads=threads)
    heldout = HeldOut.of_teacher(teacher, labels, texts, reference.logits, bias_K=bias_K)
    exactly, looks = (None, None) if half == "fp32" else _third_look(teacher, heldout, least, placement, half)
    engine = load_engine("torch", drafted(teacher), placement, half)
    draft_PC = heldout.logits(engine.logits)
    engine.close()
    found = heldout.with_recheck(draft_PC, least, MOST_RECHECKED, widths=WIDTHS, at_least=WIDTHS[0], looks=looks)
    say(
        f"compile: the draft alone has {found.alone:.1%} agreement; with {found.share:.1%} of the pairs run by the "
        f"teacher {found.agreement:.1%}, {found.expected:.1%} expected"
    )
    if min(found.agreement, found.expected) < least:
        raise EngineError(
            f"a draft agrees with the teacher in {min(found.agreement, found.expected):.1%} of the held-out rows with "
            f"{found.share:.0%} of the pairs run again: give more rows (or fewer --calibration-rows), more "
            "--draft-steps, --draft 2, or a lower --min-agreement"
        )
    widths = Widths(
        within=found.within,
        exactly_within=exactly,
        hypotheses=tuple(labels.hypotheses),
        multi_label=labels.multi_label,
        columns=(teacher.classes.entailment, teacher.classes.contradiction),
        bias=() if bias_K is None or not bias_K.any() else tuple(bias_K.tolist()),
    )
    write_recheck(directory, RECHECK_DRAFT, widths)
    return {
        "agreement_alone": found.alone,
        "agreement": found.agreement,
        "expected": found.expected,
        "within": found.within,
        "rechecked": found.share,
        "exactly_within": exactly,
        "biased": bool(widths.bias),
    }


def _third_look(
    teacher: NLITeacher, heldout: HeldOut, least: float, placement: Placement, half: str
) -> tuple[float, Looks]:
    """Within how much bf16 cannot decide, so that fp32 must (0: nowhere), and what the two say.

    As close as it takes to leave a third of what may disagree, or as `MOST_EXACT` allows: the draft is held to what
    comes of all three.
    """
    engine = load_engine("torch", teacher, placement, half)
    half_PC = heldout.logits(engine.logits)
    engine.close()
    found = heldout.with_recheck(half_PC, least, MOST_EXACT, widths=EXACT_WIDTHS)
    return found.within, Looks(logits=half_PC, exactly_within=found.within)
