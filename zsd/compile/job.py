"""`zsd compile`: an NLI checkpoint -> ONNX -> pruned -> int8, in one directory that ``--teacher`` accepts, with a card.

::

    DIR/config.json model.safetensors tokenizer...   a plain transformers checkpoint, pruned where asked for
    DIR/onnx/fp32.onnx  onnx/int8.onnx  openvino/int8.xml
    DIR/compile.json  README.md                      the card

The directory appears whole or not at all. A pruning that was interrupted goes on where it stopped (its state is in the
cache); all else takes a minute or two and is done again.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

import zsd
from zsd.cache import cache_directory, new_directory
from zsd.compile.card import card_text, forms_table
from zsd.compile.export import export_onnx
from zsd.compile.forms import compare, measure_forms, torch_probs
from zsd.compile.heldout import HeldOut, all_pairs, batches
from zsd.compile.integer import quantize_onnx
from zsd.compile.nli_pairs import cross_pairs
from zsd.compile.onnx_session import OnnxSession
from zsd.compile.prune import encoder_linears
from zsd.compile.quantize_openvino import quantize_openvino
from zsd.compile.rows import Rows, read_compile_rows
from zsd.compile.sparsify import sparsify
from zsd.compile_config import CompileConfig
from zsd.console import say
from zsd.errors import EngineError, OutputError, TeacherError
from zsd.labels import LabelSet
from zsd.machine import available_cpus, describe_machine
from zsd.output import shown
from zsd.storage import first_line
from zsd.teachers.nli import NLITeacher, absolute_checkpoint, load_teacher
from zsd.teachers.weights import load_weights

CARD, RESULT = "README.md", "compile.json"
FP32_ONNX, INT8_ONNX, INT8_OPENVINO = "onnx/fp32.onnx", "onnx/int8.onnx", "openvino/int8.xml"
KINDS = (".safetensors", ".json", ".txt", ".model")
NOT_OURS = (RESULT, "sparsify.json", "model.safetensors.index.json")
MOST_PAIRS = 64_000
"""Pairs of the corpus that pruning sees at most."""
CALIBRATION_PAIRS = 256
OPENVINO_BATCHES = 32


def compile_teacher(config: CompileConfig) -> dict[str, Any]:
    """Run the job, or say that it was done; returns what compile.json holds.

    Raises:
        InputError: the teacher, the rows or the labels are not what they should be, or the output is something else's.
        EngineError: the architecture does not export, or no int8 form agrees.
    """
    labels = config.label_set()
    teacher = load_teacher(config.teacher, max_length=config.max_length, nli_classes=config.nli_classes)
    identity = _identity(config, teacher, labels)
    output = Path(config.output)
    before = finished(output, identity)
    if before is not None:
        say(f"compile: {output} is done already")
        return before
    rows = read_compile_rows(config)
    threads = available_cpus()
    torch.set_num_threads(threads)
    try:
        with new_directory(output.resolve()) as scratch:
            figures = _fill(config, teacher, labels, rows, scratch, identity, threads)
    except OSError as error:
        raise OutputError(f"{output}: cannot be made: {first_line(error)}: choose another --output") from None
    print(forms_table(figures))
    print(f"\ncard: {output / CARD}")
    return figures


def finished(output: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """The figures of the same job, done before; None where nothing is there.

    Raises:
        OutputError: something else is there.
    """
    if output.is_file():
        raise OutputError(f"{output} is a file: --output must be a new directory")
    if not output.is_dir() or not any(output.iterdir()):
        return None
    try:
        figures: dict[str, Any] = json.loads((output / RESULT).read_text(encoding="utf-8"))
        before = figures["job"]
    except (OSError, ValueError, KeyError):
        raise OutputError(f"{output} is not empty and zsd compile did not make it: choose a new --output") from None
    if before == identity:
        return figures
    told = "; ".join(
        f"{key} was {shown(before.get(key))}, now {shown(identity.get(key))}"
        for key in {**identity, **before}
        if before.get(key) != identity.get(key)
    )
    raise OutputError(f"{output} was compiled differently: {told}: choose a new --output")


def _identity(config: CompileConfig, teacher: NLITeacher, labels: LabelSet) -> dict[str, Any]:
    asked = {name: value for name, value in asdict(config).items() if name not in ("output", "labels", "label")}
    made: dict[str, Any] = json.loads(
        json.dumps(asked | {"teacher_fingerprint": teacher.fingerprint, "labels": labels.to_dict()})
    )
    return made | {"teacher": absolute_checkpoint(config.teacher)}


def _fill(
    config: CompileConfig,
    original: NLITeacher,
    labels: LabelSet,
    rows: Rows,
    directory: Path,
    identity: dict[str, Any],
    threads: int,
) -> dict[str, Any]:
    """Everything that the directory holds; returns compile.json."""
    if config.sparsity:
        _write_pruned(config, original, labels, rows, directory, threads)
    else:
        _write_checkpoint(original, directory)
    teacher = load_teacher(str(directory), max_length=config.max_length, nli_classes=config.nli_classes)
    say("compile: exporting to ONNX")
    (directory / "onnx").mkdir()
    export_onnx(teacher, directory / FP32_ONNX)
    int8, not_made = _write_int8(config, teacher, labels, rows, directory, threads) if config.int8 else ({}, {})
    teacher = load_teacher(str(directory), max_length=config.max_length, nli_classes=config.nli_classes)
    forms, reference_NK = measure_forms(
        teacher, labels, rows.heldout, engines=config.engine, int8=config.int8, threads=threads
    )
    held: dict[str, Any] = {"rows": len(rows.heldout)}
    if config.sparsity:
        dense = compare(reference_NK, torch_probs(original, labels, rows.heldout, threads=threads), labels)
        held |= {f"{name}_with_dense": value for name, value in dense.items()}
    machine = describe_machine()
    figures = {
        "job": identity,
        "teacher": config.teacher,
        "output": config.output,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": f"zsd compile --teacher {config.teacher} --sparsity {config.sparsity:g}"
        f" {'--int8' if config.int8 else '--no-int8'}",
        "precision": "int8" if int8 else "fp32",
        "corpus": {
            "data": list(rows.data),
            "calibration_rows": len(rows.ranges),
            "selection_rows": len(rows.selection),
            **labels.to_dict(),
            "labels": list(labels.names),
        },
        "heldout": held,
        "forms": forms,
        "sparsity": sparsity_by_layer(teacher),
        "int8": int8,
        "not_made": not_made,
        "files": {str(file.relative_to(directory)): file.stat().st_size for file in sorted(directory.rglob("*.*"))},
        "machine": machine,
        "versions": {"zsd": zsd.__version__, **{name: v for name, v in machine["versions"].items() if v}},
    }
    (directory / RESULT).write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (directory / CARD).write_text(card_text(figures), encoding="utf-8")
    return figures


def _write_pruned(
    config: CompileConfig, teacher: NLITeacher, labels: LabelSet, rows: Rows, directory: Path, threads: int
) -> None:
    premises = [*rows.ranges, *rows.rest]
    pairs = cross_pairs(premises, labels.hypotheses, most=MOST_PAIRS, seed=0)
    parts = [teacher.fingerprint, config.method, str(config.sparsity), *(text for pair in pairs for text in pair)]
    key = hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()
    work = cache_directory() / "sparsify" / key
    say(f"compile: pruning to {config.sparsity:.0%} by {config.method} on {len(pairs):,} pairs")
    sparsify(teacher, pairs, work, sparsity=config.sparsity, method=config.method, threads=threads)
    _copy(work, directory)


def _write_checkpoint(teacher: NLITeacher, directory: Path) -> None:
    """The checkpoint's own files; weights that lie in other formats or in pieces are saved as one safetensors file."""
    source = Path(teacher.path)
    _copy(source, directory)
    if not (directory / "model.safetensors").is_file():
        for piece in directory.glob("*.safetensors"):
            piece.unlink()
        load_weights(teacher, dtype=torch.float32).save_pretrained(directory)  # type: ignore[operator]


def _copy(source: Path, directory: Path) -> None:
    for file in source.iterdir():
        if file.is_file() and file.suffix in KINDS and file.name not in NOT_OURS:
            shutil.copyfile(file, directory / file.name)


def _write_int8(
    config: CompileConfig, teacher: NLITeacher, labels: LabelSet, rows: Rows, directory: Path, threads: int
) -> tuple[dict[str, Any], dict[str, str]]:
    """The int8 forms that were asked for: what was made, and why what was not.

    Raises:
        EngineError: none could be made, or one that was named.
    """
    source = directory / FP32_ONNX
    fp32 = OnnxSession(onnx.load(str(source)), threads=threads)
    say(f"compile: int8: {len(rows.ranges)} rows set the ranges, {len(rows.selection)} decide what stays in fp32")
    heldout = HeldOut(teacher, labels, rows.selection, fp32.logits)
    pairs = all_pairs(teacher, labels, rows.ranges)
    some = np.unique(np.linspace(0, len(pairs) - 1, CALIBRATION_PAIRS).astype(np.int64))
    wanted = config.engine or ("deepsparse", "onnxruntime", "openvino")
    made: dict[str, Any] = {}
    not_made: dict[str, str] = {}
    common: dict[str, Any] = {"min_agreement": config.min_agreement, "threads": threads}
    try:
        if {"deepsparse", "onnxruntime"} & set(wanted):
            alone = [pairs.batch(np.array([p]), length=int(pairs.lengths[p])) for p in some]
            file = directory / INT8_ONNX
            made[INT8_ONNX] = asdict(quantize_onnx(source, alone, heldout, file, **common))
    except EngineError as error:
        not_made[INT8_ONNX] = str(error)
    try:
        if "openvino" in wanted:
            say("compile: int8 for OpenVINO, by NNCF")
            (directory / "openvino").mkdir()
            together = [inputs for _, inputs in batches(pairs, some)][:OPENVINO_BATCHES]
            file = directory / INT8_OPENVINO
            made[INT8_OPENVINO] = asdict(quantize_openvino(source, together, heldout.agreement, file, **common))
    except (EngineError, RuntimeError, ValueError) as error:  # the last two: of nncf and OpenVINO themselves
        not_made[INT8_OPENVINO] = first_line(error)
    for form, why in not_made.items():
        if not made or config.engine:
            raise EngineError(f"{form}: {why}")
        say(f"compile: no {form}: {why}")
    return made, not_made


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
