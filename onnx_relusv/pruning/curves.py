"""Damage curves of groups: what the removal of units, by itself, does to the network's outputs.

A few counts of every group are tried on held-out samples, with consumers that reproduce what is
gone from what is kept; between them damage follows the level, as that of double layers does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnx_relusv.damage import thinned
from onnx_relusv.damage_measure import DamageMeasure
from onnx_relusv.decisions import GroupCurve
from onnx_relusv.graph.channel_records import NO_UNIT, ChannelGroup
from onnx_relusv.graph.cutting import zeroed
from onnx_relusv.graph.reference import reference
from onnx_relusv.opened import BlockMoments, Opened
from onnx_relusv.probing import Opening, TryTogether, probe_together
from onnx_relusv.progress import Progress
from onnx_relusv.pruning.elimination import Elimination
from onnx_relusv.pruning.kept import KeptCurves
from onnx_relusv.pruning.units import BlockUnits, Mask
from onnx_relusv.records import Block, Floats, LinearMap, Runnable
from onnx_relusv.reduction import reduced_map, whole_map
from onnx_relusv.samples import Samples
from onnx_relusv.whole_runs import whole_damages

MOST_MEASURED = 5
# Of a group's units: what lies outside is not worth a measurement.
_LEAST_SHARE, _MOST_SHARE = 0.08, 0.85
_SMALLEST = 1e-12


@dataclass(frozen=True, eq=False)
class Ordered:
    """A group of units, the order in which they go, and the blocks that read them.

    Attributes:
        group: The group.
        elimination: Its order.
        consumers: Blocks that read its units, in topological order.
    """

    group: ChannelGroup
    elimination: Elimination
    consumers: tuple[Block, ...]

    @property
    def is_read_by_blocks(self) -> bool:
        """Whether nothing else reads its units."""
        return len(self.consumers) == len(self.group.consumers)

    @property
    def units(self) -> int:
        """How many units the group has."""
        return len(self.group.units)

    def level(self, kept: int) -> float:
        """The level with so many units kept."""
        return float(self.elimination.levels[self.units - kept])

    def removed(self, total: int, kept: int) -> Mask:
        """(total,) bool: all units of the model but those of this group that go."""
        found = np.zeros(total, np.bool_)
        gone = len(self.group.units) - kept
        found[self.group.units.start + self.elimination.order[:gone]] = True
        return found


def counts_to_measure(units: int) -> tuple[int, ...]:
    """Increasing: a geometric ladder of units that are kept."""
    shares = np.geomspace(_LEAST_SHARE, _MOST_SHARE, MOST_MEASURED)
    found = np.unique(np.clip(np.round(units * shares), 1, units - 1).astype(int))
    return tuple(int(count) for count in found)


def group_curves(
    opened: Opened,
    samples: Samples,
    ordered: Sequence[Ordered],
    units: Mapping[str, BlockUnits],
    total: int,
    moments: BlockMoments,
    progress: Progress,
    measure: DamageMeasure,
) -> dict[str, GroupCurve]:
    """Measures the damage curves of all groups that anything reads.

    What is no block, a ConvTranspose, gets nothing back: it is tried with zeros for what is gone.

    Args:
        opened: The model.
        samples: Held out from what the moments are of.
        ordered: The groups.
        units: Of the blocks' channels, by key.
        total: How many units the model has.
        moments: Of the blocks' inputs.
        progress: Told of the tries.
        measure: What damage is.

    Returns:
        By group key. A group that nothing reads does no damage.
    """
    read = {one.group.key: one for one in ordered if one.group.consumers and one.units > 1}
    counts = {key: counts_to_measure(one.units) for key, one in read.items()}
    tries = sum(map(len, counts.values()))
    few = thinned(opened, samples, tries)
    kept = KeptCurves(opened, measure, counts)
    known = {
        key: curve
        for key, one in read.items()
        if (curve := kept.get(key, one.elimination)) is not None
    }

    def examine(opening: Opening, divergence: TryTogether) -> GroupCurve:
        one = read[opening.key]
        damages = tuple(
            divergence(_without(opened, one, units, one.removed(total, count), moments))
            for count in counts[opening.key]
        )
        return made(one, damages)

    def run_whole(one: Ordered) -> GroupCurve:
        cuts = (one.removed(total, count) for count in counts[one.group.key])
        names = measure.answers.outputs
        changed = (_zeroed(opened, one, units, removed, moments, names) for removed in cuts)
        damages = whole_damages(opened, few, changed, measure, advance)
        return made(one, damages)

    def made(one: Ordered, damages: tuple[float, ...]) -> GroupCurve:
        key = one.group.key
        curve = GroupCurve(key=key, counts=counts[key], damages=damages)
        kept.put(curve, one.elimination)
        return curve

    fitted = {key: one for key, one in read.items() if one.is_read_by_blocks}
    openings = [Opening(key, one.consumers) for key, one in fitted.items()]
    with progress.stage("Damage of the groups' cuts", tries) as advance:
        advance(sum(len(curve.counts) for curve in known.values()))
        found = probe_together(opened, few, openings, {}, examine, advance, measure, known)
        others = {key: one for key, one in read.items() if key not in found}
        found |= {key: run_whole(one) for key, one in others.items()}
        return {key: found[key] for key in read}


def _zeroed(
    opened: Opened,
    one: Ordered,
    units: Mapping[str, BlockUnits],
    removed: Mask,
    moments: BlockMoments,
    exposed: tuple[str, ...],
) -> Runnable:
    """The model with zeros for what is gone, and blocks that make do without it."""
    assert opened.channels is not None  # whoever has an order has looked
    proto, arrays = zeroed(opened.model, opened.channels, removed)
    dense = _without(opened, one, units, removed, moments)
    return reference(replace(opened.model, proto=proto), opened.blocks, dense, exposed, arrays)


def _without(
    opened: Opened,
    one: Ordered,
    units: Mapping[str, BlockUnits],
    removed: Mask,
    moments: BlockMoments,
) -> dict[str, LinearMap]:
    """The consumers' maps that make do without some units, in the whole blocks' shapes."""
    found: dict[str, LinearMap] = {}
    for block in one.consumers:
        own = units[block.key]
        # The rows of a consumer that is a producer of the same group stay: they are not seen.
        kept = replace(own, outputs=np.full_like(own.outputs, NO_UNIT)).kept(removed)
        linear = opened.folding(block)
        reduced = reduced_map(block.geometry, linear, moments[block.key], kept)
        found[block.key] = whole_map(block.geometry, reduced, kept)
    return found


def damages(curve: GroupCurve | None, elimination: Elimination, units: int) -> Floats:
    """(units + 1,) float64: the damage with so many units gone.

    Args:
        curve: What was measured; None where nothing reads the units.
        elimination: The group's order.
        units: How many it has.
    """
    if curve is None:
        return np.zeros(units + 1)
    levels = np.log(np.maximum(elimination.levels, _SMALLEST))
    gone = units - np.array(curve.counts[::-1])
    # More units never hurt; what says otherwise is noise of the samples.
    measured = np.maximum.accumulate(np.maximum(curve.damages[::-1], _SMALLEST))
    known, increasing = np.unique(levels[gone], return_index=True)
    logarithms = np.log(measured[increasing])
    inside = np.interp(levels, known, logarithms)
    below, above = np.minimum(levels - known[0], 0), np.maximum(levels - known[-1], 0)
    found = np.exp(inside + 2 * (below + above))
    found[elimination.levels <= _SMALLEST] = 0.0
    return np.asarray(np.maximum.accumulate(found))
