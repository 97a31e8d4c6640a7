"""`zsd compile`: an NLI checkpoint -> ONNX -> pruned -> int8 and a draft, in a directory for ``--teacher`` with a card.

::

    DIR/config.json model.safetensors tokenizer...   a plain transformers checkpoint, pruned where asked for
    DIR/onnx/fp32.onnx  onnx/int8.onnx  openvino/int8.xml  openvino/recheck.json
    DIR/draft/config.json model.safetensors recheck.json   the draft, where asked for
    DIR/compile.json  README.md                      the card

The directory appears whole or not at all. A pruning or a draft that was interrupted goes on where it stopped (its
state is in the cache); all else is done again, which takes a minute or two with few classes.
"""

from __future__ import annotations

import datetime
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import zsd
from zsd.compile.card import card_text, last_part
from zsd.compile.checkpoint import RESULT, sparsity_by_layer, write_checkpoint, write_pruned
from zsd.compile.compiled import FP32_ONNX
from zsd.compile.directory import CARD, compile_into
from zsd.compile.draft import write_draft
from zsd.compile.draft_training import check_layers
from zsd.compile.export import export_onnx
from zsd.compile.forms import REFERENCE, compare, measure_forms, say_too_low, teacher_pass
from zsd.compile.heldout import HeldOut, all_pairs
from zsd.compile.int8_forms import write_int8
from zsd.compile.rows import Rows
from zsd.compile_config import CompileConfig
from zsd.console import say
from zsd.engines.registry import DRAFT
from zsd.errors import EngineError
from zsd.labels import LabelSet
from zsd.machine import describe_machine
from zsd.options import command_line
from zsd.teachers.nli import NLITeacher, absolute_checkpoint, load_teacher


def compile_teacher(config: CompileConfig) -> dict[str, Any]:
    """Run the job, or say that it was done; returns what compile.json holds.

    Raises:
        InputError: the teacher, the rows or the labels are not what they should be, or the output is something else's.
        EngineError: the architecture does not export, no int8 form agrees, or no draft can be made or agrees.
    """
    labels = config.label_set()
    teacher = load_teacher(config.teacher, max_length=config.max_length, nli_classes=config.nli_classes)
    identity = _identity(config, teacher, labels)
    if config.draft is not None:
        check_layers(teacher, config.draft)

    def fill(directory: Path, rows: Rows, threads: int) -> dict[str, Any]:
        return _fill(config, teacher, labels, rows, directory, identity, threads)

    return compile_into(config, identity, fill)


def _identity(config: CompileConfig, teacher: NLITeacher, labels: LabelSet) -> dict[str, Any]:
    asked = {name: value for name, value in asdict(config).items() if name not in ("output", "labels", "label")}
    made: dict[str, Any] = json.loads(
        json.dumps(asked | {"teacher_fingerprint": teacher.fingerprint, "labels": labels.to_dict()})
    )
    return made | {"teacher": absolute_checkpoint(config.teacher)}


def _without_folders(config: CompileConfig) -> CompileConfig:
    """The card goes where the directory goes, the folders of this machine do not."""
    named: dict[str, Any] = {name: last_part(value) for name, value in asdict(config).items() if isinstance(value, str)}
    return replace(config, data=tuple(map(last_part, config.data)), **named)


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
    pruning = None
    if config.sparsity:
        pruning = write_pruned(config, original, [*rows.ranges, *rows.rest], labels.hypotheses, directory, threads)
    else:
        write_checkpoint(original, directory)
    teacher = load_teacher(str(directory), max_length=config.max_length, nli_classes=config.nli_classes)
    say("compile: exporting to ONNX")
    (directory / "onnx").mkdir()
    export_onnx(teacher, directory / FP32_ONNX)
    draft = None
    if config.draft is not None:
        draft = write_draft(config, teacher, labels, rows, directory, threads)
    int8, not_made = _write_int8(config, teacher, labels, rows, directory, threads) if config.int8 else ({}, {})
    teacher = load_teacher(str(directory), max_length=config.max_length, nli_classes=config.nli_classes)
    forms, reference_NK = measure_forms(
        teacher_pass(teacher, labels, rows.heldout, threads=threads),
        labels,
        len(rows.heldout),
        teacher.config,
        engines=config.engine,
        without=[name for name, made in (("int8", int8), (DRAFT, draft)) if not made],
    )
    say_too_low(forms, config.min_agreement, len(rows.heldout))
    held: dict[str, Any] = {"rows": len(rows.heldout)}
    if config.sparsity:
        dense_NK, _ = teacher_pass(original, labels, rows.heldout, threads=threads)(*REFERENCE)
        dense = compare(reference_NK, dense_NK, labels)
        held |= {f"{name}_with_dense": value for name, value in dense.items()}
    machine = describe_machine()
    figures = {
        "job": identity,
        "teacher": config.teacher,
        "output": config.output,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": command_line("compile", _without_folders(config)),
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
        "pruning": pruning,
        "int8": int8,
        "not_made": not_made,
        "draft": draft,
        "files": {str(file.relative_to(directory)): file.stat().st_size for file in sorted(directory.rglob("*.*"))},
        "machine": machine,
        "versions": {"zsd": zsd.__version__, **{name: v for name, v in machine["versions"].items() if v}},
    }
    (directory / RESULT).write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (directory / CARD).write_text(card_text(figures), encoding="utf-8")
    return figures


def _write_int8(
    config: CompileConfig, teacher: NLITeacher, labels: LabelSet, rows: Rows, directory: Path, threads: int
) -> tuple[dict[str, Any], dict[str, str]]:
    """See `write_int8`; where a draft was made, int8 may fail."""
    say(f"compile: int8: {len(rows.ranges)} rows set the ranges, {len(rows.selection)} decide what stays in fp32")
    try:
        return _int8_forms(config, teacher, labels, rows, directory, threads)
    except EngineError as error:
        if config.draft is None:
            raise
        say(f"compile: no int8: {error}")
        return {}, {"int8": str(error)}


def _int8_forms(
    config: CompileConfig, teacher: NLITeacher, labels: LabelSet, rows: Rows, directory: Path, threads: int
) -> tuple[dict[str, Any], dict[str, str]]:
    return write_int8(
        directory,
        all_pairs(teacher, labels, rows.ranges),
        lambda reference: HeldOut.of_teacher(teacher, labels, rows.selection, reference),
        engines=config.engine,
        min_agreement=config.min_agreement,
        threads=threads,
    )
