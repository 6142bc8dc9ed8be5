"""Counts what a model holds and does: parameters, and multiply-accumulates for one sample."""

from collections.abc import Mapping
from math import prod

from onnx import ModelProto, NodeProto

from onnx_relusv.graph.constants import Constants
from onnx_relusv.graph.model import Model, all_tensors
from onnx_relusv.graph.operators import FLOAT_TYPES, Shape, is_standard
from onnx_relusv.results import ModelFacts

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def parameters(proto: ModelProto) -> int:
    """Floating-point numbers in initializers and in tensors of Constant nodes."""
    return sum(
        prod(tensor.dims) for tensor in all_tensors(proto.graph) if tensor.data_type in FLOAT_TYPES
    )


def macs(proto: ModelProto, shapes: Mapping[str, Shape]) -> int:
    """Multiply-accumulates of the Conv, ConvTranspose, Gemm and MatMul nodes of the main graph.

    Args:
        proto: The model.
        shapes: Shapes for one sample of the tensors around these nodes; initializers excepted.
            Nodes without shapes count nothing.
    """
    known = dict(shapes)
    for tensor in proto.graph.initializer:
        known[tensor.name] = tuple(tensor.dims)
    return sum(node_macs(node, known) for node in proto.graph.node)


def computed_shapes(model: Model) -> dict[str, Shape]:
    """Shapes of the weights that nodes compute of constants."""
    constants, found = Constants(model), dict[str, Shape]()
    for node in model.proto.graph.node:
        if node.op_type in _WEIGHTED and is_standard(node):
            tensor = constants.tensor(node.input[1])
            if tensor is not None:
                found[node.input[1]] = tuple(tensor.dims)
    return found


def node_macs(node: NodeProto, shapes: Mapping[str, Shape]) -> int:
    """Multiply-accumulates of one node; arguments as of `macs`, with shapes of initializers too."""
    if node.op_type not in _WEIGHTED or not is_standard(node):
        return 0
    names = (node.input[0], node.input[1], node.output[0])
    if any(name not in shapes for name in names):
        return 0
    source, weight, output = (shapes[name] for name in names)
    if node.op_type == "Conv":
        return prod(output) * prod(weight[1:])
    if node.op_type == "ConvTranspose":
        return prod(source) * prod(weight[1:])
    if node.op_type == "Gemm":
        transposed = any(a.name == "transA" and a.i for a in node.attribute)
        return prod(output) * source[0 if transposed else 1]
    return prod(output) * source[-1]


def model_facts(model: Model, shapes: Mapping[str, Shape]) -> ModelFacts:
    """The facts of a model for reports."""
    return ModelFacts(
        path=model.path,
        bytes=model.bytes,
        parameters=parameters(model.proto),
        macs=macs(model.proto, {**shapes, **computed_shapes(model)}),
        sha256=model.sha256,
        opset=model.opset,
    )
