"""The items of a plan of units and double layers, each with its options.

A search tells some forty options of every item apart, a geometric ladder; once it has found a
state, ladders around it are as much finer, until they have every option.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from onnx_relusv.decisions import Candidate
from onnx_relusv.pruning.cost import Counts
from onnx_relusv.pruning.joint import State
from onnx_relusv.pruning.rounding import ladder
from onnx_relusv.records import Block

Layer = Candidate | None


@dataclass(frozen=True, eq=False)
class GroupItem:
    """A group that may lose units.

    Attributes:
        place: Among all groups of the model.
        counts: Decreasing from all: how many units may be kept.
    """

    place: int
    counts: Counts

    @property
    def sizes(self) -> list[int]:
        """Of the options, decreasing."""
        return [int(count) for count in self.counts]

    def some(self, places: Sequence[int]) -> "GroupItem":
        """With these options alone."""
        return replace(self, counts=self.counts[list(places)])


@dataclass(frozen=True, eq=False)
class BlockItem:
    """A block that may become a double layer.

    Attributes:
        block: The block.
        layers: What it may become, bytes decreasing; None, to stay in its form, is the first.
    """

    block: Block
    layers: tuple[Layer, ...]

    @property
    def sizes(self) -> list[int]:
        """Of the options, decreasing."""
        bytes_ = [layer.bytes for layer in self.layers if layer is not None]
        return [max(bytes_, default=0) + 1, *bytes_]

    def some(self, places: Sequence[int]) -> "BlockItem":
        """With these options alone."""
        return replace(self, layers=tuple(self.layers[place] for place in places))


@dataclass(frozen=True, eq=False)
class Items:
    """What a plan decides on; the items of a state are the groups, then the blocks.

    Attributes:
        groups: Groups that may lose units.
        blocks: Blocks that may become double layers.
        places: Of every item, where its options are among all that it has.
    """

    groups: Sequence[GroupItem]
    blocks: Sequence[BlockItem]
    places: Sequence[Sequence[int]]

    @property
    def lengths(self) -> list[int]:
        """How many options every item has."""
        return [len(places) for places in self.places]

    def all(self, state: State) -> State:
        """A state in the numbers of all options."""
        return tuple(own[place] for own, place in zip(self.places, state, strict=True))


@dataclass(frozen=True, eq=False)
class AllItems:
    """The items with all of their options.

    Attributes:
        groups: Groups that may lose units.
        blocks: Blocks that may become double layers.
    """

    groups: Sequence[GroupItem]
    blocks: Sequence[BlockItem]

    @property
    def _both(self) -> list[GroupItem | BlockItem]:
        return [*self.groups, *self.blocks]

    def coarse(self) -> Items:
        """With a ladder over all options."""
        return self._some([ladder(item.sizes) for item in self._both])

    def finer(self, state: State) -> Items:
        """With finer ladders around a state, which is in the numbers of all options."""
        items = zip(self._both, state, strict=True)
        return self._some([ladder(item.sizes, near) for item, near in items])

    def complete(self) -> Items:
        """With all options."""
        return self._some([tuple(range(len(item.sizes))) for item in self._both])

    def _some(self, places: Sequence[Sequence[int]]) -> Items:
        count = len(self.groups)
        groups = [item.some(own) for item, own in zip(self.groups, places[:count], strict=True)]
        blocks = [item.some(own) for item, own in zip(self.blocks, places[count:], strict=True)]
        return Items(groups, blocks, places)
