"""Which units a block's channels belong to, and what is left of it once some are removed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnx_relusv.decisions import GroupChoice, Kept, Plan
from onnx_relusv.graph.channel_records import NO_UNIT, Channels, Units
from onnx_relusv.graph.cutting import staying
from onnx_relusv.records import Block, ReadOnlyArrays

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class BlockUnits(ReadOnlyArrays):
    """The units of a block's channels, numbered over the whole model.

    Attributes:
        inputs: (input channels of one group,) int64, the same in all groups; `NO_UNIT` where a
            channel belongs to none.
        outputs: (output channels,) int64, likewise.
        twins: (input channels of one group,) int64: for every one the first that it always
            equals, or itself.
        dead: (input channels of one group,) bool: which are always zero.
    """

    inputs: Units
    outputs: Units
    twins: Units
    dead: Mask

    def kept(self, removed: Mask) -> Kept | None:
        """What is left of the block; None where it loses nothing.

        Args:
            removed: (units,) bool, of the whole model.
        """
        inputs, outputs = (
            np.flatnonzero(staying(units, removed)) for units in (self.inputs, self.outputs)
        )
        if len(inputs) == len(self.inputs) and len(outputs) == len(self.outputs):
            return None
        return Kept(inputs=inputs, outputs=outputs, twins=self.twins, dead=self.dead)


def units_of_blocks(channels: Channels, blocks: Iterable[Block]) -> dict[str, BlockUnits]:
    """By key, the units of the blocks that have any."""
    produced = {axis.node: axis.units for axis in channels.produced}
    consumed = {axis.node: axis.units for axis in channels.consumed}
    found: dict[str, BlockUnits] = {}
    for block in blocks:
        node, geometry = block.nodes[0], block.geometry
        if node in produced or node in consumed:
            nothing = [
                np.full(length, NO_UNIT, np.int64)
                for length in (geometry.in_channels // geometry.groups, geometry.out_channels)
            ]
            inputs = consumed.get(node, nothing[0])
            found[block.key] = BlockUnits(
                inputs=inputs,
                outputs=produced.get(node, nothing[1]),
                twins=_first_equal(inputs, channels.twins),
                dead=_dead(inputs, channels.dead),
            )
    return found


def _dead(inputs: Units, dead: Mask | None) -> Mask:
    found = np.zeros(len(inputs), np.bool_)
    if dead is not None:
        known = inputs != NO_UNIT
        found[known] = dead[inputs[known]]
    return found


def _first_equal(inputs: Units, twins: Units | None) -> Units:
    """(channels,) int64: for every one the first that is of an equal unit.

    One unit may have several channels, a Flatten's run of them: the first equals the other's
    first, the second its second, and so on.
    """
    found = np.arange(len(inputs), dtype=np.int64)
    if twins is None:
        return found
    first: dict[tuple[int, int], int] = {}
    seen: dict[int, int] = {}
    for place, unit in enumerate(inputs.tolist()):
        if unit != NO_UNIT:
            run = seen.get(unit, 0)
            seen[unit] = run + 1
            found[place] = first.setdefault((int(twins[unit]), run), place)
    return found


def removes_units(plan: Plan) -> bool:
    """Whether any group of a plan loses units."""
    return any(len(choice.kept) < choice.units for choice in plan.groups)


def removed_units(channels: Channels, groups: Sequence[GroupChoice]) -> Mask:
    """(units,) bool: what a plan's groups do not keep.

    Raises:
        KeyError: A group is not the model's.
    """
    numbers: Mapping[str, range] = {group.key: group.units for group in channels.groups}
    removed = np.zeros(channels.count, np.bool_)
    for choice in groups:
        units = np.arange(numbers[choice.key].start, numbers[choice.key].stop)
        removed[units] = True
        removed[units[list(choice.kept)]] = False
    return removed
