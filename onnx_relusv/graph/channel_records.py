"""The records of channel groups: which entries of which tensors have to be removed together.

Removing harmonically, a *unit* is removed: a neuron, a channel, or channels of several tensors that
an Add or a depthwise Conv ties to each other. Units are numbered over the whole model. An axis of a
tensor that units run along is described by the unit of each of its indices, so that concatenation,
splitting, flattening and transposition are nothing but operations on these rows of numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from onnx_relusv.records import ReadOnlyArrays, Refusal

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
        twins: (units,) int64: of every unit, the first of its group that it equals whatever the
            input, or itself; None where that was not looked into.
        dead: (units,) bool: which are zero wherever they are read, for all inputs within a
            declared range; None where none was declared.
        vectors: By what a Reshape with a computed shape writes, the constant shape that would do
            the same.
    """

    groups: tuple[ChannelGroup, ...]
    refusals: tuple[Refusal, ...]
    produced: tuple[ConstantAxis, ...]
    consumed: tuple[ConstantAxis, ...]
    carried: tuple[ConstantAxis, ...]
    tensors: Mapping[str, UnitAxis]
    twins: Units | None = None
    dead: npt.NDArray[np.bool_] | None = None
    vectors: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many units there are in all groups."""
        return sum(len(group.units) for group in self.groups)
