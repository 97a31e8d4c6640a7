"""A dense NLI teacher -> one with most of its encoder's weights at zero that still answers as the dense one does.

``gradual`` cuts small weights little by little while the model is trained against the dense one; the one-shot methods
(`zsd.compile.oneshot`) cut in minutes without training, and may be trained after it under their fixed mask.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from zsd.compile.finetune import BATCH, MAX_LENGTH, FineTuning, finetune
from zsd.compile.nli_pairs import Pair, TokenizedPairs
from zsd.compile.oneshot import METHODS as ONESHOT
from zsd.compile.oneshot import prune_model
from zsd.compile.prune import encoder_linears, sparsity_of
from zsd.console import say
from zsd.errors import ConfigError, CorpusError, OutputError
from zsd.quiet import quiet_transformers
from zsd.teachers.nli import NLITeacher, load_teacher
from zsd.teachers.weights import input_names, load_weights

METHODS = ("gradual", *ONESHOT)
STEPS = {"gradual": 2000}
"""Steps where none are given; a one-shot method is not trained unless it is asked for."""
CALIBRATION_PAIRS = 512
JOB = "sparsify.job"
"""Says what an unfinished output is made of."""
STATE = "sparsify.state"
"""What training had reached."""
REPORT = "sparsify.json"
"""Written last: what was done."""


@dataclass(frozen=True, kw_only=True)
class SparsityReport:
    """What a finished sparsification did.

    Args:
        method: how the weights were chosen.
        sparsity: share of the encoder's linear weights that are zero.
        layers: linear layers pruned.
        weights: weights in them.
        steps: training steps of `BATCH` pairs.
        pairs: pairs gone through in training.
        loss: mean over the last tenth of the steps, see `zsd.compile.finetune.distance`; None without training.
        seconds: of the run that finished.
    """

    method: str
    sparsity: float
    layers: int
    weights: int
    steps: int
    pairs: int
    loss: float | None
    seconds: float


def sparsify(
    teacher: NLITeacher,
    pairs: Sequence[Pair],
    output: Path,
    *,
    sparsity: float,
    method: str = "gradual",
    steps: int | None = None,
    seed: int = 0,
    threads: int = 1,
    start: Path | None = None,
) -> SparsityReport:
    """Prune a teacher and write it as a plain transformers checkpoint directory.

    A killed run goes on where it last saved when called again with the same arguments; a finished one returns its
    report.

    Args:
        teacher: the dense teacher.
        pairs: premises and hypotheses without labels, like those the teacher will see; tens of thousands for training,
            a few hundred for a one-shot method.
        output: directory, new or of this same call.
        sparsity: share of the weights of the encoder's linear layers to set to zero, in [0, 1).
        method: one of `METHODS`.
        steps: training steps; 2000 for ``gradual`` and 0 for the others where None.
        seed: of the order of the pairs.
        threads: processor threads.
        start: checkpoint to take the weights from instead of the teacher's, such as an earlier, less sparse result;
            what is zero in it stays zero. The teacher is still what it is trained against.

    Raises:
        ConfigError: method, sparsity or steps make no sense.
        CorpusError: there are no pairs.
        TeacherError: the weights cannot be loaded, or the model has no encoder blocks.
        OutputError: `output` holds something else.
        StoreError: the state of a killed run is damaged.
    """
    steps = STEPS.get(method, 0) if steps is None else steps
    _check(method, sparsity, steps, pairs)
    first = teacher if start is None else load_teacher(str(start))
    job = _identity(teacher, pairs, start=first.fingerprint, sparsity=sparsity, method=method, steps=steps, seed=seed)
    if (output / REPORT).is_file():
        return _finished(output, job)
    _claim(output, job)
    started = time.time()
    torch.set_num_threads(threads)
    dense = load_weights(teacher, dtype=torch.float32, attn_implementation="eager")
    sparse = load_weights(first, dtype=torch.float32, attn_implementation="eager")
    names = input_names(sparse, tuple(teacher.tokenizer.model_input_names))
    layers = encoder_linears(sparse)
    length = min(teacher.max_length, MAX_LENGTH)
    if method != "gradual" and not (output / STATE).is_file():
        calibration = TokenizedPairs.build(teacher.tokenizer, pairs[:CALIBRATION_PAIRS], max_length=length)
        prune_model(sparse, calibration, names, method=method, sparsity=sparsity, max_length=length)
    loss = None
    if steps:
        say(f"sparsify: tokenizing {len(pairs):,} pairs")
        tokenized = TokenizedPairs.build(teacher.tokenizer, pairs, max_length=length)
        target = sparsity if method == "gradual" else None
        plan = FineTuning(steps=steps, sparsity=target, initial=sparsity_of(layers), seed=seed)
        loss = finetune(sparse, dense, tokenized, names, plan, state=output / STATE, max_length=length)
    report = SparsityReport(
        method=method,
        sparsity=sparsity_of(layers),
        layers=len(layers),
        weights=sum(layer.weight.numel() for layer in layers.values()),
        steps=steps,
        pairs=steps * min(BATCH, len(pairs)),
        loss=loss,
        seconds=round(time.time() - started, 1),
    )
    _save(sparse, teacher, output)
    (output / REPORT).write_text(json.dumps({"job": job, "report": asdict(report)}, indent=2) + "\n", encoding="utf-8")
    (output / STATE).unlink(missing_ok=True)
    (output / JOB).unlink()
    return report


def _check(method: str, sparsity: float, steps: int, pairs: Sequence[Pair]) -> None:
    if method not in METHODS:
        raise ConfigError(f"unknown pruning method {method!r}: use one of {', '.join(METHODS)}")
    if not 0.0 <= sparsity < 1.0:
        raise ConfigError(f"sparsity {sparsity} must be at least 0 and below 1, such as 0.8")
    if steps < 0 or (method == "gradual" and steps == 0):
        raise ConfigError(f"{steps} training steps: gradual pruning needs at least 1, some hundreds to be of use")
    if not pairs:
        raise CorpusError("no premise/hypothesis pairs to prune on: give a corpus with rows, or a file of pairs")


def _identity(teacher: NLITeacher, pairs: Sequence[Pair], **settings: float | str) -> str:
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps([teacher.fingerprint, len(pairs), settings], sort_keys=True).encode())
    for premise, hypothesis in pairs:
        digest.update(f"{premise}\0{hypothesis}\0".encode())
    return digest.hexdigest()


def _claim(output: Path, job: str) -> None:
    """Make the output, or find it to be an unfinished one of this very call."""
    if (output / JOB).is_file():
        if (output / JOB).read_text(encoding="utf-8") != job:
            raise OutputError(f"{output} holds an unfinished pruning of other inputs or settings: choose another")
        return
    if output.is_dir() and any(output.iterdir()):
        raise OutputError(f"{output} is not empty and holds no unfinished pruning: choose a new directory")
    output.mkdir(parents=True, exist_ok=True)
    (output / JOB).write_text(job, encoding="utf-8")


def _finished(output: Path, job: str) -> SparsityReport:
    content = json.loads((output / REPORT).read_text(encoding="utf-8"))
    if content["job"] != job:
        raise OutputError(f"{output} holds a teacher pruned from other inputs or settings: choose a new directory")
    return SparsityReport(**content["report"])


def _save(model: nn.Module, teacher: NLITeacher, output: Path) -> None:
    """Write weights, config and tokenizer; truncation and padding are taken off, or tokenizer.json would keep them."""
    teacher.tokenizer.backend_tokenizer.no_truncation()
    teacher.tokenizer.backend_tokenizer.no_padding()
    with quiet_transformers():
        model.save_pretrained(output)  # type: ignore[operator]
        teacher.tokenizer.save_pretrained(output)
