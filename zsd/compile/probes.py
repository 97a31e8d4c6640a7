"""Sequences with known logits: what torch in fp32 says of a few texts of many lengths, to hold another engine to.

An engine compiles shapes, and a compiled shape may be wrong while its neighbours are right (OpenVINO 2026.4 with
dynamic shapes: one batch of fifty), so each is run once with these pairs in it and every row compared.

Legend: P probes, B rows of a shape, L tokens, C NLI classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import transformers

from zsd.batching import FloatArray, IntArray
from zsd.cache import cached_file
from zsd.checkpoint import Checkpoint
from zsd.errors import EngineError
from zsd.teachers.weights import input_names, load_weights

TEXT = "A goal in stoppage time! Shares fell after the central bank raised its rate. naïve café – 42% 日本. "
FILE = "probes.npz"
VERSION = 1
"""Raised when a change here makes probes stored before unfit."""

TOLERANCE = {"fp32": 1e-3, "bf16": 0.1, "int8": 0.5}
"""Largest difference to torch fp32 by precision, in parts of the probes' spread of logits. It tells a wrong program
from rounding; how well a precision agrees is measured on real rows (`--engine auto`, the card of `zsd compile`)."""

Run = Callable[[Mapping[str, IntArray]], FloatArray]
"""Named [B, L] inputs in, [B, C] logits out."""


@dataclass(frozen=True, kw_only=True)
class Probes:
    """P sequences (pairs of a teacher, texts of a student), shortest first.

    Attributes:
        lengths: [P] tokens of each.
        inputs: named [P, L] model inputs, padded to the longest.
        logits: [P, C] torch's own, in fp32.
    """

    lengths: IntArray
    inputs: dict[str, IntArray]
    logits: FloatArray

    def filling(self, rows: int, length: int) -> tuple[dict[str, IntArray], FloatArray]:
        """A batch of that shape: [B, L] inputs, the longest probes that fit first and then all over, and [B, C] logits.

        No rows where no probe is as short.
        """
        fitting = np.flatnonzero(self.lengths <= length)[::-1]
        chosen = np.resize(fitting, rows) if len(fitting) else fitting
        return {name: _to_length(array[chosen], length) for name, array in self.inputs.items()}, self.logits[chosen]

    def check(self, engine: str, precision: str, run: Run, *, rows: int, length: int) -> None:
        """Run a batch of that shape and compare every row with torch.

        Raises:
            EngineError: a row is off.
        """
        inputs, expected_BC = self.filling(rows, length)
        if not len(expected_BC):
            return
        off_B = np.abs(run(inputs) - expected_BC).max(axis=1)
        # Not <=: a number that is no number is off, too.
        if not off_B.max() < TOLERANCE[precision] * float(np.ptp(self.logits)):
            raise EngineError(
                f"the {engine} engine in {precision} gives logits that are off by {off_B.max():.2g} for a batch of "
                f"{rows} x {length} tokens: use --engine torch"
            )


def stored_probes(checkpoint: Checkpoint) -> Probes:
    """A checkpoint's probes, made with torch on first use and kept in the cache.

    Raises:
        EngineError: its tokenizer pads on the left.
        InputError: the checkpoint's weights cannot be loaded.
    """
    content = (checkpoint.fingerprint, checkpoint.max_length, torch.__version__, transformers.__version__, VERSION)
    with np.load(
        cached_file("probes", FILE, *content, make=lambda file: _save(make_probes(checkpoint), file))
    ) as stored:
        inputs = {name: stored[name] for name in stored.files if name not in ("lengths", "logits")}
        return Probes(lengths=stored["lengths"], inputs=inputs, logits=stored["logits"])


def make_probes(checkpoint: Checkpoint) -> Probes:
    """Sequences of the lengths 8, 12, 16, 24, 32, 48, ... up to the checkpoint's limit, and torch's logits of them."""
    model = load_weights(checkpoint, dtype=torch.float32)
    if checkpoint.tokenizer.padding_side == "left":
        raise EngineError(f"{checkpoint} pads on the left, which only torch is held to: use --engine torch")
    names = input_names(model, tuple(checkpoint.tokenizer.model_input_names))
    text = TEXT * (checkpoint.max_length // 8)
    shortest = int(checkpoint.sequences(["A"], max_length=checkpoint.max_length).lengths[0])
    ladder = {step << power for power in range(2, 16) for step in (2, 3)} | {shortest, checkpoint.max_length}
    arrays: dict[str, list[IntArray]] = {name: [] for name in names}
    lengths, logits = [], []
    for limit in sorted(length for length in ladder if shortest <= length <= checkpoint.max_length):
        sequences = checkpoint.sequences([text], max_length=limit)
        inputs = sequences.batch(np.arange(1), length=int(sequences.lengths[0]))
        with torch.inference_mode():
            logits.append(model(**{name: torch.from_numpy(inputs[name]) for name in names}).logits[0].numpy())
        # Padded by the same rule as any batch.
        padded = sequences.batch(np.arange(1), length=checkpoint.max_length)
        for name in names:
            arrays[name].append(padded[name][0])
        lengths.append(int(sequences.lengths[0]))
    inputs_PL = {name: np.stack(rows) for name, rows in arrays.items()}
    return Probes(lengths=np.array(lengths, dtype=np.int64), inputs=inputs_PL, logits=np.stack(logits))


def _save(probes: Probes, file: Path) -> None:
    np.savez(file, lengths=probes.lengths, logits=probes.logits, **probes.inputs)


def _to_length(array_BL: IntArray, length: int) -> IntArray:
    return np.ascontiguousarray(array_BL[:, :length])
