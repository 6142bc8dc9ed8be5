"""Harmonic pruning as a method of rewriting: which units every group may lose, and how it is tried.

What is removed is tried with consumers that reproduce what is gone from what is kept.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from onnx import ModelProto

from onnx_relusv.core.blocks import (
    SMALLEST,
    Block,
    Floats,
    Item,
    LinearMap,
    Runnable,
    Site,
    interpolated,
)
from onnx_relusv.core.measures import GroupCurve
from onnx_relusv.core.options import PlanOptions
from onnx_relusv.core.plans import ChannelMask
from onnx_relusv.core.reduction import FittedPlan, compensated_map, embed, masked_block
from onnx_relusv.graph.channels.walk import NO_UNIT, Channels
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.reference import reference
from onnx_relusv.measuring.blocks import Ground
from onnx_relusv.measuring.case import Case
from onnx_relusv.rewrites.prune.cost import Counts
from onnx_relusv.rewrites.prune.cutting import cut, zeroed
from onnx_relusv.rewrites.prune.orders import Ordered, ordered_groups
from onnx_relusv.rewrites.prune.units import (
    BlockUnits,
    Mask,
    Rounding,
    kept_channels,
    removed_mask,
    units_of_blocks,
)
from onnx_relusv.work.executors import Progress

# Of a group's units: what lies outside is not worth a measurement.
_LEAST_CUT, _MOST_CUT = 0.08, 0.85
# Without a budget; see docs/how-it-works.md for what it leaves of the accuracy.
DEFAULT_ERROR = 0.1


@dataclass(frozen=True, eq=False, kw_only=True)
class GroupItem(Item):
    """A group of units, some of which may be removed.

    Attributes:
        ordered: The group with the order in which its units go.
        place: Among all groups of the model.
        counts: (options,) int64, decreasing from all: how many units may be kept.
    """

    ordered: Ordered
    place: int
    counts: Counts

    @property
    def sizes(self) -> Floats:
        """(options,) float64, positive: what options are told apart by, from the largest down."""
        return self.counts.astype(np.float64)

    def some(self, places: Sequence[int]) -> Self:
        """With these options alone; the first one has to be among them."""
        chosen = list(places)
        return replace(
            self,
            errors=self.errors[chosen],
            damages=self.damages[chosen],
            counts=self.counts[chosen],
        )


def group_item(ordered: Ordered, place: int, rounding: Rounding) -> GroupItem:
    """A group with all that may be kept of it; damages are not known but where nothing is lost."""
    counts = np.array(rounding.counts(ordered.units), np.int64)
    errors = ordered.elimination.levels[ordered.units - counts]
    damages = np.where(errors <= SMALLEST, 0.0, np.nan)
    damages[0] = 0.0
    return GroupItem(
        key=ordered.group.key,
        errors=errors,
        damages=damages,
        ordered=ordered,
        place=place,
        counts=counts,
    )


class HarmonicPruning:
    """Removes units: neurons, channels, and all that belongs to them in other tensors."""

    name = "harmonic"
    nothing = "no units of this model can be removed"
    measuring = "Damage of the groups' cuts"

    def default_error(self, informed: bool) -> float:
        """The common relative error without any budget, whatever is known of the inputs."""
        return DEFAULT_ERROR

    def items(self, ground: Ground, planning: PlanOptions, progress: Progress) -> list[GroupItem]:
        """The groups that may lose units, ordered; none where the model's were not looked into."""
        channels = ground.case.channels
        if channels is None:
            return []
        ordered = ordered_groups(
            ground.case,
            ground.inputs,
            ground.workspace,
            channels,
            ground.moments,
            planning,
            progress,
        )
        places = {group.key: place for place, group in enumerate(channels.groups)}
        return [
            group_item(
                each,
                places[each.group.key],
                Rounding.of(each.units, planning, convolved=_is_convolved(each)),
            )
            for each in ordered
        ]

    def finer(self, item: GroupItem, ground: Ground, planning: PlanOptions) -> GroupItem:
        """The item: it has every number of units already."""
        return item

    def sites(self, items: Sequence[GroupItem], ground: Ground) -> list[Site]:
        """What is tried of the groups that anything reads; the others do no damage."""
        channels = ground.case.channels
        if channels is None:
            return []
        units = units_of_blocks(channels, ground.blocks)
        read = (item.ordered for item in items if item.ordered.group.consumers)
        return [
            _Trials(ground, channels, units, ordered).site()
            for ordered in read
            if ordered.units > 1
        ]

    def with_damages(
        self, item: GroupItem, damages: Mapping[tuple[Any, ...], float]
    ) -> tuple[GroupItem, tuple[GroupCurve, ...]]:
        """With the damages of all counts, and the curve they lie on.

        Args:
            item: A group with all of its options.
            damages: What was measured; the last of a try's marks is how many units were kept. None
                where nothing reads the units.
        """
        if not damages:
            return replace(item, damages=np.zeros(len(item.counts))), ()
        counts, measured = (int(mark[-1]) for mark in damages), np.array(list(damages.values()))
        curve = GroupCurve(
            key=item.key, counts=tuple(counts), damages=tuple(float(each) for each in measured)
        )
        levels, units = item.ordered.elimination.levels, item.ordered.units
        known = levels[units - np.array(curve.counts)]
        found = interpolated(item.errors, known, measured)
        found[item.errors <= SMALLEST] = 0.0
        return replace(item, damages=found), (curve,)

    def apply(
        self, case: Case, model: Model, blocks: tuple[Block, ...], fitted: FittedPlan
    ) -> tuple[Model, tuple[Block, ...]]:
        """The model without the units that a plan removes, and what is left of its blocks."""
        plan, channels = fitted.plan, case.channels
        if channels is None or not plan.groups:
            return model, blocks
        proto = cut(model, channels, removed_mask(channels, plan))
        return replace(model, proto=proto), _relocated(
            model, blocks, proto, kept_channels(case, plan)
        )


def _is_convolved(ordered: Ordered) -> bool:
    """Whether a 2-D Conv reads the units."""
    return any(len(block.geometry.kernel) == 2 for block in ordered.consumers)


def _relocated(
    model: Model, blocks: tuple[Block, ...], proto: ModelProto, left: Mapping[str, ChannelMask]
) -> tuple[Block, ...]:
    """The blocks with what is left of them, their nodes numbered as in a cut model."""
    before, nodes = model.proto.graph.node, proto.graph.node
    places = {name: index for index, node in enumerate(nodes) for name in node.output}
    return tuple(
        replace(
            masked_block(block, left.get(block.key)),
            nodes=tuple(places[before[index].output[0]] for index in block.nodes),
        )
        for block in blocks
    )


def counts_to_measure(units: int, most: int) -> tuple[int, ...]:
    """Increasing: a geometric ladder, of so many, of units that are kept."""
    shares = np.geomspace(_LEAST_CUT, _MOST_CUT, most)
    found = np.unique(np.clip(np.round(units * shares), 1, units - 1).astype(int))
    return tuple(int(count) for count in found)


class _Trials:
    """A group with some numbers of its units gone.

    Args:
        ground: The model.
        channels: Its groups.
        units: Of the blocks' channels, by key.
        ordered: The group.
    """

    def __init__(
        self, ground: Ground, channels: Channels, units: Mapping[str, BlockUnits], ordered: Ordered
    ) -> None:
        self._ground, self._channels, self._units = ground, channels, units
        self._ordered = ordered
        self._counts = counts_to_measure(ordered.units, ground.spending.most_cuts)

    def site(self) -> Site:
        """Where they are tried.

        What is no block, a ConvTranspose, gets nothing back: whole models are run, with zeros for
        what is gone.
        """
        order = hashlib.sha256(self._ordered.elimination.order.tobytes()).hexdigest()
        by_blocks = self._ordered.is_read_by_blocks
        return Site(
            key=self._ordered.group.key,
            blocks=self._ordered.consumers if by_blocks else (),
            tried=tuple((order, count) for count in self._counts),
            maps=self._maps,
            models=None if by_blocks else self._models,
        )

    def _removed(self) -> Iterator[Mask]:
        return (self._ordered.removed(self._channels.count, count) for count in self._counts)

    def _maps(self) -> Iterator[Mapping[str, LinearMap]]:
        return map(self._without, self._removed())

    def _models(self, outputs: tuple[str, ...]) -> Iterator[Runnable]:
        case = self._ground.case
        for removed in self._removed():
            proto, arrays = zeroed(case.model, self._channels, removed)
            model = replace(case.model, proto=proto)
            yield reference(model, case.blocks, self._without(removed), outputs, arrays)

    def _without(self, removed: Mask) -> dict[str, LinearMap]:
        """The consumers' maps that make do without some units, in the whole blocks' shapes."""
        found: dict[str, LinearMap] = {}
        for block in self._ordered.consumers:
            units = self._units[block.key]
            # The rows of a consumer that is a producer of the same group stay: they are not seen.
            unseen = np.full_like(units.outputs, NO_UNIT)
            kept = replace(units, outputs=unseen).kept(removed)
            linear, moments = self._ground.folding(block), self._ground.moments[block.key]
            reduced = compensated_map(block.geometry, linear, moments, kept)
            found[block.key] = embed(block.geometry, reduced, kept)
        return found
