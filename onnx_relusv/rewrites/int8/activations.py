"""Which tensors of a graph are quantized to 8-bit integers, and the nodes that do it.

onnxruntime runs a Conv, Gemm or MatMul on integers where a DequantizeLinear stands in front of its
input and its weight, and a QuantizeLinear behind it. So quantized are the tensors that int8 layers
read, what a Conv among them gives, and what lies between two of them and has an integer kernel too:
pools, sums of two, and what only moves numbers. The outputs of the model stay floats.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnx_relusv.core.kinds import LINEAR_OPERATORS
from onnx_relusv.core.reduction import ActivationScale
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.nodes import attribute
from onnx_relusv.graph.protos import FreshNames, copied, lists_initializers
from onnx_relusv.graph.writing import shortened, transplant

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
# What goes with the layer in front of it in one integer kernel.
_ACTIVATIONS = ("Relu", "Clip")
# What moves numbers, which keep their scale; and what makes others of them.
_MOVING = ("MaxPool", "Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze")
_AVERAGING = ("AveragePool", "GlobalAveragePool")
_SUM = "Add"


def integer_weights(graph: GraphProto) -> dict[str, NodeProto]:
    """The nodes that make floats of 8-bit weights, by what they make."""
    stored = {t.name for t in graph.initializer if t.data_type == TensorProto.INT8}
    return {
        node.output[0]: node
        for node in graph.node
        if node.op_type == DEQUANTIZE and node.input[0] in stored
    }


def quantized_tensors(proto: ModelProto) -> dict[str, str]:
    """The tensors that are to be quantized.

    Args:
        proto: A model of which some layers have 8-bit weights.

    Returns:
        In topological order: by tensor, the one whose scale it has, which is itself where its
        numbers are not those of another.
    """
    return dict(_Walk(proto.graph).found())


class _Walk:
    def __init__(self, graph: GraphProto) -> None:
        self._graph = graph
        self._outputs = {value.name for value in graph.output}
        self._weights = integer_weights(graph)
        self._readers: dict[str, list[NodeProto]] = {}
        for node in graph.node:
            for name in dict.fromkeys(node.input):
                self._readers.setdefault(name, []).append(node)
        self._read = {node.input[0] for node in graph.node if self._is_layer(node)}
        self._leading = self._leads()

    def found(self) -> Iterator[tuple[str, str]]:
        known: dict[str, str] = {}
        for value in self._graph.input:
            if value.name in self._read:
                known[value.name] = value.name
        for node in self._graph.node:
            name, shared = self._of(node, known)
            if name is not None and name not in self._outputs:
                known[name] = shared or name
            for output in node.output:
                if output in self._read and output not in self._outputs:
                    known.setdefault(output, output)
        yield from known.items()

    def _of(self, node: NodeProto, known: Mapping[str, str]) -> tuple[str | None, str | None]:
        """What of a node is quantized, and whose scale it has."""
        if self._is_layer(node):
            return (self._activated(node) if node.op_type == "Conv" else None), None
        if len(node.output) != 1 or node.output[0] not in self._leading:
            return None, None
        if node.op_type in _MOVING and node.input[0] in known:
            return node.output[0], known[node.input[0]]
        if node.op_type in _AVERAGING and node.input[0] in known:
            return node.output[0], None
        if node.op_type == _SUM and all(name in known for name in node.input):
            return self._activated(node), None
        return None, None

    def _is_layer(self, node: NodeProto) -> bool:
        return node.op_type in LINEAR_OPERATORS and node.input[1] in self._weights

    def _activated(self, node: NodeProto) -> str:
        """What a node gives, behind its activation."""
        name = str(node.output[0])
        readers = self._readers.get(name, [])
        if len(readers) == 1 and readers[0].op_type in _ACTIVATIONS and name not in self._outputs:
            return str(readers[0].output[0])
        return name

    def _leads(self) -> set[str]:
        """The tensors that reach the input of an integer layer by way of integer kernels."""
        found = set(self._read)
        for node in reversed(self._graph.node):
            through = node.op_type in (*_MOVING, *_AVERAGING, _SUM, *_ACTIVATIONS)
            if through and any(name in found for name in node.output):
                found.update(node.input if node.op_type == _SUM else node.input[:1])
        return found


def in_integers(
    proto: ModelProto, original: ModelProto, scales: Mapping[str, ActivationScale]
) -> ModelProto:
    """A model with quantized tensors, in which all that is new has short names.

    Args:
        proto: With 8-bit weights; it is not changed.
        original: What it was made of.
        scales: By tensor of `proto`.
    """
    return shortened(with_quantized(proto, scales), original)


def with_quantized(proto: ModelProto, scales: Mapping[str, ActivationScale]) -> ModelProto:
    """A model with quantized tensors, wherever nodes of its graph read them.

    Args:
        proto: It is not changed.
        scales: By tensor.
    """
    result = copied(proto)
    graph, constants = result.graph, _Constants(result.graph)
    read: dict[str, str] = {}
    nodes: list[NodeProto] = []

    def add(name: str) -> None:
        operands = constants.of(scales[name])
        integers, read[name] = constants.names("q"), constants.names("d")
        nodes.append(helper.make_node(QUANTIZE, [name, *operands], [integers]))
        nodes.append(helper.make_node(DEQUANTIZE, [integers, *operands], [read[name]]))

    for value in graph.input:
        if value.name in scales:
            add(value.name)
    weights = integer_weights(graph)
    for node in graph.node:
        own = NodeProto()
        own.CopyFrom(node)
        # onnxruntime makes integers of the weights of a layer of floats that stands between two
        # tensors of integers; so it does not read any.
        if node.op_type not in LINEAR_OPERATORS or node.input[1] in weights:
            own.ClearField("input")
            own.input.extend(read.get(name, name) for name in node.input)
        nodes.append(own)
        for name in node.output:
            if name in scales:
                add(name)
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(constants.made)
    if lists_initializers(proto):
        graph.input.extend(
            helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            for tensor in constants.made
        )
    return result


class _Constants:
    """Scales and zero points, each number once."""

    def __init__(self, graph: GraphProto) -> None:
        self.names = FreshNames(graph)
        self.made: list[TensorProto] = []
        self._known: dict[tuple[str, float], str] = {}

    def of(self, scale: ActivationScale) -> tuple[str, str]:
        """The operands of a QuantizeLinear."""
        return (
            self._one("s", np.array(scale.scale, np.float32)),
            self._one("z", np.array(scale.zero_point, np.int8 if scale.signed else np.uint8)),
        )

    def _one(self, kind: str, value: np.ndarray) -> str:
        key = kind, float(value)
        if key not in self._known:
            self._known[key] = self.names(kind)
            self.made.append(numpy_helper.from_array(value, self._known[key]))
        return self._known[key]


def quantized_pairs(graph: GraphProto) -> dict[str, tuple[NodeProto, NodeProto]]:
    """The pairs of nodes that quantize tensors and dequantize them, by what the latter make."""
    makers = {node.output[0]: node for node in graph.node if node.op_type == QUANTIZE}
    return {
        node.output[0]: (makers[node.input[0]], node)
        for node in graph.node
        if node.op_type == DEQUANTIZE and node.input[0] in makers
    }


def dequantized_weights(model: Model) -> dict[str, np.ndarray]:
    """The weights of integers as float32, by the name under which nodes read them."""
    tensors = {tensor.name: tensor for tensor in model.proto.graph.initializer}
    found = {}
    for name, node in integer_weights(model.proto.graph).items():
        integers, scale = (
            numpy_helper.to_array(model.loaded(tensors[one])) for one in node.input[:2]
        )
        shape = [1] * integers.ndim
        shape[attribute(node, "axis", 1)] = -1
        found[name] = integers.astype(np.float32) * scale.reshape(shape)
    return found


def in_floats(model: Model) -> ModelProto:
    """A file with the floats that its integers stand for, and with floats between its layers."""
    weights, pairs = dequantized_weights(model), quantized_pairs(model.proto.graph)
    floats = {name: pair[0].input[0] for name, pair in pairs.items()}
    gone = {node.output[0] for pair in pairs.values() for node in pair} | set(weights)
    nodes = []
    for node in model.proto.graph.node:
        if node.output and node.output[0] in gone:
            continue
        own = NodeProto()
        own.CopyFrom(node)
        own.ClearField("input")
        own.input.extend(floats.get(name, name) for name in node.input)
        nodes.append(own)
    constants = [numpy_helper.from_array(values, name) for name, values in weights.items()]
    return transplant(model.proto, nodes, constants)
