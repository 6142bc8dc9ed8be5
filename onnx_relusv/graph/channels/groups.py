"""Finds the groups of units: channels that have to be removed together, and all they run through.

From every weighted node's output axis channels are followed through the graph. What is not fully
understood is a barrier: the units that reach it stay, all of their group, with the reason.

From channels that were followed to groups: which units there are, and what runs with them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto

from onnx_relusv.core.blocks import Refusal
from onnx_relusv.graph.channels.inferred import inferred_lengths
from onnx_relusv.graph.channels.operator import ChannelRule
from onnx_relusv.graph.channels.operators import channels_begin, operator_of
from onnx_relusv.graph.channels.walk import (
    NO_UNIT,
    Barrier,
    ChannelGroup,
    Channels,
    ConstantAxis,
    UnitAxis,
    Units,
    Walk,
)
from onnx_relusv.graph.constants import constant_names
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.nodes import Shape, is_standard
from onnx_relusv.graph.protos import bodies, first_output, used_names


def grouped(walk: Walk, nodes: Sequence[NodeProto]) -> Channels:
    """Numbers the units of all channels that may go.

    Args:
        walk: Channels, followed to the end.
        nodes: Of the graph.
    """
    return _Numbering(walk, nodes).channels()


@dataclass(frozen=True, eq=False)
class _Component:
    """Output axes that share units, directly or through others, in topological order."""

    members: tuple[ConstantAxis, ...]
    roots: frozenset[int]


class _Numbering:
    def __init__(self, walk: Walk, nodes: Sequence[NodeProto]) -> None:
        self._walk = walk
        self._nodes = nodes
        self._units: dict[int, int] = {}

    def channels(self) -> Channels:
        walk = self._walk
        refusals = [Refusal(name, reason) for name, reason in walk.refused.items()]
        read = {root for axis in walk.consumed for root in self._roots(axis.units)}
        free: list[_Component] = []
        for component in self._components():
            reason = self._reason(component, read)
            if reason is None:
                free.append(component)
            else:
                refusals.extend(Refusal(name, reason) for name in self._written(component))
        staying = self._staying(free)
        groups: list[ChannelGroup] = []
        for component in free:
            names, first = self._written(component), len(self._units)
            roots = dict.fromkeys(
                root for axis in component.members for root in axis.units.tolist()
            )
            going = [root for root in roots if root not in staying]
            if len(going) > 1:
                self._units.update({root: first + place for place, root in enumerate(going)})
                units = range(first, len(self._units))
                groups.append(ChannelGroup(names[0], units, names, ()))
            else:
                refusals.extend(Refusal(name, "one channel at least has to stay") for name in names)
        return self._recorded(groups, refusals)

    def _components(self) -> list[_Component]:
        found: list[_Component] = []
        for axis in self._walk.produced:
            rooted = ConstantAxis(axis.node, axis.slot, axis.axis, self._roots(axis.units))
            roots, members = frozenset(rooted.units.tolist()), [rooted]
            apart: list[_Component] = []
            for other in found:
                if other.roots.isdisjoint(roots):
                    apart.append(other)
                else:
                    roots, members = roots | other.roots, [*other.members, *members]
            members.sort(key=lambda member: member.node)
            found = [*apart, _Component(tuple(members), roots)]
        return sorted(found, key=lambda component: component.members[0].node)

    def _roots(self, atoms: Units) -> Units:
        root = self._walk.atoms.root
        found = [atom if atom == NO_UNIT else root(atom) for atom in atoms.tolist()]
        return np.array(found, np.int64)

    def _written(self, component: _Component) -> tuple[str, ...]:
        return tuple(self._nodes[axis.node].output[0] for axis in component.members)

    def _reason(self, component: _Component, read: set[int]) -> str | None:
        """Why channels stay; `read` are those that weights read."""
        for axis in component.members:
            for root in axis.units.tolist():
                reason = self._walk.atoms.reason(root)
                if reason is not None:
                    return reason
        return "no weight reads its channels" if component.roots.isdisjoint(read) else None

    def _staying(self, free: Iterable[_Component]) -> set[int]:
        """Channels that have to stay so that something is left of every tensor.

        Where an axis has all units of a group, one is left in any case. But a part of a Split has
        some of them only, and so has a branch that is concatenated before it is added to others.
        """
        homes = {root: component.roots for component in free for root in component.roots}
        found: set[int] = set()
        for units in self._axes():
            roots = dict.fromkeys(self._roots(units).tolist())
            if any(root not in homes or root in found for root in roots):
                continue
            if not any(homes[root] - found <= roots.keys() for root in roots):
                found.add(next(iter(roots)))
        return found

    def _axes(self) -> Iterator[Units]:
        walk = self._walk
        yield from (axis.units for axis in walk.axes.values())
        yield from (axis.units for axis in (*walk.produced, *walk.consumed, *walk.carried))

    def _recorded(self, groups: Iterable[ChannelGroup], refusals: Iterable[Refusal]) -> Channels:
        walk = self._walk
        consumed = self._numbered(walk.consumed)
        tensors = {
            name: UnitAxis(found.axis, units, found.rank)
            for name, found in walk.axes.items()
            if np.any((units := self._numbers(found.units)) != NO_UNIT)
        }
        return Channels(
            groups=tuple(self._described(group, consumed, tensors) for group in groups),
            refusals=tuple(refusals),
            produced=self._numbered(walk.produced),
            consumed=consumed,
            carried=self._numbered(walk.carried),
            tensors=tensors,
            vectors=walk.inferred.vectors,
        )

    def _numbers(self, atoms: Units) -> Units:
        units = [self._units.get(root, NO_UNIT) for root in self._roots(atoms).tolist()]
        return np.array(units, np.int64)

    def _numbered(self, axes: Iterable[ConstantAxis]) -> tuple[ConstantAxis, ...]:
        found = (
            ConstantAxis(axis.node, axis.slot, axis.axis, self._numbers(axis.units))
            for axis in axes
        )
        return tuple(axis for axis in found if np.any(axis.units != NO_UNIT))

    def _described(
        self,
        group: ChannelGroup,
        consumed: Iterable[ConstantAxis],
        tensors: Mapping[str, UnitAxis],
    ) -> ChannelGroup:
        """A group with what reads it, and what lies between."""
        consumers = tuple(
            self._nodes[axis.node].output[0] for axis in consumed if _meets(axis.units, group)
        )
        making = {axis.node for axis in self._walk.produced}
        operators = dict.fromkeys(
            f"depthwise {node.op_type}" if channels_begin(node) else node.op_type
            for index, node in enumerate(self._nodes)
            if index not in making
            and any(name in tensors and _meets(tensors[name].units, group) for name in node.output)
        )
        return ChannelGroup(group.key, group.units, group.producers, consumers, tuple(operators))


def _meets(units: Units, group: ChannelGroup) -> bool:
    return bool(np.any((units >= group.units.start) & (units < group.units.stop)))


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
    walk = Walk(model, shapes, inferred_lengths(model))
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
    if any(name in walk.inferred.rows for name in node.output):
        # Of channels, only how many there are is handed on, and counts where it is read.
        return
    names = list(dict.fromkeys(used_names([node])))
    reads = [name for name in names if name in walk.axes]
    counts = list(walk.counts(names))
    begins = channels_begin(node)
    if not reads and not begins and not counts:
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
        if begins:
            walk.refused[node.output[0]] = reason


def _rule(walk: Walk, node: NodeProto) -> ChannelRule:
    """What is known of a node's operator."""
    if any(True for _ in bodies(node)):
        raise Barrier("reads them inside its body")
    operator = operator_of(node)
    if operator is None or operator.channels is None:
        raise Barrier("is not understood")
    others = (name for name in node.output[1:] if name)
    if not operator.all_outputs and any(walk.uses(name) for name in others):
        raise Barrier("has several outputs")
    return operator.channels
