"""Finds the groups of units: channels that have to be removed together, and all they run through.

From every weighted node's output axis channels are followed through the graph. What is not fully
understood is a barrier: the units that reach it stay, all of their group, with the reason.
"""

from collections.abc import Callable, Mapping

from onnx import ModelProto, NodeProto

from onnx_relusv.graph import channel_elementwise as elementwise
from onnx_relusv.graph import channel_shapes as shaping
from onnx_relusv.graph.channel_groups import grouped
from onnx_relusv.graph.channel_records import Channels
from onnx_relusv.graph.channel_walk import Barrier, Walk
from onnx_relusv.graph.channel_weights import WEIGHTED, weighted
from onnx_relusv.graph.constants import constant_names
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.operators import Shape, is_standard
from onnx_relusv.graph.protos import bodies, first_output, used_names

Rule = Callable[[Walk, int, NodeProto], None]

_RULES: dict[str, Rule] = {
    **dict.fromkeys(elementwise.UNARY, elementwise.unary),
    **dict.fromkeys(elementwise.BROADCASTING, elementwise.broadcasting),
    **dict.fromkeys(WEIGHTED, weighted),
    "Dropout": elementwise.dropout,
    "BatchNormalization": elementwise.normalization,
    "InstanceNormalization": elementwise.normalization,
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), elementwise.softmax),
    **dict.fromkeys(
        (
            "AveragePool",
            "GlobalAveragePool",
            "GlobalLpPool",
            "GlobalMaxPool",
            "LpPool",
            "MaxPool",
        ),
        elementwise.pooling,
    ),
    **dict.fromkeys(
        (
            "ReduceL1",
            "ReduceL2",
            "ReduceLogSum",
            "ReduceLogSumExp",
            "ReduceMax",
            "ReduceMean",
            "ReduceMin",
            "ReduceProd",
            "ReduceSum",
            "ReduceSumSquare",
        ),
        elementwise.reduction,
    ),
    "Transpose": shaping.transpose,
    "Squeeze": shaping.squeeze,
    "Unsqueeze": shaping.unsqueeze,
    "Flatten": shaping.reshape,
    "Reshape": shaping.reshape,
    "Concat": shaping.concat,
    "Split": shaping.split,
    "Pad": shaping.pad,
    "Resize": shaping.resize,
    "Upsample": shaping.resize,
    "Slice": shaping.slicing,
}
# What is understood well enough to say why channels end there.
_MIXING = (
    "GroupNormalization",
    "LRN",
    "LayerNormalization",
    "LpNormalization",
    "MeanVarianceNormalization",
    "RMSNormalization",
)
# All of their outputs are followed.
_OF_SEVERAL = ("Dropout", "Split")


def channel_tensors(proto: ModelProto) -> tuple[str, ...]:
    """Tensors whose shapes `find_channels` needs: all but constants."""
    names = dict.fromkeys(value.name for value in proto.graph.input)
    for node in proto.graph.node:
        names.update(dict.fromkeys(name for name in node.output if name))
    constant = constant_names(proto)
    return tuple(name for name in names if name not in constant)


def find_channels(model: Model, shapes: Mapping[str, Shape]) -> Channels:
    """Finds all groups of units.

    Args:
        model: The model.
        shapes: Of the `channel_tensors` for one sample, as a run shows them; channels end at
            nodes whose shapes are missing.
    """
    walk = Walk(model, shapes)
    nodes = model.proto.graph.node
    for index, node in enumerate(nodes):
        _follow(walk, index, node)
    for output in model.output_names:
        if output in walk.axes:
            walk.atoms.pin(walk.axes[output].units.tolist(), f"{output} is a graph output")
        for units in walk.counts([output]):
            walk.atoms.pin(units.tolist(), f"{output}, a graph output, says how many there are")
    return grouped(walk, nodes)


def _follow(walk: Walk, index: int, node: NodeProto) -> None:
    """Follows channels through one node, or lets them end there."""
    if any(name in walk.chains.sizes for name in node.output):
        # Of channels, only how many there are is handed on, and counts where it is read.
        return
    names = list(dict.fromkeys(used_names([node])))
    reads = [name for name in names if name in walk.axes]
    counts = list(walk.counts(names))
    is_weighted = node.op_type in WEIGHTED and is_standard(node)
    if not reads and not is_weighted and not counts:
        return
    try:
        if counts and node.op_type != "Reshape":
            raise Barrier("depends on how many channels there are")
        _rule(walk, node)(walk, index, node)
    except Barrier as barrier:
        operator = node.op_type if is_standard(node) else f"{node.domain}.{node.op_type}"
        reason = f"{operator} {first_output(node)} {barrier}"
        for name in reads:
            walk.atoms.pin(walk.axes[name].units.tolist(), reason)
        for units in counts:
            walk.atoms.pin(units.tolist(), reason)
        if is_weighted:
            walk.refused[node.output[0]] = reason


def _rule(walk: Walk, node: NodeProto) -> Rule:
    """What is known of a node's operator."""
    if any(True for _ in bodies(node)):
        raise Barrier("reads them inside its body")
    if is_standard(node) and node.op_type in _MIXING:
        raise Barrier(elementwise.MIXING)
    rule = _RULES.get(node.op_type) if is_standard(node) else None
    if rule is None:
        raise Barrier("is not understood")
    if node.op_type not in _OF_SEVERAL and any(
        name and walk.uses(name) for name in node.output[1:]
    ):
        raise Barrier("has several outputs")
    return rule
