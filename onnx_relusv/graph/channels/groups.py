"""Finds the groups of units: channels that have to be removed together, and all they run through.

From every weighted node's output axis channels are followed through the graph. What is not fully
understood is a barrier: the units that reach it stay, all of their group, with the reason.

Last come the lengths that a graph fixes, whatever it is fed, and shapes that it computes of them.
With a batch of any length, exporters write a view of a tensor as a chain of nodes: Shape, Gather of
a length, Concat with others, Reshape. Every number on the way is followed back to the lengths that
it is a product of. Where a Reshape's shape turns out to be a row of constants, lengths that stay in
their place, and at most one that follows from the others, it is what a constant vector would do.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from onnx_relusv.core.blocks import Refusal
from onnx_relusv.graph.channels.lengths import (
    MOST_NUMBERS,
    Length,
    Numbers,
    Row,
    Unknown,
    axis,
    constant,
)
from onnx_relusv.graph.channels.operator import ChannelRule
from onnx_relusv.graph.channels.operators import channels_begin, operator_of
from onnx_relusv.graph.channels.walk import (
    NO_UNIT,
    Barrier,
    ChannelGroup,
    Channels,
    ConstantAxis,
    InferredLengths,
    UnitAxis,
    Units,
    Walk,
    axis_name,
    axis_of,
)
from onnx_relusv.graph.constants import Constants, constant_names
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.nodes import Shape, is_standard, whole
from onnx_relusv.graph.protos import bodies, copy_fields, first_output, used_names

# Of a tensor, its lengths: a number, a name that equal ones share, or None where nothing is known.
_Known = tuple[int | str | None, ...]
_WHOLE = (TensorProto.INT32, TensorProto.INT64)
# How often lengths are inferred anew at most.
_PASSES = 4


@dataclass(frozen=True, eq=False)
class _Component:
    """Output axes that share units, directly or through others, in topological order."""

    members: tuple[ConstantAxis, ...]
    roots: frozenset[int]


class _Numbering:
    """Numbers the units of all channels that may go, once all have been followed to the end."""

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
        for made in self._walk.produced:
            rooted = replace(made, units=self._roots(made.units))
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
        for member in component.members:
            for root in member.units.tolist():
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
        found = (replace(axis, units=self._numbers(axis.units)) for axis in axes)
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
        return replace(group, consumers=consumers, operators=tuple(operators))


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
    return _Numbering(walk, nodes).channels()


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


def inferred_lengths(model: Model) -> InferredLengths:
    """Infers lengths; what the file itself says of inner tensors is not believed.

    It may be of one size only.
    """
    constants = Constants(model)
    bare = _bare(model, constants)
    known = _inferred(bare)
    chains = _Chains(model, constants, known)
    done: set[str] = set()
    # A view behind a view is understood once the first one is.
    for _ in range(_PASSES):
        fresh = {name: each for name, each in chains.vectors.items() if name not in done}
        if not fresh:
            break
        done.update(fresh)
        for node in bare.graph.node:
            if node.output and node.output[0] in fresh:
                name = f"{node.output[0]}/lengths"
                vector = np.array(fresh[node.output[0]], np.int64)
                bare.graph.initializer.append(numpy_helper.from_array(vector, name))
                node.input[1] = name
        known = _inferred(bare)
        chains = _Chains(model, constants, known)
    fixed = {
        name: tuple(each if isinstance(each, int) else None for each in lengths)
        for name, lengths in known.items()
    }
    return InferredLengths(fixed, chains.rows, chains.vectors)


def _bare(model: Model, constants: Constants) -> ModelProto:
    """A model for inference: constants where it looks for them, and names for lengths that vary."""
    bare, computed = ModelProto(), dict[str, np.ndarray]()
    copy_fields(model.proto, bare, skipped={"graph"})
    copy_fields(model.proto.graph, bare.graph, skipped={"value_info"})
    for node in bare.graph.node:
        for slot, name in enumerate(node.input):
            # Inference does not look through other nodes for a shape or a scale.
            tensor = constants.tensor(name)
            if tensor is None:
                continue
            node.input[slot] = constants.root(name)
            values = constants.array(name) if constants.is_computed(name) else None
            if values is not None and values.size <= MOST_NUMBERS:
                node.input[slot] = f"{constants.root(name)}/computed"
                computed[node.input[slot]] = values
    bare.graph.initializer.extend(
        numpy_helper.from_array(values, name) for name, values in computed.items()
    )
    for value in bare.graph.input:
        for place, dim in enumerate(value.type.tensor_type.shape.dim):
            if not dim.dim_value and not dim.dim_param:
                dim.dim_param = f"{value.name}[{place}]"
    for value in bare.graph.output:
        for dim in value.type.tensor_type.shape.dim:
            dim.ClearField("dim_param")
    return bare


def _inferred(bare: ModelProto) -> dict[str, _Known]:
    try:
        graph = onnx.shape_inference.infer_shapes(bare).graph
    except Exception:  # several unrelated types; then nothing is known to be fixed
        return {}
    return {
        value.name: tuple(
            dim.dim_value or dim.dim_param or None for dim in value.type.tensor_type.shape.dim
        )
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape")
    }


class _Chains(Numbers):
    """All tensors of a graph that consist of lengths, and what a Reshape makes of them."""

    def __init__(self, model: Model, constants: Constants, known: Mapping[str, _Known]) -> None:
        self._constants = constants
        self._known = known
        self.rows: dict[str, Row] = {}
        self.vectors: dict[str, tuple[int, ...]] = {}
        for node in model.proto.graph.node:
            if is_standard(node):
                self._add(node)

    def _add(self, node: NodeProto) -> None:
        operator = operator_of(node)
        starts = node.op_type in ("Shape", "Size")
        follows = starts or any(name in self.rows for name in node.input)
        if follows and operator is not None and operator.numbers is not None:
            try:
                self.rows[node.output[0]] = operator.numbers(self, node)
            except Unknown:
                pass
            else:
                return
        if node.op_type == "Reshape" and node.input[1] in self.rows:
            vector = self._vector(node)
            if vector is not None:
                self.vectors[node.output[0]] = vector

    def _vector(self, node: NodeProto) -> tuple[int, ...] | None:
        """The shape of a Reshape as a constant; None where it is none."""
        source = node.input[0]
        lengths = self._known.get(source, ())
        zero_copies = not whole(node, "allowzero", 0)
        found: list[int] = []
        for place, entry in enumerate(self.rows[node.input[1]].entries):
            if entry.fixed is not None:
                found.append(entry.fixed)
            elif zero_copies and self._stays(entry, source, place, lengths):
                found.append(0)
            else:
                numbers = [self._length(name) for name, _ in entry.parts]
                whole_ones = [number for number in numbers if isinstance(number, int)]
                fixed = entry.is_product and len(whole_ones) == len(numbers)
                found.append(entry.scale * prod(whole_ones) if fixed else -1)
        # The number of entries is the same before and after, so that one length follows.
        return tuple(found) if found.count(-1) <= 1 else None

    def _stays(self, entry: Length, source: str, place: int, lengths: _Known) -> bool:
        """Whether an entry is the length of the reshaped tensor that lies in the same place."""
        if entry.name is None:
            return False
        if axis_of(entry.name)[0] == source:
            return axis_of(entry.name)[1] == place
        own = lengths[place] if place < len(lengths) else None
        return isinstance(own, str) and own == self._length(entry.name)

    def _length(self, name: str) -> int | str | None:
        tensor, place = axis_of(name)
        lengths = self._known.get(tensor, ())
        return lengths[place] if place < len(lengths) else None

    # What the rules for numbers need.

    def row(self, name: str) -> Row:
        if name in self.rows:
            return self.rows[name]
        tensor = self._constants.tensor(name)
        if tensor is None or tensor.data_type not in _WHOLE or prod(tensor.dims) > MOST_NUMBERS:
            raise Unknown
        values = self._constants.array(name)
        if values is None or values.ndim > 1:
            raise Unknown
        return Row(tuple(constant(int(value)) for value in values.reshape(-1)), values.ndim)

    def lengths(self, name: str) -> tuple[Length, ...]:
        if name not in self._known:
            raise Unknown
        return tuple(axis(axis_name(name, place)) for place in range(len(self._known[name])))

    def keeps(self, element_type: int) -> bool:
        return element_type in _WHOLE
