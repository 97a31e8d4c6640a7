"""How much arithmetic a text costs, counted on the model itself and not on what an engine makes of it.

One multiplication and one addition are two FLOP. A product of an m x k with a k x n matrix is 2mnk FLOP; counted are
the products of all linear layers, of both attention steps and of convolutions, for one sequence of L real tokens. They
are a polynomial a L^2 + b L + c: of a BERT of H hidden units, I intermediate units, D layers and C classes

    4 D H L^2  +  (8 H^2 + 4 H I) D L  +  2 H^2 + 2 H C

and, where the last layer is done for the first token only (`zsd.compile.first_token`),

    4 (D - 1) H L^2  +  ((8 H^2 + 4 H I) (D - 1) + 4 H^2 + 4 H) L  +  6 H^2 + 4 H I + 2 H C

What is not counted is not useful work: padding, and the last layer of tokens that nobody reads. So an engine that does
that work (torch) is credited with as much as one that does not. What an engine may leave out besides is counted all
the same: a pruned weight is multiplied in the dense form of the model. So FLOP/s here are dense-equivalent, and those
of a sparse engine may exceed the peak of the processor.

Legend: N rows, K labels, L tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from onnx import ModelProto, NodeProto
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from zsd.compile.onnx_session import OnnxSession
from zsd.errors import EngineError

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
STEP = 8
"""The polynomial is fitted at this many tokens, twice as many and three times as many."""
FACTOR = {"MatMul": 0, "Gemm": 0, "Conv": 1}
"""Operators that are counted, and the input whose shape says how many products are summed: of a convolution, its weight
[outputs, inputs of a group, kernel], which is the same number for every output."""
UNCOUNTED = frozenset({"Einsum", "ConvTranspose", "RNN", "GRU", "LSTM"})
"""Operators that multiply, too: of a model with one of these, torch counts."""


@dataclass(frozen=True, kw_only=True)
class SequenceCost:
    """FLOP of one forward pass over one sequence of L tokens: ``square * L**2 + linear * L + constant``."""

    square: float
    linear: float
    constant: float

    def of(self, lengths: IntArray) -> FloatArray:
        """FLOP of sequences of these lengths, in the shape of the array."""
        tokens = lengths.astype(np.float64)
        return self.square * tokens**2 + self.linear * tokens + self.constant


def sequence_cost(model: Any) -> SequenceCost:
    """Count all that torch does of a sequence classifier, with its own counter (`torch.utils.flop_counter`).

    What a batch computes once however many sequences it holds (DeBERTa's relative positions) is not counted.

    Args:
        model: on the CPU, in evaluation mode, taking ``input_ids`` [B, L] for L up to 24 at least.
    """
    return _fitted(lambda sequences, length: _count(model, sequences, length))


def graph_cost(model: ModelProto) -> SequenceCost:
    """Count what an exported sequence classifier does, by the shapes of its products and convolutions.

    Args:
        model: fp32, as `zsd.compile.export` writes it, taking L up to 24 at least.

    Raises:
        EngineError: it has products that are not counted here, or ONNX Runtime is not installed here or cannot run it.
    """
    unknown = sorted({node.op_type for node in model.graph.node} & UNCOUNTED)
    if unknown:
        raise EngineError(f"the arithmetic of {', '.join(unknown)} is not known from the shapes alone")
    products = [node for node in model.graph.node if node.op_type in FACTOR]
    constants = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    needed = dict.fromkeys(name for node in products for name in (node.input[FACTOR[node.op_type]], node.output[0]))
    tensors = [name for name in needed if name not in constants]
    session = OnnxSession(model, threads=1, tensors=tensors)

    def count(sequences: int, length: int) -> int:
        inputs = {value.name: np.ones((sequences, length), dtype=np.int64) for value in model.graph.input}
        inputs |= {name: np.zeros_like(ids_BL) for name, ids_BL in inputs.items() if name == "token_type_ids"}
        found = zip(tensors, session.run(inputs, tensors), strict=True)
        shapes = constants | {name: array.shape for name, array in found}
        return sum(2 * math.prod(shapes[node.output[0]]) * _summed(node, shapes) for node in products)

    return _fitted(count)


def _summed(node: NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """How many products each number of a node's output is the sum of."""
    shape = shapes[node.input[FACTOR[node.op_type]]]
    return math.prod(shape[1:]) if node.op_type == "Conv" else shape[-1]


def _fitted(count: Callable[[int, int], int]) -> SequenceCost:
    """The polynomial through what one more sequence costs, at three lengths.

    Args:
        count: FLOP of so many sequences of so many tokens.
    """
    once, twice, thrice = (count(2, n * STEP) - count(1, n * STEP) for n in (1, 2, 3))
    square = (thrice - 2 * twice + once) / (2 * STEP**2)
    linear = (twice - once) / STEP - 3 * square * STEP
    return SequenceCost(square=square, linear=linear, constant=once - square * STEP**2 - linear * STEP)


def _count(model: Any, sequences: int, length: int) -> int:
    ids_BL = torch.ones((sequences, length), dtype=torch.int64)
    # The fused attention kernels of a CPU are not in the counter's table: the plain products are.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(input_ids=ids_BL)
    return int(counter.get_total_flops())


def row_flops(cost: SequenceCost, lengths_NK: IntArray) -> float:
    """Mean FLOP of a row: the sum over its K sequences."""
    return float(cost.of(lengths_NK).sum(axis=1).mean())
