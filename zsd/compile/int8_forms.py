"""The int8 forms of a compiled directory: one for DeepSparse and ONNX Runtime, one for OpenVINO."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from zsd.checkpoint import Sequences
from zsd.compile.compiled import FP32_ONNX, INT8_ONNX, INT8_OPENVINO, RECHECK_OPENVINO, Widths, write_recheck
from zsd.compile.heldout import HeldOut, batches
from zsd.compile.integer import quantize_onnx
from zsd.compile.onnx_session import OnnxSession
from zsd.compile.probes import Run
from zsd.compile.quantize_openvino import quantize_openvino
from zsd.console import say
from zsd.errors import EngineError
from zsd.storage import first_line

CALIBRATION_SEQUENCES = 256
OPENVINO_BATCHES = 32


def write_int8(
    directory: Path,
    calibration: Sequences,
    held_out: Callable[[Run], HeldOut],
    *,
    engines: Sequence[str],
    min_agreement: float,
    threads: int,
) -> tuple[dict[str, Any], dict[str, str]]:
    """Write the int8 forms that were asked for; returns what was made, and why what was not.

    Args:
        directory: holds ``onnx/fp32.onnx``.
        calibration: what the model reads of the rows that set the ranges.
        held_out: the rows that decide what stays in fp32, given the fp32 model.
        engines: for which; for all where empty.
        min_agreement: least top-1 agreement with fp32 on those rows.
        threads: processor threads to use for it.

    Raises:
        EngineError: none could be made, or one that was named.
    """
    source = directory / FP32_ONNX
    heldout = held_out(OnnxSession(onnx.load(str(source)), threads=threads).logits)
    total = len(calibration.lengths)
    some = np.unique(np.linspace(0, total - 1, CALIBRATION_SEQUENCES).astype(np.int64))
    wanted = set(engines or ("deepsparse", "onnxruntime", "openvino"))
    made: dict[str, Any] = {}
    not_made: dict[str, str] = {}
    common: dict[str, Any] = {"min_agreement": min_agreement, "threads": threads}
    try:
        if {"deepsparse", "onnxruntime"} & wanted:
            alone = [calibration.batch(np.array([p]), length=int(calibration.lengths[p])) for p in some]
            made[INT8_ONNX] = asdict(quantize_onnx(source, alone, heldout, directory / INT8_ONNX, **common))
    except EngineError as error:
        not_made[INT8_ONNX] = str(error)
    try:
        if "openvino" in wanted:
            say("compile: int8 for OpenVINO, by NNCF")
            together = [inputs for _, inputs in batches(calibration, some)][:OPENVINO_BATCHES]
            file = directory / INT8_OPENVINO
            form = quantize_openvino(source, together, heldout, file, **common)
            made[INT8_OPENVINO] = asdict(form)
            if form.within:
                write_recheck(directory, RECHECK_OPENVINO, Widths(within=form.within))
    except (EngineError, RuntimeError, ValueError) as error:  # the last two: of nncf and OpenVINO themselves
        not_made[INT8_OPENVINO] = first_line(error)
    for name, why in not_made.items():
        if not made or engines:
            raise EngineError(f"{name}: {why}")
        say(f"compile: no {name}: {why}")
    return made, not_made
