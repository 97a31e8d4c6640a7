"""The plain transformers checkpoint in a compiled directory: the teacher's own files, or a pruned form of it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from zsd.cache import cache_directory
from zsd.compile.nli_pairs import cross_pairs, read_pairs
from zsd.compile.prune import encoder_linears
from zsd.compile.sparsify import sparsify
from zsd.compile_config import CompileConfig
from zsd.console import say
from zsd.errors import TeacherError
from zsd.teachers.nli import NLITeacher, load_teacher
from zsd.teachers.weights import load_weights

RESULT = "compile.json"
KINDS = (".safetensors", ".json", ".txt", ".model")
NOT_OURS = (RESULT, "sparsify.json", "model.safetensors.index.json")
MOST_PAIRS = 64_000
"""Pairs of the corpus that pruning sees at most; of a file of pairs it sees all."""


def write_checkpoint(teacher: NLITeacher, directory: Path) -> None:
    """The checkpoint's own files; weights that lie in other formats or in pieces are saved as one safetensors file.

    Raises:
        TeacherError: the weights cannot be loaded.
    """
    _copy(Path(teacher.path), directory)
    if not (directory / "model.safetensors").is_file():
        for piece in directory.glob("*.safetensors"):
            piece.unlink()
        load_weights(teacher, dtype=torch.float32).save_pretrained(directory)  # type: ignore[operator]


def write_pruned(
    config: CompileConfig,
    teacher: NLITeacher,
    premises: Sequence[str],
    hypotheses: Sequence[str],
    directory: Path,
    threads: int,
) -> dict[str, Any]:
    """Prune the teacher and write what comes of it; returns `zsd.compile.sparsify.SparsityReport` as a mapping.

    The work is done in the cache, where an interrupted run of the same command finds its state.

    Args:
        config: what to do.
        teacher: the dense one.
        premises: rows of the corpus, crossed with the hypotheses where the user named no pairs.
        hypotheses: one a class.
        directory: of the checkpoint.
        threads: processor threads.

    Raises:
        CorpusError: the pairs cannot be read.
        TeacherError: the weights, or the form to start from, cannot be loaded.
        StoreError: the state of an interrupted run is damaged.
    """
    given = config.pairs is not None
    pairs = read_pairs(Path(str(config.pairs))) if given else cross_pairs(premises, hypotheses, most=MOST_PAIRS, seed=0)
    first = teacher if config.start is None else load_teacher(config.start, nli_classes=config.nli_classes)
    settings = (teacher.fingerprint, first.fingerprint, config.method, str(config.sparsity), str(config.steps))
    key = hashlib.blake2b("\0".join([*settings, *(text for pair in pairs for text in pair)]).encode(), digest_size=16)
    work = cache_directory() / "sparsify" / key.hexdigest()
    say(f"compile: pruning to {config.sparsity:.0%} by {config.method} on {len(pairs):,} pairs")
    report = sparsify(
        teacher,
        pairs,
        work,
        sparsity=config.sparsity,
        method=config.method,
        steps=config.steps,
        threads=threads,
        start=None if config.start is None else Path(first.path),
    )
    _copy(work, directory)
    return asdict(report)


def sparsity_by_layer(teacher: NLITeacher) -> dict[str, Any]:
    """Share of zeros in the encoder's linear layers: ``overall``, and ``by_layer`` over all blocks by layer name."""
    zeros: dict[str, list[int]] = {}
    try:
        layers = encoder_linears(load_weights(teacher, dtype=torch.float32))
    except TeacherError:
        layers = {}
    for name, layer in layers.items():
        kind = ".".join(part for part in name.split(".") if not part.isdigit())
        count = zeros.setdefault(kind, [0, 0])
        count[0] += int((layer.weight == 0).sum())
        count[1] += layer.weight.numel()
    whole = [sum(count[i] for count in zeros.values()) for i in (0, 1)]
    return {
        "overall": whole[0] / max(1, whole[1]),
        "by_layer": {kind: count[0] / count[1] for kind, count in zeros.items()},
    }


def _copy(source: Path, directory: Path) -> None:
    for file in source.iterdir():
        if file.is_file() and file.suffix in KINDS and file.name not in NOT_OURS:
            shutil.copyfile(file, directory / file.name)
