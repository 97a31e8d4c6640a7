"""fp32 ONNX -> int8 ONNX that agrees: every matrix product integer, but for those that a measurement puts back.

Measured on the bundled teacher, 64 rows of AG News to calibrate, 150 others, K = 4, ONNX Runtime, top-1 agreement with
fp32: everything int8 99.3%. Ranges are those of least squared error (`zsd.compile.ranges`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
from onnx import ModelProto

from zsd.batching import IntArray
from zsd.compile.heldout import HeldOut
from zsd.compile.onnx_session import OnnxSession
from zsd.compile.quantize import Range, matrix_products, quantize
from zsd.compile.quantized import Quantized, growing_counts
from zsd.compile.ranges import measure_ranges
from zsd.console import say
from zsd.errors import EngineError

RANK_PAIRS = 24
"""Pairs on which the error of each product alone is measured."""
MOST_FLOAT = 0.5
"""Share of the products that may be put back to fp32; with more in fp32 there is nothing to gain."""


def quantize_onnx(
    onnx_file: Path,
    calibration: Sequence[Mapping[str, IntArray]],
    heldout: HeldOut,
    file: Path,
    *,
    min_agreement: float,
    threads: int,
) -> Quantized:
    """Write the int8 form of an fp32 ONNX model.

    Args:
        onnx_file: the fp32 model.
        calibration: named [1, L] inputs of pairs of the corpus, unpadded.
        heldout: other rows, and what fp32 says of them.
        file: where to write.
        min_agreement: least top-1 agreement with fp32; products are put back into fp32 until it is reached.
        threads: processor threads to use for it.

    Raises:
        EngineError: the model has no matrix products, ONNX Runtime cannot run it, or no int8 form agrees.
    """
    source = onnx.load(str(onnx_file))
    products = matrix_products(source)
    if not products:
        raise EngineError(
            f"{onnx_file.name} has no matrix products with constant weights: there is nothing to make int8"
        )
    tensors = list(dict.fromkeys(name for product in products for name in product.activations))
    session = OnnxSession(source, threads=threads, tensors=tensors)
    ranges = measure_ranges(session, tensors, calibration)
    names = [product.name for product in products]
    ranking: list[str] = []
    best = 0.0
    for count in (0, *growing_counts(int(len(names) * MOST_FLOAT))):
        if count and not ranking:
            say(f"compile: int8 of all products agrees in {best:.1%} of the rows: looking for the sensitive ones")
            ranking = rank(source, ranges, names, heldout, threads)
        left_out = ranking[:count]
        model = quantize(source, ranges, [name for name in names if name not in left_out])
        agreement = heldout.agreement(OnnxSession(model, threads=threads).logits)
        best = max(best, agreement)
        if agreement >= min_agreement:
            onnx.checker.check_model(model)
            onnx.save(model, str(file))
            return Quantized(agreement=agreement, integer=len(names) - count, left_out=tuple(left_out))
    raise EngineError(
        f"int8 agrees with fp32 in at most {best:.1%} of the held-out rows, even with half of the matrix products in "
        f"fp32: lower --min-agreement (now {min_agreement:g}), give more --calibration-rows, or leave --int8 away"
    )


def rank(
    source: ModelProto, ranges: Mapping[str, Range], names: Sequence[str], heldout: HeldOut, threads: int
) -> list[str]:
    """Products, the one that alone puts the logits off most first."""
    error = {
        name: heldout.error(OnnxSession(quantize(source, ranges, [name]), threads=threads).logits, RANK_PAIRS)
        for name in names
    }
    return sorted(names, key=lambda name: -error[name])
