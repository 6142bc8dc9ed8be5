"""Finds the groups of units: channels that have to be removed together, and all they run through.

From every weighted node's output axis channels are followed through the graph. What is not fully
understood is a barrier: the units that reach it stay, all of their group, with the reason.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from onnx import ModelProto, NodeProto

from onnx_relusv.graph import channel_elementwise as elementwise
from onnx_relusv.graph import channel_shapes as shaping
from onnx_relusv.graph.channel_records import (
    NO_UNIT,
    ChannelGroup,
    Channels,
    ConstantAxis,
    UnitAxis,
    Units,
)
from onnx_relusv.graph.channel_walk import Barrier, Walk
from onnx_relusv.graph.channel_weights import WEIGHTED, weighted
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.operators import Shape, is_standard
from onnx_relusv.graph.protos import bodies, used_names
from onnx_relusv.records import Refusal

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


def channel_tensors(proto: ModelProto) -> tuple[str, ...]:
    """Tensors whose shapes `find_channels` needs: all between the nodes of the main graph."""
    names = dict.fromkeys(value.name for value in proto.graph.input)
    for node in proto.graph.node:
        names.update(dict.fromkeys(name for name in node.output if name))
    constant = {tensor.name for tensor in proto.graph.initializer}
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
    return _Numbering(walk, nodes).channels()


def _follow(walk: Walk, index: int, node: NodeProto) -> None:
    """Follows channels through one node, or lets them end there."""
    reads = [name for name in dict.fromkeys(used_names([node])) if name in walk.axes]
    is_weighted = node.op_type in WEIGHTED and is_standard(node)
    if not reads and not is_weighted:
        return
    try:
        if not is_standard(node):
            raise Barrier(f"the operator {node.op_type} of {node.domain} is not understood")
        if any(True for _ in bodies(node)):
            raise Barrier(f"the body of {node.op_type} {node.output[0]} reads them")
        if node.op_type in _MIXING:
            raise Barrier(f"{node.op_type} mixes its channels")
        rule = _RULES.get(node.op_type)
        if rule is None:
            raise Barrier(f"the operator {node.op_type} is not understood")
        if node.op_type != "Split" and sum(name != "" for name in node.output) > 1:
            raise Barrier(f"{node.op_type} {node.output[0]} has several outputs")
        rule(walk, index, node)
    except Barrier as barrier:
        for name in reads:
            walk.atoms.pin(walk.axes[name].units.tolist(), str(barrier))
        if is_weighted:
            walk.refused[node.output[0]] = str(barrier)


class _Numbering:
    """From atoms to units and groups."""

    def __init__(self, walk: Walk, nodes: Sequence[NodeProto]) -> None:
        self._walk = walk
        self._nodes = nodes
        self._produced = [self._rooted(axis) for axis in walk.produced]
        self._units: dict[int, int] = {}

    def channels(self) -> Channels:
        """Everything, numbered."""
        walk = self._walk
        refusals = [Refusal(name, reason) for name, reason in walk.refused.items()]
        groups: list[ChannelGroup] = []
        for members in self._connected():
            reason = self._reason(members)
            names = [self._nodes[axis.node].output[0] for axis in members]
            if reason is not None:
                refusals.extend(Refusal(name, reason) for name in names)
                continue
            first = len(self._units)
            for axis in members:
                for root in axis.units.tolist():
                    self._units.setdefault(root, len(self._units))
            groups.append(ChannelGroup(names[0], range(first, len(self._units)), tuple(names), ()))
        consumed = self._numbered(walk.consumed)
        tensors = {
            name: UnitAxis(found.axis, units)
            for name, found in walk.axes.items()
            if np.any((units := self._of(found.units)) != NO_UNIT)
        }
        return Channels(
            groups=tuple(self._described(group, consumed, tensors) for group in groups),
            refusals=tuple(refusals),
            produced=self._numbered(walk.produced),
            consumed=consumed,
            carried=self._numbered(walk.carried),
            tensors=tensors,
        )

    def _rooted(self, axis: ConstantAxis) -> ConstantAxis:
        roots = [self._walk.atoms.root(atom) for atom in axis.units.tolist()]
        return ConstantAxis(axis.node, axis.slot, axis.axis, np.array(roots, np.int64))

    def _connected(self) -> list[list[ConstantAxis]]:
        """Output axes that share units, directly or through others, in topological order."""
        found: list[tuple[set[int], list[ConstantAxis]]] = []
        for axis in self._produced:
            roots, members = set(axis.units.tolist()), [axis]
            apart = []
            for others, own in found:
                if others.isdisjoint(roots):
                    apart.append((others, own))
                else:
                    roots, members = roots | others, [*own, *members]
            found = [*apart, (roots, members)]
        ordered = [sorted(members, key=lambda axis: axis.node) for _, members in found]
        return sorted(ordered, key=lambda members: members[0].node)

    def _reason(self, members: Iterable[ConstantAxis]) -> str | None:
        for axis in members:
            for root in axis.units.tolist():
                reason = self._walk.atoms.reason(root)
                if reason is not None:
                    return reason
        return None

    def _of(self, atoms: Units) -> Units:
        root = self._walk.atoms.root
        return np.array(
            [
                NO_UNIT if atom == NO_UNIT else self._units.get(root(atom), NO_UNIT)
                for atom in atoms.tolist()
            ],
            np.int64,
        )

    def _numbered(self, axes: Iterable[ConstantAxis]) -> tuple[ConstantAxis, ...]:
        found = (
            ConstantAxis(axis.node, axis.slot, axis.axis, self._of(axis.units)) for axis in axes
        )
        return tuple(axis for axis in found if np.any(axis.units != NO_UNIT))

    def _described(
        self,
        group: ChannelGroup,
        consumed: Iterable[ConstantAxis],
        tensors: Mapping[str, UnitAxis],
    ) -> ChannelGroup:
        """A group with what reads it, and what lies between."""
        consumers = [
            self._nodes[axis.node].output[0] for axis in consumed if _meets(axis.units, group)
        ]
        operators = dict.fromkeys(
            node.op_type
            for node in self._nodes
            if node.op_type not in WEIGHTED
            and any(name in tensors and _meets(tensors[name].units, group) for name in node.output)
        )
        return ChannelGroup(
            group.key, group.units, group.producers, tuple(consumers), tuple(operators)
        )


def _meets(units: Units, group: ChannelGroup) -> bool:
    return bool(np.any((units >= group.units.start) & (units < group.units.stop)))
