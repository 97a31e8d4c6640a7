"""What the libraries make of the processor at most: the rate of one large matrix product of torch, measured beside the
contestants. It is no ceiling: products of another make may do more (`zsd.engines.native`).

Legend: S rows and columns of a square matrix.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from zsd.benchmark.flops import SequenceCost, graph_cost, sequence_cost
from zsd.benchmark.remote import Answer, Remote
from zsd.checkpoint import Checkpoint
from zsd.compile.export import read_onnx
from zsd.engines.model_file import narrow_file
from zsd.errors import EngineError
from zsd.students.checkpoint import read_checkpoint
from zsd.students.folder import student_kind
from zsd.students.workload import student_workload
from zsd.teachers.nli import load_teacher
from zsd.teachers.weights import load_weights

SIZE = 2048
"""S: large enough that a product is bound by arithmetic and not by memory."""

SECONDS = 1.0
"""Time for the products of one precision."""

Ask = tuple[str, str, str | None] | None
"""``("teacher" or "student", checkpoint, nli_classes)`` for a `SequenceCost`; None for the rates."""


class Peak(Remote):
    """The process in which products are timed, on as many threads as a contestant has, and models are counted.

    Args:
        threads: processor threads.
    """

    def __init__(self, threads: int) -> None:
        super().__init__("matrix products", make_peak, threads)

    def rates(self) -> dict[str, float]:
        """FLOP/s (of int8: integer operations/s) of a product of two S x S matrices, by precision."""
        rates: dict[str, float] = self.ask(None)
        return rates

    def teacher_cost(self, checkpoint: str, nli_classes: str | None) -> SequenceCost:
        """FLOP of one pair, as a function of its length."""
        cost: SequenceCost = self.ask(("teacher", checkpoint, nli_classes))
        return cost

    def student_cost(self, directory: str) -> SequenceCost:
        """FLOP of one text, as a function of its length."""
        cost: SequenceCost = self.ask(("student", directory, None))
        return cost


def make_peak(threads: int) -> tuple[None, Answer]:
    """What answers an `Ask`."""

    def answer(ask: Ask) -> Any:
        if ask is None:
            torch.set_num_threads(threads)  # each time: a static student that was counted has set its own
            return product_rates(SIZE, SECONDS)
        kind, checkpoint, nli_classes = ask
        if kind == "student":
            return student_cost(checkpoint)
        return encoder_cost(load_teacher(checkpoint, nli_classes=nli_classes))

    return None, answer


def encoder_cost(checkpoint: Checkpoint) -> SequenceCost:
    """FLOP of one sequence of an encoder: of its export, or where that cannot be counted, of all that torch does."""
    try:
        return graph_cost(read_onnx(narrow_file(checkpoint)))
    except EngineError:
        return sequence_cost(load_weights(checkpoint, dtype=torch.float32))


def student_cost(directory: str) -> SequenceCost:
    """FLOP of one text of a student, as a function of its tokens or terms."""
    if student_kind(directory) == "encoder":
        return encoder_cost(read_checkpoint(directory))
    each, once = student_workload(directory).arithmetic
    return SequenceCost(square=0.0, linear=each, constant=once)


def product_rates(size: int, seconds: float) -> dict[str, float]:
    """Operations per second of the fastest of several products of two S x S matrices, by precision.

    Args:
        size: S.
        seconds: for the products of one precision; at least one is made.

    Returns:
        ``fp32`` (the better of torch's own library, MKL, and oneDNN: on AMD processors the former is half as fast) and
        ``bf16`` in FLOP/s, ``int8`` in integer operations/s (``torch._int_mm``: 8-bit numbers summed in 32 bits, by
        oneDNN's integer kernels).
    """
    floats_SS = torch.randn((size, size), generator=torch.Generator().manual_seed(0))
    bytes_SS = torch.clamp(floats_SS * 40, -127, 127).to(torch.int8)
    halves_SS = floats_SS.bfloat16()
    products: dict[str, list[Callable[[], torch.Tensor]]] = {
        "fp32": [lambda: floats_SS @ floats_SS],
        "bf16": [lambda: halves_SS @ halves_SS],
        "int8": [lambda: torch._int_mm(bytes_SS, bytes_SS)],
    }
    with torch.inference_mode():
        if torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
            opaque_SS = floats_SS.to_mkldnn()
            products["fp32"].append(lambda: torch.nn.functional.linear(opaque_SS, opaque_SS))
        return {
            name: 2.0 * size**3 / min(_fastest(product, seconds) for product in ways) for name, ways in products.items()
        }


def _fastest(product: Callable[[], torch.Tensor], seconds: float) -> float:
    """Seconds of the fastest of the products that fit into the time, at least one after one that is not counted."""
    product()
    took: list[float] = []
    while not took or sum(took) < seconds:
        started = time.perf_counter()
        product()
        took.append(time.perf_counter() - started)
    return min(took)
