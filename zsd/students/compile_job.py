"""`zsd compile --student`: an encoder student with ONNX and int8 forms beside its own files, as `--model` takes it.

::

    DIR/config.json model.safetensors tokenizer... zsd.json   the student's own files
    DIR/onnx/fp32.onnx  onnx/int8.onnx  openvino/int8.xml
    DIR/compile.json                                          what was done, and what each form is worth

Legend: N rows, K labels.
"""

from __future__ import annotations

import datetime
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import zsd
from zsd.compile.checkpoint import KINDS, RESULT
from zsd.compile.compiled import FP32_ONNX
from zsd.compile.directory import compile_into
from zsd.compile.export import export_onnx
from zsd.compile.forms import Pass, measure_forms, say_too_low, second_run
from zsd.compile.heldout import HeldOut
from zsd.compile.int8_forms import write_int8
from zsd.compile.rows import Rows
from zsd.compile_config import CompileConfig
from zsd.console import say
from zsd.engines.registry import DRAFT
from zsd.errors import ConfigError
from zsd.labels import LabelSet
from zsd.machine import describe_machine
from zsd.students import load_student
from zsd.students.base import FloatArray
from zsd.students.checkpoint import class_names, read_checkpoint
from zsd.students.folder import student_directory, student_kind


def compile_student(config: CompileConfig) -> dict[str, Any]:
    """Run the job, or say that it was done; returns what compile.json holds.

    Raises:
        InputError: the student or the rows are not what they should be, or the output is something else's.
        EngineError: the architecture does not export, or no int8 form agrees.
    """
    source = student_directory(str(config.student))
    kind = student_kind(source)
    if kind != "encoder":
        raise ConfigError(f"--student {config.student}: a {kind} student has no forms to compile: use it as it is")
    asked = {name: value for name, value in asdict(config).items() if name not in ("output", "student", "teacher")}
    fingerprint = read_checkpoint(source).fingerprint
    identity: dict[str, Any] = json.loads(json.dumps(asked | {"student_fingerprint": fingerprint}))

    def fill(directory: Path, rows: Rows, threads: int) -> dict[str, Any]:
        return _fill(config, source, rows, directory, identity, threads)

    return compile_into(config, identity, fill)


def _fill(
    config: CompileConfig, source: Path, rows: Rows, directory: Path, identity: dict[str, Any], threads: int
) -> dict[str, Any]:
    """Everything that the directory holds; returns compile.json."""
    for file in source.iterdir():
        if file.is_file() and file.suffix in KINDS and file.name != RESULT:
            shutil.copyfile(file, directory / file.name)
    student = read_checkpoint(directory)
    say("compile: exporting to ONNX")
    (directory / "onnx").mkdir()
    export_onnx(student, directory / FP32_ONNX)
    names, multi_label = class_names(student.config)
    say(f"compile: int8: {len(rows.ranges)} rows set the ranges, {len(rows.selection)} decide what stays in fp32")
    int8, not_made = write_int8(
        directory,
        student.sequences(rows.ranges, max_length=student.max_length),
        lambda reference: HeldOut.of_student(student, rows.selection, reference, multi_label=multi_label),
        engines=config.engine,
        min_agreement=config.min_agreement,
        threads=threads,
    )
    labels = LabelSet(names=tuple(names), multi_label=multi_label)
    one_pass = student_pass(directory, rows.heldout, threads=threads)
    forms, _ = measure_forms(
        one_pass, labels, len(rows.heldout), student.config, engines=config.engine, without=[DRAFT]
    )
    say_too_low(forms, config.min_agreement, len(rows.heldout))
    figures = {
        "job": identity,
        "student": config.student,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "heldout": {"rows": len(rows.heldout)},
        "forms": forms,
        "int8": int8,
        "not_made": not_made,
        "machine": describe_machine(),
        "zsd_version": zsd.__version__,
    }
    content = json.dumps(figures, indent=2, ensure_ascii=False) + "\n"
    (directory / RESULT).write_text(content, encoding="utf-8")
    written: dict[str, Any] = json.loads(content)
    return written


def student_pass(directory: Path, texts: Sequence[str], *, threads: int) -> Pass:
    """The pass of a student over N texts, with so many threads."""

    def one_pass(engine: str, precision: str) -> tuple[FloatArray, float]:
        student = load_student(directory, engine=engine, precision=precision, threads=threads)
        try:
            probs_NK, seconds = second_run(lambda: student.predict(texts))
        finally:
            student.close()
        return probs_NK, len(texts) / seconds

    return one_pass
