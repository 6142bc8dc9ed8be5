"""Finds the blocks of a graph: a constant linear map and what follows it up to its activation.

    Conv | Gemm | MatMul  ->  [Add of a bias] [BatchNormalization] [Identity]  ->  [activation]

Every tensor inside a block has one user. What looks like a block and is not fully understood
becomes a `Refusal` with its reason. Beside that: what depends on some tensors, the block of class
scores, residual sums, and what --include and --exclude can name.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx_graphsurgeon as gs
from onnx import ModelProto, NodeProto, TensorProto

from onnx_relusv.core.arguments import Target
from onnx_relusv.core.blocks import Activation, Block, Geometry, Refusal
from onnx_relusv.core.kinds import LINEAR_OPERATORS, Refused
from onnx_relusv.core.linear_algebra import INFINITE, LARGEST, NOT_A_NUMBER, problem_of
from onnx_relusv.graph.constants import Constants, constant_names
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.nodes import (
    FLOAT_TYPES,
    OTHER_WEIGHTED_OPERATORS,
    Folding,
    Shape,
    View,
    added_bias,
    foldable_batch_normalization,
    is_standard,
    linear_geometry,
    read_activation,
)
from onnx_relusv.graph.protos import (
    bodies,
    first_output,
    item_bytes,
    makers,
    node_label,
    operators,
    used_names,
)
from onnx_relusv.graph.segments import static_names

_LINEAR = Activation(kind="none", slopes=np.ones(1))


def measured_tensors(proto: ModelProto) -> tuple[str, ...]:
    """Tensors whose shapes `find_blocks` needs: in front of and behind every linear map."""
    names: dict[str, None] = {}
    for node in proto.graph.node:
        if node.op_type in (*LINEAR_OPERATORS, "ConvTranspose") and is_standard(node):
            names.update(dict.fromkeys((node.input[0], node.input[1], node.output[0])))
    constant = constant_names(proto)
    return tuple(name for name in names if name and name not in constant)


def find_blocks(
    model: Model, view: View, shapes: Mapping[str, Shape], *, depthwise: bool = False
) -> tuple[list[Block], list[Refusal]]:
    """Finds all blocks in topological order, and says what was refused.

    Args:
        model: The model.
        view: Its graph.
        shapes: The shapes of `measured_tensors` for one sample, as a run shows them.
        depthwise: Whether depthwise Convs are blocks, of which nothing changes but numbers.
    """
    finder = _Finder(model, view, Constants(model), shapes, depthwise)
    blocks: list[Block] = []
    refusals: list[Refusal] = []
    for node, stored in zip(view.graph.nodes, model.proto.graph.node, strict=True):
        key, reason = first_output(stored), ""
        if node.op in OTHER_WEIGHTED_OPERATORS:
            reason = f"the operator {node.op} is left alone"
        elif node.op in LINEAR_OPERATORS and not is_standard(node):
            reason = f"the operator {node.op} is of the operator set {node.domain}"
        elif node.op in LINEAR_OPERATORS:
            try:
                blocks.append(finder.block(node, key))
            except Refused as refused:
                reason = str(refused)
        if reason:
            refusals.append(Refusal(key, reason))
        refusals.extend(_refused_in_bodies(stored))
    refusals.extend(
        Refusal(first_output(node), f"inside the function {function.name}")
        for function in model.proto.functions
        for node in function.node
        if node.op_type in LINEAR_OPERATORS
    )
    return blocks, refusals


def _refused_in_bodies(owner: NodeProto) -> Iterator[Refusal]:
    for body in bodies(owner):
        for node in body.node:
            if node.op_type in LINEAR_OPERATORS:
                yield Refusal(first_output(node), f"inside the body of {node_label(owner)}")
            yield from _refused_in_bodies(node)


class _Finder:
    def __init__(
        self,
        model: Model,
        view: View,
        constants: Constants,
        shapes: Mapping[str, Shape],
        depthwise: bool,
    ) -> None:
        self._model = model
        self._view = view
        self._constants = constants
        self._shapes = shapes
        self._depthwise = depthwise
        self._folding = Folding(model)

    def block(self, node: gs.Node, first: str) -> Block:
        """Reads the block that starts at a linear map, whose first output is `first`.

        Raises:
            Refused: With the reason.
        """
        source, weight_name, output = node.inputs[0].name, node.inputs[1].name, node.outputs[0]
        tensor = self._weight_tensor(weight_name, node, first)
        if source not in self._shapes or output.name not in self._shapes:
            raise Refused("its shapes could not be measured")
        weight = self._constants.array(weight_name)
        if weight is None:
            raise Refused(self._constants.why_not(weight_name, "weight"))
        rank = len(self._shapes[output.name])
        geometry = linear_geometry(node, weight, len(self._shapes[source]), self._constants)
        if geometry.largest_rank == 0:
            raise Refused("its weight is empty")
        if geometry.is_depthwise and not (self._depthwise and geometry.rows == 1):
            raise Refused("depthwise: a kernel of one channel has no rank to lose")
        problem = problem_of(weight)
        if problem in (NOT_A_NUMBER, INFINITE):
            raise Refused("its weight contains NaN or infinite values")
        nodes, behind = self._follow(node, geometry, rank)
        indices = tuple(self._view.index[id(member)] for member in nodes)
        activation, key = self._activation(behind, geometry, rank)
        found = Block(
            key=key.name,
            source=source,
            pre_activation=behind.name,
            nodes=indices,
            weight=weight_name,
            geometry=geometry,
            activation=activation,
            consumers=self._consumers(key),
            source_shape=self._shapes[source],
            output_shape=self._shapes[output.name],
            element_type=tensor.data_type,
            stored_type=self._constants.stored_type(weight_name),
            original_bytes=self._bytes(indices),
            surplus_bytes=self._constants.bytes_of(weight_name)
            - prod(tensor.dims) * item_bytes(self._constants.stored_type(weight_name)),
            lists_initializers=self._model.lists_initializers,
        )
        largest = self._folding.largest(found)
        if not largest <= LARGEST:
            raise Refused(
                f"its weights and biases, folded, reach {largest:.2g}; up to {LARGEST:.0e} can be "
                "squared and summed in float32"
            )
        return found

    def _weight_tensor(self, name: str, node: gs.Node, first: str) -> TensorProto:
        tensor = self._constants.tensor(name)
        if tensor is None:
            raise Refused(self._why_not_constant(name, node))
        if self._constants.is_sparse(name):
            raise Refused(f"its weight {name} is sparse")
        if tensor.data_type not in FLOAT_TYPES:
            raise Refused(f"its weight is of type {TensorProto.DataType.Name(tensor.data_type)}")
        others = self._constants.others(name, first)
        if others:
            raise Refused(f"its weight also serves {', '.join(others)}")
        if self._constants.tensor(node.inputs[0].name) is not None:
            raise Refused("its input is constant too")
        return tensor

    def _why_not_constant(self, name: str, node: gs.Node) -> str:
        product = not LINEAR_OPERATORS[node.op].spatial
        if product and self._constants.depends_on_inputs(name):
            left = node.inputs[0].name
            if self._constants.tensor(left) is not None:
                return f"its weight {left} is its left factor; only right ones are understood"
            return "it has no weight: both of its factors depend on the model's inputs"
        return self._constants.why_not(name, "weight")

    def _follow(
        self, node: gs.Node, geometry: Geometry, rank: int
    ) -> tuple[list[gs.Node], gs.Tensor]:
        """A linear map with the bias, normalisation and Identity behind it, and what they give."""
        nodes, tensor = [node], node.outputs[0]
        while tensor.name not in self._view.outputs:
            users = tensor.outputs
            if len(users) != 1 or id(users[0]) not in self._view.index:
                break
            if not self._belongs(users[0], tensor, geometry, rank):
                break
            nodes.append(users[0])
            tensor = users[0].outputs[0]
        return nodes, tensor

    def _belongs(self, node: gs.Node, tensor: gs.Tensor, geometry: Geometry, rank: int) -> bool:
        if not is_standard(node):
            return False
        if node.op == "Identity":
            return True
        if node.op == "Add":
            other = node.inputs[1] if node.inputs[0] is tensor else node.inputs[0]
            values = self._constants.array(other.name)
            if values is None or not np.isfinite(values).all():
                return False
            return added_bias(values, geometry, rank) is not None
        return foldable_batch_normalization(node, geometry, rank, self._constants)

    def _activation(
        self, tensor: gs.Tensor, geometry: Geometry, rank: int
    ) -> tuple[Activation, gs.Tensor]:
        """The activation behind a pre-activation, and the tensor that leaves the block.

        Where others read the pre-activation too, all of them are behind the block.
        """
        if len(tensor.outputs) != 1 or tensor.name in self._view.outputs:
            return _LINEAR, tensor
        (user,) = tensor.outputs
        # Of a PRelu's two inputs the pre-activation may be the slopes.
        if id(user) not in self._view.index or user.inputs[0] is not tensor:
            return _LINEAR, tensor
        activation = read_activation(user, geometry, rank, self._constants)
        return (_LINEAR, tensor) if activation is None else (activation, user.outputs[0])

    def _consumers(self, key: gs.Tensor) -> tuple[str, ...]:
        names = [user.op for user in key.outputs]
        return tuple(names + ["graph output"] * (key.name in self._view.outputs))

    def _bytes(self, indices: Sequence[int]) -> int:
        """What disappears from the file with these nodes: they and the tensors they alone use."""
        own = sum(self._model.proto.graph.node[index].ByteSize() for index in indices)
        return own + self._constants.freed(indices)


def dependents(model: Model, names: Iterable[str]) -> set[str]:
    """The tensors whose values depend on some others, with these themselves.

    Nodes that read them inside their bodies count too.
    """
    found = set(names)
    # Nodes of a graph are in topological order.
    for node in model.proto.graph.node:
        if not found.isdisjoint(used_names([node])):
            found.update(name for name in node.output if name)
    return found


# They change the shape of scores, or their type, or shift all scores of a sample alike.
_LEADING = operators("Cast Flatten Identity LogSoftmax Reshape Softmax Squeeze Unsqueeze")


def block_of_scores(model: Model, blocks: Iterable[Block], output: str) -> Block | None:
    """The linear block that gives one vector a sample, which leads to an output.

    Args:
        model: The model.
        blocks: Its blocks.
        output: Name of the output, whose rows are class scores.

    Returns:
        None where something else lies between, or where the block gives several vectors a sample.
    """
    by_output = makers(model.proto.graph)
    by_key = {block.key: block for block in blocks}
    name = output
    while name not in by_key:
        node = by_output.get(name)
        if node is None or node.op_type not in _LEADING or not is_standard(node):
            return None
        name = node.input[0]
    block = by_key[name]
    geometry = block.geometry
    positions = prod(block.output_shape) // geometry.out_channels
    simple = block.activation.kind == "none" and geometry.groups == 1 and positions == 1
    return block if simple else None


@dataclass(frozen=True)
class ResidualSum:
    """An Add behind a block without an activation.

    Attributes:
        shortcut: The tensor that is added to the block's answer; its shape may be another.
        rectified: Whether a Relu follows, and nothing else reads the sum.
    """

    shortcut: str
    rectified: bool


def residual_sum(model: Model, block: Block) -> ResidualSum | None:
    """The sum that alone reads a linear block's answer; None where there is none.

    What depends on no input of the graph is no shortcut: it brings no error.
    """
    graph = model.proto.graph
    outputs = {value.name for value in graph.output}
    if block.activation.kind != "none" or block.key in outputs:
        return None
    readers = [node for node in graph.node if block.key in set(used_names([node]))]
    if len(readers) != 1 or readers[0].op_type != "Add" or len(set(readers[0].input)) != 2:
        return None
    add = readers[0]
    (shortcut,) = (name for name in add.input if name != block.key)
    if shortcut in static_names(model.proto):
        return None
    behind = [node for node in graph.node if add.output[0] in set(used_names([node]))]
    rectified = [node.op_type for node in behind] == ["Relu"] and add.output[0] not in outputs
    return ResidualSum(shortcut, rectified)


def targets(
    proto: ModelProto, blocks: Sequence[Block], refusals: Iterable[Refusal]
) -> tuple[Target, ...]:
    """All that a pattern can name, blocks first.

    Args:
        proto: The model.
        blocks: Its blocks.
        refusals: What was refused, by a tensor that its node writes.
    """
    writers = {name: node for node in _nodes(proto) for name in node.output if name}
    found = []
    for block in blocks:
        nodes = [proto.graph.node[index] for index in block.nodes]
        names = dict.fromkeys(name for node in nodes for name in (*_names(node), *node.output[:1]))
        names |= dict.fromkeys(_names(writers.get(block.key)))
        names.pop(block.key, None)
        found.append(Target(block.key, tuple(names), nodes[0].op_type))
    for refusal in refusals:
        writer = writers.get(refusal.key)
        operator = "" if writer is None else writer.op_type
        found.append(Target(refusal.key, _names(writer), operator, refusal.reason))
    return tuple(found)


def _names(node: NodeProto | None) -> tuple[str, ...]:
    return (node.name,) if node is not None and node.name else ()


def _nodes(proto: ModelProto) -> Iterator[NodeProto]:
    """All nodes, those of functions and of bodies first: what is outside wins."""
    for function in proto.functions:
        yield from _with_bodies(function.node)
    yield from _with_bodies(proto.graph.node)


def _with_bodies(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    for node in nodes:
        for body in bodies(node):
            yield from _with_bodies(body.node)
        yield node
