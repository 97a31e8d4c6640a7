"""fp32 ONNX -> integer ONNX, in the form that DeepSparse has fused kernels for and ONNX Runtime runs too.

A matrix product ``x @ W`` becomes ``QuantizeLinear(x) -> MatMulInteger -> Cast -> Mul(scales)``: x in unsigned bytes
with one static range a tensor (`zsd.compile.ranges`), a constant W in signed bytes with one scale an output column, and
whatever followed (bias, residual, layer norm, GELU) stays as it was. Both sides of the two products of attention are
activations in unsigned bytes. A tensor that several products read (the input of query, key and value) is quantized
once. Zero points go into MatMulInteger, which subtracts them in whole numbers: nothing is lost to asymmetry.

Three things about the engines, all measured: DeepSparse aborts the process on a MatMulInteger without both zero points;
a graph in quantize/dequantize (QDQ) form runs slower than fp32 in it; three products of query, key and value run
faster than one merged product.

Legend: I inputs and O outputs of a weight [I, O].
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

Range = tuple[float, float]
"""Lowest and highest value that the bytes of a tensor stand for; 0 is always one of them."""
FloatArray = npt.NDArray[np.float32]
LEVELS = 255
MOST_WEIGHT = 127


@dataclass(frozen=True, kw_only=True)
class Product:
    """A matrix product that can become integer.

    Attributes:
        name: of its node, as the exporter calls it.
        left: name of the activation on the left.
        right: name of the weight or activation on the right.
        constant: whether the right side is a weight.
    """

    name: str
    left: str
    right: str
    constant: bool

    @property
    def activations(self) -> tuple[str, ...]:
        """The tensors whose range must be known."""
        return (self.left,) if self.constant else (self.left, self.right)


def matrix_products(model: ModelProto) -> list[Product]:
    """Every product of a graph that can become integer, in the graph's order.

    Products of a sequence with a weight and of two activations. The output layers after the first token is taken out
    are ``Gemm`` in an export: they cost nothing and decide everything, so they stay in fp32.
    """
    known = _constants(model)
    return [
        Product(name=node.name, left=node.input[0], right=node.input[1], constant=node.input[1] in known)
        for node in model.graph.node
        if node.op_type == "MatMul"
        and node.input[0] not in known
        and (node.input[1] not in known or len(known[node.input[1]].dims) == 2)
    ]


def quantize(model: ModelProto, ranges: Mapping[str, Range], chosen: Collection[str]) -> ModelProto:
    """A copy of a model in which the chosen products are integer; all else is untouched.

    Args:
        model: fp32, as `zsd.compile.export` writes it.
        ranges: of every activation of the chosen products.
        chosen: names of products (`matrix_products`).
    """
    products = {product.name: product for product in matrix_products(model) if product.name in chosen}
    assert len(products) == len(set(chosen)), "a chosen product is not in this graph"
    rewrite = _Rewrite(model, ranges)
    for node in model.graph.node:
        product = products.get(node.name)
        if product is None:
            rewrite.keep(node)
        else:
            rewrite.replace(node, product)
    return rewrite.model()


class _Rewrite:
    """A graph in the making: nodes in order, new constants, and which tensors are quantized already."""

    def __init__(self, model: ModelProto, ranges: Mapping[str, Range]) -> None:
        self.source = model
        self.ranges = ranges
        self.known = _constants(model)
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self.quantized: dict[str, tuple[str, np.float32, str]] = {}
        self.dropped: dict[str, str] = {}
        self.consumers: dict[str, list[NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self.consumers.setdefault(name, []).append(node)

    def keep(self, node: NodeProto) -> None:
        """Take a node as it is, unless it was folded into a product's scale."""
        if node.name not in self.dropped:
            self.nodes.append(node)

    def replace(self, node: NodeProto, product: Product) -> None:
        """Write the integer form of a product under the name of its own result."""
        left, left_scale, left_zero = self._bytes(product.left)
        if product.constant:
            weight, scale = quantize_weight(numpy_helper.to_array(self.known[product.right]).astype(np.float32))
            right = self._constant(f"{product.name}_weight", weight)
            right_zero = self._constant(f"{product.name}_weight_zero", np.int8(0))
            result, factor = node.output[0], scale * left_scale
        else:
            right, right_scale, right_zero = self._bytes(product.right)
            result, scalar = self._with_scale_after(node, np.float32(left_scale * right_scale))
            factor = np.asarray(scalar, dtype=np.float32)
        whole = f"{product.name}_integer"
        self._add("MatMulInteger", [left, right, left_zero, right_zero], whole)
        self._add("Cast", [whole], f"{whole}_float", to=TensorProto.FLOAT)
        self._add("Mul", [f"{whole}_float", self._constant(f"{product.name}_scale", factor)], result)

    def _with_scale_after(self, node: NodeProto, factor: np.float32) -> tuple[str, np.float32]:
        """Fold a scalar that the result is multiplied or divided by (1 / sqrt(d) of attention) into the factor."""
        users = self.consumers.get(node.output[0], [])
        if len(users) != 1 or users[0].op_type not in ("Mul", "Div"):
            return node.output[0], factor
        user = users[0]
        other = [name for name in user.input if name != node.output[0]]
        if len(other) != 1 or other[0] not in self.known or numpy_helper.to_array(self.known[other[0]]).size != 1:
            return node.output[0], factor
        scalar = np.float32(numpy_helper.to_array(self.known[other[0]]).reshape(()))
        if user.op_type == "Div" and user.input[0] != node.output[0]:
            return node.output[0], factor
        self.dropped[user.name] = user.output[0]
        return user.output[0], np.float32(factor * scalar if user.op_type == "Mul" else factor / scalar)

    def _bytes(self, tensor: str) -> tuple[str, np.float32, str]:
        """Name of a tensor's bytes, their scale, and the name of their zero point."""
        if tensor not in self.quantized:
            scale, zero = byte_scale(self.ranges[tensor])
            names = [f"{tensor}_{part}" for part in ("bytes", "scale", "zero")]
            self._constant(names[1], scale)
            self._constant(names[2], zero)
            self._add("QuantizeLinear", [tensor, names[1], names[2]], names[0])
            self.quantized[tensor] = (names[0], scale, names[2])
        return self.quantized[tensor]

    def _constant(self, name: str, value: npt.NDArray[np.generic] | np.generic) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _add(self, operator: str, inputs: list[str], output: str, **attributes: int) -> None:
        self.nodes.append(helper.make_node(operator, inputs, [output], name=f"{output}_{operator}", **attributes))

    def model(self) -> ModelProto:
        """The finished model, without the constants that nothing reads any more."""
        read = {name for node in self.nodes for name in node.input}
        read |= {value.name for value in self.source.graph.output}
        nodes = [node for node in self.nodes if node.op_type != "Constant" or node.output[0] in read]
        weights = [tensor for tensor in self.source.graph.initializer if tensor.name in read]
        graph = helper.make_graph(
            nodes,
            self.source.graph.name,
            self.source.graph.input,
            self.source.graph.output,
            [*weights, *self.constants],
        )
        return helper.make_model(graph, ir_version=self.source.ir_version, opset_imports=self.source.opset_import)


def quantize_weight(weight_IO: FloatArray) -> tuple[npt.NDArray[np.int8], FloatArray]:
    """Signed bytes [I, O] and the scale [O] of each output column: symmetric, so a zero stays a zero."""
    scale_O = np.maximum(np.abs(weight_IO).max(axis=0) / MOST_WEIGHT, np.finfo(np.float32).tiny).astype(np.float32)
    rounded = np.rint(weight_IO / scale_O)
    return np.clip(rounded, -MOST_WEIGHT, MOST_WEIGHT).astype(np.int8), scale_O


def byte_scale(span: Range) -> tuple[np.float32, np.uint8]:
    """Scale and zero point of unsigned bytes for a range; the range is widened to hold 0, which must be exact."""
    low, high = min(span[0], 0.0), max(span[1], 0.0)
    scale = np.float32(max((high - low) / LEVELS, float(np.finfo(np.float32).tiny)))
    return scale, np.uint8(np.clip(np.rint(-low / scale), 0, LEVELS))


def _constants(model: ModelProto) -> dict[str, TensorProto]:
    """All initializers and Constant nodes by name."""
    known = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            known[node.output[0]] = node.attribute[0].t
    return known
