"""The record of an operator: all that walks through a graph know of it, in one entry.

Entries stand with their rules in the file of their family (`elementwise`, `windows`, `weights`,
`moving`, `reshaping`); `operators` joins them in one table. What no rule is written for is not
understood: channels end there, and nothing is known of what it makes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnx_graphsurgeon as gs
from onnx import NodeProto

from onnx_relusv.core.blocks import Activation, Floats, ReadOnlyArrays
from onnx_relusv.graph.channels.lengths import Axes, Dims, LengthWalk, Numbers, Row
from onnx_relusv.graph.channels.walk import UnitAxis, Units, Walk
from onnx_relusv.graph.constants import Constants
from onnx_relusv.graph.nodes import has_input, wholes

# The mean and variance behind an activation, of those before it.
Activated = Callable[[Floats, Floats, Activation], tuple[Floats, Floats]]


@dataclass(frozen=True, eq=False)
class ChannelStatistics(ReadOnlyArrays):
    """What a tensor is like on what the model was trained on, as far as its file says.

    Attributes:
        mean: (channels,) float64.
        variance: (channels,) float64.
        flattened: Whether axis 1 holds every channel's positions, one channel behind the other.
    """

    mean: Floats
    variance: Floats
    flattened: bool = False


@dataclass(frozen=True, eq=False)
class Normalisation(ReadOnlyArrays):
    """What becomes of an input x: scale * x + shift, both broadcast to x as ONNX does.

    Attributes:
        scale: float64, any shape that broadcasts to the input's; nowhere 0.
        shift: Likewise.
    """

    scale: Floats
    shift: Floats


NOTHING = Normalisation(np.ones(()), np.zeros(()))


@dataclass(frozen=True, eq=False)
class StatisticsWalk:
    """What rules for statistics use.

    Attributes:
        constants: The graph's constants.
        activated: The moments behind an activation.
    """

    constants: Constants
    activated: Activated


class Cut(Protocol):
    """What is left of channels, as rules for settings see it."""

    opset: int

    def axis(self, name: str) -> UnitAxis | None:
        """The units along an axis of a tensor; None where it has none."""

    def left(self, units: Units) -> int:
        """How many of some indices stay."""

    def numbers(self, node: NodeProto, slot: int) -> list[int] | None:
        """The whole numbers that a node reads; None where it reads none that are known."""

    def vector(self, node: NodeProto, numbers: Sequence[int]) -> str:
        """The name of a new constant that a node reads in place of its own."""

    def rename_length(self, node: NodeProto, slot: int, place: int) -> None:
        """Writes the length of the channels' axis anew, where a node's numbers name it."""


# Of a node and its index in the graph. Says in the walk which channels run through what the node
# writes; raises Barrier where they end.
ChannelRule = Callable[[Walk, int, NodeProto], None]
# Of a node and its inputs' dims. Gives those of its outputs, which may be fewer where nothing is
# known of the last ones, and says in the walk what the node's weights require.
LengthRule = Callable[[LengthWalk, NodeProto, Sequence[Dims]], Sequence[Dims]]
# Of a node that computes whole numbers: those of its first output; raises Unknown for others.
NumberRule = Callable[[Numbers, NodeProto], Row]
# Of a node and its inputs' statistics: those of its first output; None where they are not known.
StatisticsRule = Callable[
    [StatisticsWalk, gs.Node, Sequence[ChannelStatistics | None]], ChannelStatistics | None
]
# Of a node, which of its inputs is followed, and how that one is normalised: how the output is;
# None where it is something else.
NormalisationRule = Callable[[Constants, gs.Node, int, Normalisation], Normalisation | None]

# Of a copy of a node some of whose channels go: writes what it says of their number anew.
SettingsRule = Callable[[Cut, NodeProto], None]


@dataclass(frozen=True, kw_only=True)
class Operator:
    """What is known of an operator, of the default set or of onnxruntime's.

    Attributes:
        lengths: What it makes of the lengths of axes.
        channels: Where it takes channels, in the default set alone; None where they end.
        settings: Which of its settings depend on how many channels there are; None where none does.
        begins: Whether channels begin at it: it has a weight.
        all_outputs: Whether channels are followed into all of its outputs; of others only the first
            may be read.
        numbers: Which whole numbers it computes of whole numbers; None where that is not followed.
        statistics: The statistics behind it; None where they end.
        normalisation: How it shifts and scales an input by constants; None where it does not.
        passes_values: Whether it gives every number of its first input on as it is, in another
            place, shape or type.
    """

    lengths: LengthRule
    channels: ChannelRule | None = None
    settings: SettingsRule | None = None
    begins: bool = False
    all_outputs: bool = False
    numbers: NumberRule | None = None
    statistics: StatisticsRule | None = None
    normalisation: NormalisationRule | None = None
    passes_values: bool = False


def family(names: str, operator: Operator) -> dict[str, Operator]:
    """One entry for several operators.

    Args:
        names: Theirs, with blanks between.
        operator: What is known of each.
    """
    return dict.fromkeys(names.split(), operator)


# What several families use.


def axes_of(walk: Walk | LengthWalk, node: NodeProto, slot: int = 1) -> list[int] | None:
    """The axes that a node names in an attribute or an input; None where it names none."""
    axes = wholes(node, "axes")
    return walk.known(node.input[slot]) if axes is None and has_input(node, slot) else axes


def of_source(rule: Callable[[LengthWalk, NodeProto, Axes], Sequence[Dims]]) -> LengthRule:
    """A rule for the lengths of the first input; where these are not known, no output's are."""

    def lengths(walk: LengthWalk, node: NodeProto, dims: Sequence[Dims]) -> Sequence[Dims]:
        return [] if dims[0] is None else rule(walk, node, dims[0])

    return lengths


def same_dims(_walk: LengthWalk, node: NodeProto, dims: Sequence[Dims]) -> Sequence[Dims]:
    """Every output as the first input."""
    return [dims[0]] * len(node.output)


def handed_on(walk: Walk, _index: int, node: NodeProto) -> None:
    """Channels go on as they are; what else the node reads is settings."""
    found = walk.source(node)
    for slot, name in enumerate(node.output):
        if name:
            walk.put(node, found.axis, found.units, slot)


def same_statistics(
    _walk: StatisticsWalk, _node: gs.Node, before: Sequence[ChannelStatistics | None]
) -> ChannelStatistics | None:
    """As those of the first input."""
    return before[0]


def same_normalisation(
    _constants: Constants, _node: gs.Node, _slot: int, before: Normalisation
) -> Normalisation:
    """As before."""
    return before
