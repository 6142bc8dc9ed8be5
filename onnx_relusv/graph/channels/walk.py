"""What is known while channels are followed through a graph, and what the rules for nodes use.

The records of channel groups: which entries of which tensors have to be removed together.

Removing harmonically, a *unit* is removed: a neuron, a channel, or channels of several tensors that
an Add or a depthwise Conv ties to each other. Units are numbered over the whole model. An axis of a
tensor that units run along is described by the unit of each of its indices, so that concatenation,
splitting, flattening and transposition are nothing but operations on these rows of numbers.

Channels on their way through a graph: which of them turn out to be one and the same unit.

Every output channel of a weighted node begins as an atom. Where tensors are added, or a depthwise
Conv binds an output to an input, atoms are merged; where an operator
is not understood, they are pinned, with the reason.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, TensorProto

from onnx_relusv.core.blocks import ReadOnlyArrays, Refusal
from onnx_relusv.graph.channels.lengths import Length, Row
from onnx_relusv.graph.constants import Constants
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.nodes import FLOAT_TYPES, Shape

Units = npt.NDArray[np.int64]
NO_UNIT = -1


@dataclass(frozen=True, eq=False)
class UnitAxis(ReadOnlyArrays):
    """An axis along which units run.

    Attributes:
        axis: Counted from the front.
        units: (length,) int64: the unit that each index belongs to; `NO_UNIT` where an index
            belongs to none and always stays.
        rank: How many axes the tensor has.
    """

    axis: int
    units: Units
    rank: int


@dataclass(frozen=True, eq=False)
class ConstantAxis(ReadOnlyArrays):
    """An axis of a constant that a node reads, along which units run.

    Attributes:
        node: Index in the file's node list.
        slot: Which of the node's inputs the constant is.
        axis: Counted from the front.
        units: (length,) int64, as in `UnitAxis`.
    """

    node: int
    slot: int
    axis: int
    units: Units


@dataclass(frozen=True)
class ChannelGroup:
    """Units that stand and fall together with the tensors they run through.

    Attributes:
        key: The tensor that the group's first weighted node, in topological order, writes.
        units: The numbers of its units, without gaps.
        producers: Tensors that its weighted nodes write: those whose rows are its units.
        consumers: Tensors that weighted nodes write that read its units.
        operators: Operators that its units run through between them, in topological order, for
            reports; each once, and a Conv among them called depthwise.
    """

    key: str
    units: range
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    operators: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Channels:
    """All that is known of a model's units.

    Attributes:
        groups: In topological order of their first producers. As long as one unit of every group
            stays, something is left of every tensor.
        refusals: Weighted nodes whose outputs stay, by the tensor they write, with the reason:
            the operator that was not understood, or that an output of the graph is among them.
        produced: Output axes of weights: their rows are units.
        consumed: Input axes of weights: they read units. With a removed unit's entries zeroed
            here, and nothing else changed, the model computes what the cut one does.
        carried: Axes of all other constants that units run along: biases, the four vectors of a
            BatchNormalization, slopes, scales, weights of depthwise Convs.
        tensors: Of the tensors between the nodes, those that units run through.
        duplicates: (units,) int64: of every unit, the first of its group that it equals whatever
            the input, or itself; None where that was not looked into.
        vectors: By what a Reshape with a computed shape writes, the constant shape that would do
            the same.
    """

    groups: tuple[ChannelGroup, ...]
    refusals: tuple[Refusal, ...]
    produced: tuple[ConstantAxis, ...]
    consumed: tuple[ConstantAxis, ...]
    carried: tuple[ConstantAxis, ...]
    tensors: Mapping[str, UnitAxis]
    duplicates: Units | None = None
    vectors: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many units there are in all groups."""
        return sum(len(group.units) for group in self.groups)


class Atoms:
    """A forest of atoms; those of one tree are one unit."""

    def __init__(self) -> None:
        self._parents: list[int] = []
        self._reasons: dict[int, str] = {}

    def new(self, count: int) -> Units:
        """(count,) int64: fresh atoms."""
        first = len(self._parents)
        self._parents.extend(range(first, first + count))
        return np.arange(first, first + count, dtype=np.int64)

    def merge(self, first: Units, second: Units, reason: str) -> Units:
        """Makes atoms equal, index by index.

        Args:
            first: (length,) int64.
            second: (length,) int64.
            reason: Why an atom stays that meets `NO_UNIT`.

        Returns:
            One of the two, `NO_UNIT` where either is: what goes with a channel that stays, stays.
        """
        result = np.where((first == NO_UNIT) | (second == NO_UNIT), NO_UNIT, first)
        for one, other in zip(first.tolist(), second.tolist(), strict=True):
            if one == NO_UNIT or other == NO_UNIT:
                self.pin([one, other], reason)
            else:
                self._join(self.root(one), self.root(other))
        return result

    def pin(self, atoms: Iterable[int], reason: str) -> None:
        """Lets atoms stay, for a reason; the first one counts."""
        for atom in atoms:
            if atom != NO_UNIT:
                self._reasons.setdefault(self.root(atom), reason)

    def root(self, atom: int) -> int:
        """The atom that stands for all of its tree."""
        root = atom
        while self._parents[root] != root:
            root = self._parents[root]
        while self._parents[atom] != root:
            self._parents[atom], atom = root, self._parents[atom]
        return root

    def reason(self, root: int) -> str | None:
        """Why a tree is pinned; None where it is not."""
        return self._reasons.get(root)

    def _join(self, one: int, other: int) -> None:
        first, last = min(one, other), max(one, other)
        if first == last:
            return
        self._parents[last] = first
        if last in self._reasons:
            self._reasons.setdefault(first, self._reasons.pop(last))


@dataclass(frozen=True, eq=False)
class InferredLengths:
    """What follows from a graph about the lengths of its tensors, whatever it is fed.

    Attributes:
        fixed: Of every tensor whose rank follows from the graph, its lengths; None where they
            vary.
        rows: The tensors that consist of lengths, whose axes are named by `axis_name`.
        vectors: By what a Reshape with a computed shape writes, the constant shape that would do
            the same, with 0 and -1 as the operator has them; those without one are left out.
    """

    fixed: Mapping[str, tuple[int | None, ...]]
    rows: Mapping[str, Row]
    vectors: Mapping[str, tuple[int, ...]]


def axis_name(tensor: str, axis: int) -> str:
    """The name that stands for an axis of a tensor in lengths."""
    return f"{tensor}:{axis}"


def axis_of(name: str) -> tuple[str, int]:
    """The tensor and the axis that such a name stands for."""
    tensor, _, axis = name.rpartition(":")
    return tensor, int(axis)


class Barrier(Exception):  # noqa: N818 - it is an answer with a reason, not an error
    """Channels cannot be followed through a node; the message says what the node does."""


class Walk:
    """Channels as far as they have been followed.

    Args:
        model: The model.
        shapes: Of the tensors between nodes, for one sample.
        inferred: What follows from its graph about their lengths.

    Attributes:
        constants: The graph's constants.
        opset: Of the default operators.
        atoms: All so far.
        axes: By tensor, the axis that channels run along, and their atoms.
        produced, consumed, carried: As in `Channels`, with atoms for units.
        refused: By the tensor that a weighted node writes, why its outputs stay.
        inferred: As above.
    """

    def __init__(
        self, model: Model, shapes: Mapping[str, Shape], inferred: InferredLengths
    ) -> None:
        self.constants = Constants(model)
        self.opset = model.opset
        self.atoms = Atoms()
        self.axes: dict[str, UnitAxis] = {}
        self.produced: list[ConstantAxis] = []
        self.consumed: list[ConstantAxis] = []
        self.carried: list[ConstantAxis] = []
        self.refused: dict[str, str] = {}
        self.inferred = inferred
        self._shapes = shapes
        self._uses = self.constants.reads()

    def uses(self, name: str) -> int:
        """How often a tensor or constant is read, or handed out as an output of the graph."""
        return self._uses[self.constants.root(name)]

    def weight(self, node: NodeProto) -> TensorProto:
        """The constant weight of a Conv, ConvTranspose, Gemm or MatMul.

        Raises:
            Barrier: It is not constant, no float, or serves others too.
        """
        tensor = self.constants.tensor(node.input[1])
        if tensor is None:
            raise Barrier(f"has a weight that is {self.constants.what(node.input[1])}")
        if tensor.data_type not in FLOAT_TYPES:
            raise Barrier("has a weight that is no float")
        if self.uses(node.input[1]) > 1:
            raise Barrier("shares its weight with others")
        return tensor

    def source(self, node: NodeProto) -> UnitAxis:
        """The channels of a node's first input.

        Raises:
            Barrier: Channels run through another of its inputs.
        """
        slots = [slot for slot, _ in self.labelled(node)]
        if slots != [0]:
            raise Barrier("takes settings from channels")
        return self.axes[node.input[0]]

    def axis(self, name: str, wanted: int) -> Units | None:
        """The atoms along one axis of a tensor; None where channels run along none.

        Raises:
            Barrier: They run along another.
        """
        found = self.axes.get(name)
        if found is None:
            return None
        if found.axis != wanted:
            raise Barrier("reads across its channels")
        return found.units

    def rank(self, name: str) -> int:
        """How many axes a tensor has; raises Barrier where unknown."""
        return len(self.shape(name))

    def shape(self, name: str) -> Shape:
        """The shape of a tensor or constant for one sample; raises Barrier where unknown."""
        tensor = self.constants.tensor(name)
        if tensor is not None:
            return tuple(tensor.dims)
        if name not in self._shapes:
            raise Barrier(f"reads or makes {name}, whose shape is not known")
        return self._shapes[name]

    def fixed(self, name: str) -> tuple[int | None, ...]:
        """Those lengths of a tensor that are the same at all sizes; None for others."""
        tensor = self.constants.tensor(name)
        if tensor is not None:
            return tuple(tensor.dims)
        rank = self.rank(name)
        found = self.inferred.fixed.get(name, ())
        return found if len(found) == rank else (None,) * rank

    def has_fixed_channels(self, name: str) -> bool:
        """Whether as many indices belong to every channel of a tensor at all sizes."""
        found = self.axes[name]
        if self.fixed(name)[found.axis] is not None:
            return True
        # Where nothing is inferred: channels straight from a weight.
        single = len(set(found.units.tolist())) == len(found.units)
        return name not in self.inferred.fixed and single

    def put(self, node: NodeProto, axis: int, units: Units, slot: int = 0) -> None:
        """Says which channels run through what a node writes.

        Raises:
            Barrier: The axis is that of the samples, or a run has shown another length.
        """
        name = node.output[slot]
        shape = self.shape(name)
        if axis == 0:
            raise Barrier("puts its channels along the samples")
        if axis >= len(shape) or shape[axis] != len(units):
            raise Barrier(f"makes another shape than is understood, {shape}")
        if np.any(units != NO_UNIT):
            self.axes[name] = UnitAxis(axis, units, len(shape))

    def counts(self, names: Iterable[str]) -> Iterator[Units]:
        """The channels whose number some tensors depend on, which consist of lengths."""
        for name in names:
            row = self.inferred.rows.get(name)
            for entry in () if row is None else row.entries:
                yield from self.counts_of(entry)

    def counts_of(self, entry: Length) -> Iterator[Units]:
        """The channels whose number is among the lengths that a number depends on."""
        for name, _ in entry.parts:
            tensor, axis = axis_of(name)
            found = self.axes.get(tensor)
            if found is not None and found.axis == axis:
                yield found.units

    def merge(self, node: NodeProto, first: Units, second: Units) -> Units:
        """Makes the channels of two tensors equal that a node combines."""
        reason = f"{node.op_type} {node.output[0]} combines them with channels that stay"
        return self.atoms.merge(first, second, reason)

    def carry(self, index: int, slot: int, axis: int, units: Units) -> None:
        """Says that a constant that a node reads has an entry a channel."""
        if np.any(units != NO_UNIT):
            self.carried.append(ConstantAxis(index, slot, axis, units))

    def labelled(self, node: NodeProto) -> Iterator[tuple[int, UnitAxis]]:
        """The inputs of a node, by their slots, that channels run through."""
        for slot, name in enumerate(node.input):
            if name in self.axes:
                yield slot, self.axes[name]

    def known(self, name: str) -> list[int] | None:
        """The whole numbers in a constant; None where it is none."""
        values = self.constants.array(name)
        return None if values is None else [int(value) for value in values.reshape(-1)]
