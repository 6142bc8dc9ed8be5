"""What the states of a plan cost; quick, since planning asks often.

A state has the place of one option of every item. A double layer of a block that has lost channels
is smaller too, and is none any more where its rank is no lower than that of all that is left, or
where it would not save bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from onnx_relusv.core.blocks import Block, Floats, Item
from onnx_relusv.core.plans import COST_BUDGETS, Candidate, ChannelMask, Cost
from onnx_relusv.core.reduction import masked_block
from onnx_relusv.graph.channels.walk import Channels
from onnx_relusv.planning.limits import Origin
from onnx_relusv.planning.search import State
from onnx_relusv.rewrites.low_rank.candidates import block_macs, candidate_cost, item_size
from onnx_relusv.rewrites.low_rank.forms import FORMS
from onnx_relusv.rewrites.low_rank.method import LayerItem
from onnx_relusv.rewrites.prune.cost import Counts, CutCost, counts_along
from onnx_relusv.rewrites.prune.method import GroupItem
from onnx_relusv.rewrites.prune.units import BlockUnits

# Bytes, multiply-accumulates and seconds; None where there is no double layer.
More = tuple[float, float, float] | None
_COSTS = tuple(budget.cost for budget in COST_BUDGETS)


@dataclass(frozen=True, eq=False)
class Coupling:
    """What units have to do with blocks, and with bytes.

    Attributes:
        channels: The model's groups of units.
        units: Of the blocks' channels, by key.
        cut: What cuts save.
        known: What double layers of blocks that have lost channels cost beyond what is left, as
            far as any search has asked for it: by block, channels that are left, form and rank.
    """

    channels: Channels
    units: Mapping[str, BlockUnits]
    cut: CutCost
    known: dict[tuple[object, ...], "More"] = field(default_factory=dict)


class PlanCost:
    """What the states of a plan cost.

    Args:
        items: With their options.
        coupling: What units have to do with blocks; None where no units go.
        origin: What plans are for.
        names: Of the costs that have budgets.
    """

    def __init__(
        self, items: Sequence[Item], coupling: Coupling | None, origin: Origin, names: Sequence[str]
    ) -> None:
        self._coupling = coupling
        self._total = origin.total
        self._added = origin.added_bytes - origin.halved_bytes
        self._share = origin.number_share
        self._columns = [_COSTS.index(name) for name in names]
        groups = () if coupling is None else coupling.channels.groups
        self._whole = np.array([len(group.units) for group in groups], np.int64)
        self._groups = {p: item for p, item in enumerate(items) if isinstance(item, GroupItem)}
        self._layers = {p: item for p, item in enumerate(items) if isinstance(item, LayerItem)}
        self._sizes = {
            place: BlockSize(
                item.block,
                None if coupling is None else coupling.channels,
                None if coupling is None else coupling.units.get(item.key),
            )
            for place, item in self._layers.items()
        }
        self._more = cache(self._compared)

    @property
    def adds_up(self) -> bool:
        """Whether what an item costs does not depend on the others."""
        return not self._groups

    def kept(self, state: State) -> Counts:
        """(groups,) int64: how many units of every group of the model a state keeps."""
        found = self._whole.copy()
        for place, item in self._groups.items():
            found[item.place] = item.counts[state[place]]
        return found

    def layers(self, state: State) -> dict[str, Candidate]:
        """By key, the double layers that a state really has."""
        counts, found = self.kept(state), dict[str, Candidate]()
        for place, item in self._layers.items():
            size = self._sizes[place].at(counts)
            for option in self._fallbacks(place, state[place]):
                layer = item.layers[option]
                if layer is not None and self._more(place, size, option) is not None:
                    found[item.key] = layer
                    break
        return found

    def total(self, state: State) -> Cost:
        """What the model costs in a state."""
        bytes_, macs, latency = self._of(state)
        return Cost(bytes=int(bytes_), macs=int(macs), latency=float(latency))

    def of(self, state: State) -> Floats:
        """(budgets,) of a state."""
        return self._of(state)[self._columns]

    def options(self, state: State, item: int) -> Floats:
        """(options, budgets): of the state with one item at each of its options."""
        counts = self.kept(state)
        if item in self._layers:
            others = self._base(*self._saved(counts)) + self._layered(state, counts, {item})
            options = range(len(self._layers[item].layers))
            costs = [others + self._extra(item, counts, option) for option in options]
            return np.array(costs)[:, self._columns]
        group, coupling = self._groups[item], self._coupling
        if coupling is None:
            return np.tile(self.of(state), (len(group.counts), 1))
        saved, saved_macs = coupling.cut.saved_with(counts, group.place, group.counts)
        touched = {
            place
            for place, size in self._sizes.items()
            if self._layers[place].layers[state[place]] is not None and size.depends_on(group.place)
        }
        others, found = self._layered(state, counts, touched), []
        for count, *less in zip(group.counts, saved, saved_macs, strict=True):
            counts[group.place] = count
            more = (self._extra(place, counts, state[place]) for place in touched)
            found.append(self._base(*less) + others + sum(more, np.zeros(3)))
        return np.array(found)[:, self._columns]

    def _of(self, state: State) -> Floats:
        counts = self.kept(state)
        return self._base(*self._saved(counts)) + self._layered(state, counts)

    def _base(self, saved: float, saved_macs: float) -> Floats:
        total = self._total
        bytes_ = total.bytes + self._added - self._share * saved
        return np.array([bytes_, total.macs - saved_macs, total.latency])

    def _saved(self, counts: Counts) -> tuple[float, float]:
        return (0.0, 0.0) if self._coupling is None else self._coupling.cut.saved(counts)

    def _layered(
        self, state: State, counts: Counts, without: set[int] | frozenset[int] = frozenset()
    ) -> Floats:
        """What the double layers take beyond what is left of their blocks."""
        found = np.zeros(3)
        for place in self._layers:
            if self._layers[place].layers[state[place]] is not None and place not in without:
                found += self._extra(place, counts, state[place])
        return found

    def _extra(self, place: int, counts: Counts, option: int) -> Floats:
        size = self._sizes[place].at(counts)
        for each in self._fallbacks(place, option):
            more = self._more(place, size, each)
            if more is not None:
                return np.array((self._share * more[0], *more[1:]))
        return np.zeros(3)

    def _fallbacks(self, place: int, option: int) -> tuple[int, ...]:
        """An option, and the one that a block has where it is no double layer any more."""
        dense = self._layers[place].dense_place
        layer = self._layers[place].layers[option]
        if layer is None or dense is None or option == dense:
            return (option,)
        return option, dense

    def _compared(self, place: int, size: tuple[int, int], option: int) -> More:
        """What a double layer costs less what is left of its block; None where it is none."""
        item = self._layers[place]
        layer, block, now = item.layers[option], item.block, item.now
        if layer is None:
            return None
        if size == self._sizes[place].whole:
            more = layer.latency - now.latency if now.latency == now.latency else 0.0
            return float(layer.bytes - now.bytes), float(layer.macs - now.macs), more
        known = {} if self._coupling is None else self._coupling.known
        key = (block.key, size, layer.form, layer.rank, layer.precision)
        if key not in known:
            known[key] = _cost_beyond(block, block_of_size(block, *size), layer)
        return known[key]


def _cost_beyond(block: Block, left: Block, layer: Candidate) -> More:
    """What a double layer of what is left of a block costs more; None where it saves nothing."""
    form, rank = FORMS[layer.form], layer.rank
    if form.one_layer:
        rank = form.largest_rank(left.geometry)
    elif rank >= form.largest_rank(left.geometry):
        return None
    cost = candidate_cost(left, layer.form, rank, item_size(block), integers=layer.is_int8)
    bytes_more = cost.bytes - bytes_left(block, left)
    macs_more = cost.macs - block_macs(left)
    if bytes_more >= 0 or macs_more > 0:
        return None
    return float(bytes_more), float(macs_more), 0.0


class BlockSize:
    """How many channels of a block are left, by how many units of every group are.

    Args:
        block: The block.
        channels: The model's groups of units; None where no units go.
        units: Of its channels; None where it has none.
    """

    def __init__(self, block: Block, channels: Channels | None, units: BlockUnits | None) -> None:
        geometry = block.geometry
        self.whole = geometry.in_channels // geometry.groups, geometry.out_channels
        self._along = None
        if channels is not None and units is not None:
            self._along = [counts_along(axis, channels) for axis in (units.inputs, units.outputs)]

    def at(self, counts: Counts) -> tuple[int, int]:
        """Input channels of one group, and output channels."""
        if self._along is None:
            return self.whole
        inputs, outputs = (fixed + slope @ counts for fixed, slope in self._along)
        return round(float(inputs)), round(float(outputs))

    def depends_on(self, place: int) -> bool:
        """Whether a group is among those that count."""
        return self._along is not None and any(slope[place] for _, slope in self._along)


def bytes_left(block: Block, left: Block) -> float:
    """What a block takes once channels are gone, and its double layer will not.

    The weight loses what it loses; the bias, a normalisation that is folded in and the nodes, all
    that is counted beside it, are taken to be in proportion to the output channels.
    """
    if left is block:
        return float(block.original_bytes)
    item, outputs = item_size(block), left.geometry.out_channels / block.geometry.out_channels
    weight, weight_left = (item * each.geometry.numbers for each in (block, left))
    # With the first channel, a weight that was computed becomes one that is stored.
    return weight_left + outputs * (block.original_bytes - block.surplus_bytes - weight)


def block_of_size(block: Block, inputs: int, outputs: int) -> Block:
    """A block with so many channels left; which ones does not count."""
    geometry = block.geometry
    if (inputs * geometry.groups, outputs) == (geometry.in_channels, geometry.out_channels):
        return block
    return masked_block(block, ChannelMask(inputs=np.arange(inputs), outputs=np.arange(outputs)))
