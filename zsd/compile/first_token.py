"""fp32 ONNX -> fp32 ONNX with the same logits for less: what is read at the first token only is computed there only.

A sequence classifier reads one position of its last layer. So the queries, attention, output and feed-forward block of
that layer are needed at that position alone, its keys and values everywhere: of the 12 products of a token with an H x
H matrix (BERT, I = 4 H) ten need not be done, in the last layer. The demand is followed backward from where the
position is taken out, through every operator that keeps positions apart, and the tensors that others need whole are cut
there. An operator that is not known ends the search, at the price of doing more than is needed.

Of the bundled teacher's FLOP in a pair of 64 tokens that is a seventh, of its student's of three layers more than a
quarter (the formulas are in `zsd.benchmark.flops`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, NodeProto, helper, numpy_helper, shape_inference

ELEMENTWISE = frozenset({"Add", "Sub", "Mul", "Div", "Pow"})
UNARY = frozenset({"Erf", "Sqrt", "Tanh", "Relu", "Sigmoid", "Identity"})
SEQUENCE_AXIS = 1


def narrow_to_first_token(model: ModelProto) -> ModelProto:
    """A copy of a sequence classifier, with ``[:, 0]`` done as early as it can be; its logits stay the same.

    Args:
        model: fp32, opset 14, as torch's tracer writes it.
    """
    graph = _Graph(model)
    needs = _needs(graph)
    narrow = {name for number in needs for name in graph.nodes[number].output}
    cuts = _Cuts()
    nodes: list[NodeProto] = []
    for number, node in enumerate(graph.nodes):
        if number in needs:
            node = _copy(node)
            for position, name in enumerate(node.input):
                if name in needs[number] and name not in narrow:
                    node.input[position] = cuts.cut(name, needs[number][name], nodes)
            if node.op_type == "Reshape":
                node.input[1] = cuts.constant(f"{node.output[0]}_shape", graph.kept_shape(node))
        nodes.append(node)
    narrowed = ModelProto()
    narrowed.CopyFrom(model)
    del narrowed.graph.node[:], narrowed.graph.value_info[:]
    narrowed.graph.node.extend(nodes)
    narrowed.graph.initializer.extend(cuts.constants.values())
    return narrowed


def _needs(graph: _Graph) -> dict[int, dict[str, int]]:
    """By number of a node whose output is needed at one position of one axis: the inputs of which that holds, and axes.

    Users of a tensor come after what makes it, so that one pass from the end meets all users first.
    """
    demands: dict[str, set[int | None]] = {name: {None} for name in graph.outputs}
    needs: dict[int, dict[str, int]] = {}
    for number, node in reversed(list(enumerate(graph.nodes))):
        if graph.takes_first(node):
            need: dict[str, int] | None = {node.input[0]: SEQUENCE_AXIS}
        else:
            asked = set().union(*(demands.get(name, {None}) for name in node.output))
            axis = asked.pop() if len(asked) == 1 else None
            need = None if axis is None else graph.inputs_needed(node, axis)
            if need is not None:
                needs[number] = need
        for name in node.input:
            demands.setdefault(name, set()).add((need or {}).get(name))
    return needs


class _Graph:
    """A model's nodes, its constants, and how many axes its tensors have, as far as that can be told."""

    def __init__(self, model: ModelProto) -> None:
        self.nodes = list(model.graph.node)
        self.outputs = [value.name for value in model.graph.output]
        self.producer = {name: node for node in self.nodes for name in node.output}
        self.constants: dict[str, npt.NDArray[Any]] = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer
        }
        self.constants |= {
            node.output[0]: numpy_helper.to_array(_attribute(node, "value"))
            for node in self.nodes
            if node.op_type == "Constant" and _attribute(node, "value") is not None
        }
        self.ranks = {name: array.ndim for name, array in self.constants.items()}
        inferred = shape_inference.infer_shapes(model, data_prop=True).graph
        for value in (*model.graph.input, *inferred.value_info):
            if value.type.tensor_type.HasField("shape"):
                self.ranks[value.name] = len(value.type.tensor_type.shape.dim)
        for node in self.nodes:
            self._infer_rank(node)

    def _infer_rank(self, node: NodeProto) -> None:
        """What onnx gives up after the first slice of unknown bounds (the positions' embeddings)."""
        found = [self.ranks.get(name) for name in node.input]
        ranks = [rank for rank in found if rank is not None]
        if len(ranks) < max(1, len(found)) or any(name in self.ranks for name in node.output):
            return
        kept = UNARY | {"Slice", "Transpose", "Softmax"}
        if node.op_type in kept or (node.op_type == "ReduceMean" and _attribute(node, "keepdims", 1)):
            self.ranks[node.output[0]] = ranks[0]
        elif node.op_type in ELEMENTWISE | {"MatMul"}:
            self.ranks[node.output[0]] = max(ranks)
        elif node.op_type == "Gather":
            self.ranks[node.output[0]] = ranks[0] - 1 + ranks[1]
        elif node.op_type == "Reshape" and (shape := self._shape_parts(node)):
            self.ranks[node.output[0]] = len(shape)

    def takes_first(self, node: NodeProto) -> bool:
        """Whether a node is ``[:, 0]`` of a [B, L, H] tensor."""
        if node.op_type != "Gather" or _attribute(node, "axis", 0) != SEQUENCE_AXIS:
            return False
        return self._scalar(node.input[1]) == 0 and self.ranks.get(node.input[0]) == 3

    def inputs_needed(self, node: NodeProto, axis: int) -> dict[str, int] | None:
        """The inputs of which, with one position of an axis of the output, one position of an axis is needed.

        All others are needed whole. None: nothing is known of such a node.
        """
        first, rank, ranks = node.input[0] if node.input else "", self.ranks.get(node.output[0]), self.ranks
        if rank is None or any(name not in ranks for name in node.input):
            return None
        if node.op_type in UNARY:
            return {first: axis}
        if node.op_type in ELEMENTWISE:
            return self._broadcast(node, rank - axis)
        if node.op_type == "Softmax":
            return None if _attribute(node, "axis", -1) % rank == axis else {first: axis}
        if node.op_type == "ReduceMean":
            reduced = [one % ranks[first] for one in _attribute(node, "axes", [axis])]
            return None if axis in reduced or ranks[first] != rank else {first: axis}
        if node.op_type == "MatMul":
            once = first != node.input[1]
            return {first: axis} if once and axis == rank - 2 and ranks[first] == rank else None
        if node.op_type == "Transpose":
            return {first: list(_attribute(node, "perm"))[axis]}
        if node.op_type == "Reshape":
            return {first: axis} if axis == SEQUENCE_AXIS and self.kept_shape(node) else None
        return None

    def _broadcast(self, node: NodeProto, from_end: int) -> dict[str, int] | None:
        """Of an operand that is as long as the output there, one position; one constant along it stays whole."""
        need: dict[str, int] = {}
        for name in node.input:
            axis = self.ranks[name] - from_end
            if axis < 0:
                continue
            if name not in self.constants:
                need[name] = axis
            elif self.constants[name].shape[axis] != 1:
                return None
        return need

    def kept_shape(self, node: NodeProto) -> list[int] | None:
        """The shape to which a ``[B, L, ...] -> [B, L, ...]`` reshape brings one position; None: it is no such one."""
        batch, length, *rest = (*self._shape_parts(node), "", "")
        known = [self._scalar(name) for name in rest if name]
        if self._dimension(batch) != 0 or not known or None in known:
            return None
        if self._dimension(length) != SEQUENCE_AXIS and self._scalar(length) != -1:
            return None
        return [0, 1, *(size for size in known if size is not None)]

    def _shape_parts(self, node: NodeProto) -> list[str]:
        """The names of the numbers that a reshape's shape is put together from."""
        shape = self.producer.get(node.input[1])
        return list(shape.input) if shape is not None and shape.op_type == "Concat" else []

    def _dimension(self, name: str) -> int | None:
        """Which dimension of some tensor a number of a shape is: ``Unsqueeze(Gather(Shape(x), i))``."""
        for operator in ("Unsqueeze", "Gather", "Shape"):
            node = self.producer.get(name)
            if node is None or node.op_type != operator:
                return None
            if operator == "Gather":
                index = self._scalar(node.input[1])
            name = node.input[0]
        return index

    def _scalar(self, name: str) -> int | None:
        array = self.constants.get(name)
        return int(array.reshape(())) if array is not None and array.size == 1 else None


class _Cuts:
    """The first positions that were taken out of whole tensors, each once, and new constants."""

    def __init__(self) -> None:
        self.constants: dict[str, onnx.TensorProto] = {}
        self._made: dict[tuple[str, int], str] = {}

    def cut(self, name: str, axis: int, nodes: list[NodeProto]) -> str:
        """The name of the first position of a tensor along an axis; what makes it is put behind the nodes."""
        if (name, axis) not in self._made:
            made = f"{name}_first_of_{axis}"
            first = self.constant("first_position", [0])
            nodes.append(helper.make_node("Gather", [name, first], [made], name=made, axis=axis))
            self._made[name, axis] = made
        return self._made[name, axis]

    def constant(self, name: str, numbers: Iterable[int] | None) -> str:
        """The name of a new constant of whole numbers."""
        assert numbers is not None
        self.constants[name] = numpy_helper.from_array(np.asarray(list(numbers), dtype=np.int64), name)
        return name


def _copy(node: NodeProto) -> NodeProto:
    copied = NodeProto()
    copied.CopyFrom(node)
    return copied


def _attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    found: Mapping[str, Any] = {one.name: one for one in node.attribute}
    return helper.get_attribute_value(found[name]) if name in found else default
