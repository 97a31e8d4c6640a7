"""The int8 form of the bundled sparse teacher, made on each node when it is first asked for, and cached.

Calibrated on the bundled sample corpus, as ``zsd compile --teacher bundled-sparse`` would; the weights are the
package's own, and so are the rows: every node makes the same file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import transformers

from zsd.assets import sample_path
from zsd.cache import cached_file
from zsd.compile.export import exported_onnx, read_onnx
from zsd.compile.heldout import HeldOut, all_pairs
from zsd.compile.integer import quantize_onnx
from zsd.compile.onnx_session import OnnxSession
from zsd.console import say
from zsd.labels import LabelSet, read_label_file
from zsd.machine import available_cpus
from zsd.teachers.nli import NLITeacher

FILE = "int8.onnx"
VERSION = 1
"""Raised when a change in `zsd.compile` makes files made before unfit."""
RANGE_ROWS, SELECTION_ROWS = 64, 128
MIN_AGREEMENT = 0.95
"""Least top-1 agreement with the teacher's own fp32 on the selection rows. Lower than what ``zsd compile`` asks for: at
0.99 so many products go back to fp32 that the file is slower than what it is made for. `--engine auto` has its own
`--min-agreement` and admits the file only where it agrees on the user's rows."""


def bundled_int8(teacher: NLITeacher) -> Path:
    """The int8 ONNX file; not to be written to.

    Raises:
        EngineError: ONNX Runtime is missing, or the int8 form does not agree with fp32.
        TeacherError: the weights cannot be loaded.
    """
    content = (teacher.fingerprint, teacher.max_length, torch.__version__, transformers.__version__, VERSION)
    return cached_file("int8", FILE, *content, make=lambda file: _make(teacher, file))


def _make(teacher: NLITeacher, file: Path) -> None:
    say(f"making the int8 form of {teacher.name}, once on this node")
    lines = sample_path("corpus.txt").read_text(encoding="utf-8").splitlines()
    labels = LabelSet(names=read_label_file(sample_path("labels.txt")))
    threads = available_cpus()
    source = exported_onnx(teacher)
    fp32 = OnnxSession(read_onnx(source), threads=threads)
    heldout = HeldOut.of_teacher(teacher, labels, lines[RANGE_ROWS : RANGE_ROWS + SELECTION_ROWS], fp32.logits)
    pairs = all_pairs(teacher, labels, lines[:RANGE_ROWS])
    alone = [pairs.batch(np.array([p]), length=int(pairs.lengths[p])) for p in range(len(pairs))]
    quantize_onnx(source, alone, heldout, file, min_agreement=MIN_AGREEMENT, threads=threads)
