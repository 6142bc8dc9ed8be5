"""What the states of a plan cost; quick, since planning asks often.

A state has the place of one option of every item. A double layer of a block that has lost channels
is smaller too, and is none any more where its rank is no lower than that of all that is left, or
where it would not save bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial

import numpy as np

from onnx_relusv.core.blocks import Block, Floats, Item
from onnx_relusv.core.plans import COST_BUDGETS, Candidate, Cost
from onnx_relusv.core.reduction import block_of_size
from onnx_relusv.graph.channels.walk import Channels
from onnx_relusv.planning.latency.kernels import ModelledTimes
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
# Input channels of one group, and output channels.
Size = tuple[int, int]
_COSTS = tuple(budget.cost for budget in COST_BUDGETS)


@dataclass(frozen=True, eq=False)
class Coupling:
    """What units have to do with blocks, and with bytes.

    Attributes:
        channels: The model's groups of units.
        units: Of the blocks' channels, by key.
        cut: What cuts save.
        times: What blocks take to run; None where that is not known.
        known: What double layers of blocks that have lost channels cost beyond what is left, as
            far as any search has asked for it: by block, channels that are left, form and rank.
        left: By block and channels that are left, what these take, likewise.
    """

    channels: Channels
    units: Mapping[str, BlockUnits]
    cut: CutCost
    times: ModelledTimes | None = None
    known: dict[tuple[object, ...], "More"] = field(default_factory=dict)
    left: dict[tuple[str, "Size"], float] = field(default_factory=dict)

    def seconds_of(self, times: ModelledTimes, block: Block, size: "Size") -> float:
        """What is left of a block takes, in its own form."""
        key = block.key, size
        if key not in self.left:
            self.left[key] = times.of(block_of_size(block, *size))
        return self.left[key]


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
        times = None if coupling is None else coupling.times
        parts = [
            _Part(item.block, p, item, self._size(item.block)) for p, item in self._layers.items()
        ]
        listed = {item.key for item in self._layers.values()}
        for key, block in {} if times is None else times.blocks.items():
            if coupling is not None and key in coupling.units and key not in listed:
                parts.append(_Part(block, None, None, self._size(block)))
        self._parts = tuple(parts)
        self._sizes = _Sizes([part.size for part in parts], len(groups))
        self._more = cache(partial(self._compared, times))
        self._extras = cache(partial(self._of_option, times))

    def _size(self, block: Block) -> "BlockSize":
        if self._coupling is None:
            return BlockSize(block, None, None)
        return BlockSize(block, self._coupling.channels, self._coupling.units.get(block.key))

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
        found = dict[str, Candidate]()
        for part, size in zip(self._parts, self._sizes.at(self.kept(state)), strict=True):
            if part.item is None or part.place is None:
                continue
            for option in _fallbacks(part.item, state[part.place]):
                layer = part.item.layers[option]
                if layer is not None and self._more(part, size, option) is not None:
                    found[part.item.key] = layer
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
        sizes = self._sizes.at(counts)
        if item in self._layers:
            found = self._base(*self._saved(counts))
            own: list[Floats] = []
            for part, size in zip(self._parts, sizes, strict=True):
                if part.place == item:
                    options = range(len(self._layers[item].layers))
                    own = [self._extras(part, size, option) for option in options]
                else:
                    found = found + self._extra(part, size, state)
            return (found + np.array(own))[:, self._columns]
        group, coupling = self._groups[item], self._coupling
        if coupling is None:
            return np.tile(self.of(state), (len(group.counts), 1))
        saved, saved_macs = coupling.cut.saved_with(counts, group.place, group.counts)
        all_costs = self._base(saved, saved_macs)
        changing = self._sizes.changing(counts, group.place, group.counts)
        for place, part in enumerate(self._parts):
            if place in changing:
                more = [self._extra(part, size, state) for size in changing[place]]
                all_costs = all_costs + np.array(more)
            else:
                all_costs = all_costs + self._extra(part, sizes[place], state)
        return all_costs[:, self._columns]

    def _of(self, state: State) -> Floats:
        counts = self.kept(state)
        found = self._base(*self._saved(counts))
        for part, size in zip(self._parts, self._sizes.at(counts), strict=True):
            found = found + self._extra(part, size, state)
        return found

    def _base(self, saved: float | Floats, saved_macs: float | Floats) -> Floats:
        """(..., 3): what the model costs without the units that save so much, and with no layer."""
        total = self._total
        bytes_ = total.bytes + self._added - self._share * saved
        macs = total.macs - saved_macs
        return np.stack([bytes_, macs, np.full_like(macs, total.latency)], axis=-1)

    def _saved(self, counts: Counts) -> tuple[float, float]:
        return (0.0, 0.0) if self._coupling is None else self._coupling.cut.saved(counts)

    def _extra(self, part: "_Part", size: Size, state: State) -> Floats:
        """(3,): what a state's option of a block takes more than what is left of the block."""
        return self._extras(part, size, 0 if part.place is None else state[part.place])

    def _of_option(
        self, times: ModelledTimes | None, part: "_Part", size: Size, option: int
    ) -> Floats:
        """(3,): the same for any option of a block of which so many channels are left.

        What is left of the block takes less time than the whole, which counts here.
        """
        less = 0.0
        if self._coupling is not None and times is not None and size != part.size.whole:
            whole, left = (
                self._coupling.seconds_of(times, part.block, each)
                for each in (part.size.whole, size)
            )
            less = left - whole
        for each in () if part.item is None else _fallbacks(part.item, option):
            more = self._more(part, size, each)
            if more is not None:
                return np.array((self._share * more[0], more[1], more[2] + less))
        return np.array((0.0, 0.0, less))

    def _compared(
        self, times: ModelledTimes | None, part: "_Part", size: Size, option: int
    ) -> More:
        """What a double layer costs less what is left of its block; None where it is none."""
        item, block = part.item, part.block
        layer = None if item is None else item.layers[option]
        if item is None or layer is None:
            return None
        now = item.now
        if size == part.size.whole:
            more = layer.latency - now.latency if now.latency == now.latency else 0.0
            return float(layer.bytes - now.bytes), float(layer.macs - now.macs), more
        known = {} if self._coupling is None else self._coupling.known
        key = (block.key, size, layer.form, layer.rank, layer.precision)
        if key not in known:
            seconds = 0.0
            if self._coupling is not None and times is not None:
                seconds = self._coupling.seconds_of(times, block, size)
            known[key] = _cost_beyond(block, block_of_size(block, *size), layer, times, seconds)
        return known[key]


@dataclass(frozen=True, eq=False)
class _Part:
    """A block whose cost depends on the state.

    Attributes:
        block: The block.
        place: Of its item among all; None where it has none.
        item: What it may become; None where it stays.
        size: Its channels.
    """

    block: Block
    place: int | None
    item: LayerItem | None
    size: "BlockSize"


class _Sizes:
    """The channels of many blocks at once.

    Args:
        sizes: Of each.
        groups: How many groups of units there are.
    """

    def __init__(self, sizes: Sequence["BlockSize"], groups: int) -> None:
        axes = [size.axes(groups) for size in sizes]
        self._fixed = np.array([fixed for fixed, _ in axes]).reshape(len(sizes), 2)
        self._slopes = np.array([slopes for _, slopes in axes]).reshape(len(sizes), 2, groups)
        self._touched = [
            np.flatnonzero(self._slopes[:, :, place].any(axis=1)) for place in range(groups)
        ]

    def at(self, counts: Counts) -> list[Size]:
        """Input channels of one group, and output channels, of all blocks."""
        return _whole(self._fixed + self._slopes @ counts)

    def changing(self, counts: Counts, group: int, options: Counts) -> dict[int, list[Size]]:
        """By place, of the blocks that depend on a group, with each of some numbers of its units.

        Args:
            counts: (groups,) int64: units that are kept.
            group: Which one.
            options: (options,) int64: units that are kept of it.
        """
        found = {}
        for place in self._touched[group].tolist():
            slopes = self._slopes[place]
            now = self._fixed[place] + slopes @ counts
            steps = np.multiply.outer(options - counts[group], slopes[:, group])
            found[place] = _whole(now + steps)
        return found


def _whole(lengths: Floats) -> list[Size]:
    return [(inputs, outputs) for inputs, outputs in np.rint(lengths).astype(int).tolist()]


def _fallbacks(item: LayerItem, option: int) -> tuple[int, ...]:
    """An option, and the one that a block has where it is no double layer any more."""
    dense, layer = item.dense_place, item.layers[option]
    if layer is None or dense is None or option == dense:
        return (option,)
    return option, dense


def _cost_beyond(
    block: Block, left: Block, layer: Candidate, times: ModelledTimes | None, seconds: float
) -> More:
    """What a double layer of what is left of a block costs more; None where it saves nothing.

    Args:
        block: The block.
        left: What is left of it.
        layer: The double layer.
        times: What blocks take; None where that is not known.
        seconds: What is left of it takes.
    """
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
    seconds_more = 0.0
    if times is not None:
        layered = replace(layer, rank=rank)
        seconds_more = times.of(left, layered) - seconds
    return float(bytes_more), float(macs_more), seconds_more


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
        fixed, slopes = self.axes(len(counts))
        return _whole((fixed + slopes @ counts)[None])[0]

    def axes(self, groups: int) -> tuple[Floats, Floats]:
        """(2,) what of both stays in any case, and (2, groups) how often units come along them."""
        if self._along is None:
            return np.array(self.whole, np.float64), np.zeros((2, groups))
        fixed, slopes = zip(*self._along, strict=True)
        return np.array(fixed), np.array(slopes).reshape(2, groups)


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
