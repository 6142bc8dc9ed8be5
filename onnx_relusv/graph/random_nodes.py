"""Nodes that draw random numbers: a model that has one answers one input differently in every run.

A seed among their attributes does not change that: onnxruntime draws on from run to run.
"""

from collections.abc import Iterable, Mapping
from math import prod

from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from onnx_relusv.graph.constant_nodes import held
from onnx_relusv.graph.protos import bodies, node_label, used_names

# Besides all whose name begins so, whatever their domain.
_PREFIX = "Random"
_DRAWING = ("Bernoulli", "Multinomial", "Sampling")
# Where the share that they drop stands among their inputs; whether they are training is the next.
_DROPPING = {"Dropout": 1, "BitmaskDropout": 1, "BiasDropout": 3, "BitmaskBiasDropout": 3}
_DEFAULT_RATIO = 0.5
# What comes behind them depends on shapes alone.
_ONLY_SHAPES = ("Shape", "Size")

_Functions = Mapping[tuple[str, str], FunctionProto]
_Scalars = Mapping[str, float]


def random_node(proto: ModelProto) -> str | None:
    """What the node is called that draws random numbers on which an output of the model depends.

    Nodes inside bodies and functions count; None where there is no such node.
    """
    functions = {(function.domain, function.name): function for function in proto.functions}
    outputs = [value.name for value in proto.graph.output]
    found = _drawing(proto.graph.node, outputs, _scalars(proto.graph), functions)
    return None if found is None else node_label(found)


def draws(node: NodeProto, scalars: _Scalars | None = None) -> bool:
    """Whether a node itself draws random numbers.

    Args:
        node: The node.
        scalars: What constants of one number hold, which tell whether a Dropout is training; of
            one that may be told so by a caller, nothing is assumed.
    """
    if node.op_type.startswith(_PREFIX) or node.op_type in _DRAWING:
        return True
    if node.op_type not in _DROPPING:
        return False
    slot, known = _DROPPING[node.op_type], scalars or {}
    given = [*node.input, *[""] * (slot + 2)]
    ratio = known.get(given[slot], 1.0) if given[slot] else _DEFAULT_RATIO
    return bool(known.get(given[slot + 1], 0.0) and ratio)


def _drawing(
    nodes: Iterable[NodeProto], outputs: Iterable[str], scalars: _Scalars, functions: _Functions
) -> NodeProto | None:
    makers = {name: node for node in nodes for name in node.output if name}
    pending, seen = list(outputs), set[str]()
    while pending:
        name = pending.pop()
        node = makers.get(name)
        if node is None or name in seen:
            continue
        seen.update(node.output)
        if _draws_inside(node, scalars, functions):
            return node
        if node.op_type not in _ONLY_SHAPES:
            pending.extend(used_names([node]))
    return None


def _draws_inside(node: NodeProto, scalars: _Scalars, functions: _Functions) -> bool:
    """Whether a node draws, or one inside its bodies, or of the function that it calls."""
    function = functions.get((node.domain, node.op_type))
    if function is not None:
        # None calls itself.
        others = {key: value for key, value in functions.items() if value is not function}
        own = _scalars(function)
        return _drawing(function.node, function.output, own, others) is not None
    if draws(node, scalars):
        return True
    return any(
        _drawing(
            body.node,
            [value.name for value in body.output],
            {**scalars, **_scalars(body)},
            functions,
        )
        is not None
        for body in bodies(node)
    )


def _scalars(graph: GraphProto | FunctionProto) -> dict[str, float]:
    """What the constants of one number hold that a graph defines."""
    tensors: dict[str, TensorProto | None] = {}
    if isinstance(graph, GraphProto):
        tensors.update((tensor.name, tensor) for tensor in graph.initializer)
    for node in graph.node:
        if node.op_type == "Constant" and len(node.attribute) == 1:
            tensors[node.output[0]] = held(node)
    return {
        name: float(numpy_helper.to_array(tensor).reshape(()))
        for name, tensor in tensors.items()
        if tensor is not None
        and tensor.data_location != TensorProto.EXTERNAL
        and tensor.data_type != TensorProto.STRING
        and prod(tensor.dims) == 1
    }
