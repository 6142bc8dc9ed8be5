"""Which units a block's channels belong to, and what is left of it once some are removed.

Units that are equal to others whatever the input, since all that makes them is equal.

Units of one group are duplicates where every constant that is cut with them has equal entries for
both: the rows of all producers, biases, vectors of BatchNormalizations, slopes, depthwise kernels.
Only one of them has to stay, and their consumers' columns are added up.

What was declared of a model's inputs, held against the samples that there are.

Which numbers of channels may be left of a group.

Which groups may lose units, which is known before anything is measured.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnx_relusv.core.blocks import Block, ReadOnlyArrays
from onnx_relusv.core.errors import BudgetError, InputError
from onnx_relusv.core.options import AUTO, PlanOptions
from onnx_relusv.core.plans import ChannelMask, GroupChoice, Plan
from onnx_relusv.graph.channels.walk import NO_UNIT, ChannelGroup, Channels, Units
from onnx_relusv.graph.constants import Constants
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.protos import known_constant
from onnx_relusv.measuring.case import Case
from onnx_relusv.rewrites.prune.cutting import staying
from onnx_relusv.samples.samples import Samples


def duplicates(model: Model, channels: Channels) -> Units:
    """(units,) int64: of every unit, the first of its group that it is equal to, or itself."""
    constants, nodes = Constants(model), model.proto.graph.node
    marks = [hashlib.sha256() for _ in range(channels.count)]
    for axis in (*channels.produced, *channels.carried):
        name = nodes[axis.node].input[axis.slot]
        values = known_constant(constants.array(name), name)
        entries = np.ascontiguousarray(np.moveaxis(values, axis.axis, 0))
        for unit, entry in zip(axis.units.tolist(), entries, strict=True):
            if unit != NO_UNIT:
                # Which constant it is, so that none is taken for another.
                marks[unit].update(f"{axis.node} {axis.slot} {axis.axis} ".encode())
                marks[unit].update(entry.tobytes())
    found = np.arange(channels.count, dtype=np.int64)
    for group in channels.groups:
        first: dict[bytes, int] = {}
        for unit in group.units:
            found[unit] = first.setdefault(marks[unit].digest(), unit)
    return found


_BATCH = 256


def check_range(samples: Samples, input_range: tuple[float, float]) -> None:
    """Checks that no sample contradicts what was declared.

    Args:
        samples: All that there are.
        input_range: Between which numbers all inputs lie, as far as their own type tells.

    Raises:
        InputError: One lies outside.
    """
    for batch in samples.batches(_BATCH, stacked=True):
        for name, values in batch.feeds.items():
            if values.dtype.kind not in "fiu" or not values.size:
                continue
            low, high = input_range
            if values.dtype.kind == "f":
                low, high = (float(values.dtype.type(end)) for end in input_range)
            for value in (values.min(), values.max()):
                if not low <= value <= high:
                    raise InputError(
                        f"{samples.name}: input {name} has the value {value:g}, outside "
                        f"--input-range {input_range[0]:g} {input_range[1]:g}."
                    )


@dataclass(frozen=True)
class Rounding:
    """What the user allows.

    Attributes:
        multiple: Numbers of channels are multiples of it, or all.
        least: They are no fewer.
    """

    multiple: int = 1
    least: int = 1

    @classmethod
    def of(cls, units: int, planning: PlanOptions, *, convolved: bool = True) -> "Rounding":
        """What is allowed of a group of so many units.

        Args:
            units: How many it has.
            planning: What plans may do.
            convolved: Whether 2-D Convs read them, whose kernels compute whole packs of channels.
        """
        of_kernels = planning.round_to == AUTO and not convolved
        multiple = 1 if of_kernels else planning.multiple(units)
        return cls(multiple, planning.keep_at_least)

    def counts(self, units: int) -> tuple[int, ...]:
        """Decreasing from all: what may be kept of so many units."""
        least = min(max(self.least, 1), units)
        found = {units}
        found.update(
            count for count in range(self.multiple, units, self.multiple) if count >= least
        )
        return tuple(sorted(found, reverse=True))


# Reasons that a message names; the report has all of them.
_MOST_REASONS = 3


def free_groups(case: Case, planning: PlanOptions) -> tuple[ChannelGroup, ...]:
    """The groups that the user's patterns let change, in topological order.

    None without channels.
    """
    if case.channels is None:
        return ()
    blocks, nodes = blocks_by_output(case), case.model.proto.graph.node
    kept = [
        axis.units
        for axis in case.channels.carried
        if planning.excludes(nodes[axis.node].output[0])
    ]
    return tuple(
        group
        for group in case.channels.groups
        if _may_change(group, blocks, planning) and not _has_any(group, kept)
    )


def shrinking_groups(case: Case, planning: PlanOptions) -> tuple[ChannelGroup, ...]:
    """Those of them that --round-to and --keep-at-least let lose a unit."""
    return tuple(
        group
        for group in free_groups(case, planning)
        if len(Rounding.of(len(group.units), planning).counts(len(group.units))) > 1
    )


def nothing_to_remove(case: Case, planning: PlanOptions) -> BudgetError:
    """The error where no group may lose units, with the reasons."""
    advice = "Use --method double-layer, which makes blocks smaller by their ranks."
    return BudgetError(
        f"no units of this model can be removed: {_why(case, planning)}. Nothing was written."
        + f" {advice}" * bool(case.blocks)
    )


def blocks_by_output(case: Case) -> dict[str, Block]:
    """The blocks by the tensors that their linear maps write."""
    nodes = case.model.proto.graph.node
    return {str(nodes[block.nodes[0]].output[0]): block for block in case.blocks}


def _why(case: Case, planning: PlanOptions) -> str:
    channels = case.channels
    if channels is not None and channels.groups:
        if not free_groups(case, planning):
            return "--include and --exclude leave no group whose blocks may all change"
        return "--round-to and --keep-at-least leave every group all of its channels"
    return _refused(channels) or "it has no Gemm, MatMul or Conv with constant weights"


def _refused(channels: Channels | None) -> str:
    """The commonest reasons why channels stay; nothing where there are none."""
    counted = Counter(one.reason for one in (() if channels is None else channels.refusals))
    reasons = [
        reason if count == 1 else f"{reason} ({count} layers)"
        for reason, count in counted.most_common(_MOST_REASONS)
    ]
    more = sum(counted.values()) - sum(n for _, n in counted.most_common(_MOST_REASONS))
    return "; ".join([*reasons, *([f"{more} more layers stay"] if more else [])])


def _may_change(group: ChannelGroup, blocks: Mapping[str, Block], planning: PlanOptions) -> bool:
    """Whether the user's patterns let all change that writes or reads a group's units.

    What is no block is known by the tensor that it writes.
    """
    names = (*group.producers, *group.consumers)
    return all(planning.allows(blocks[name].key if name in blocks else name) for name in names)


def _has_any(group: ChannelGroup, axes: Iterable[Units]) -> bool:
    """Whether some of a group's units run along an axis, as of an excluded depthwise Conv."""
    first, end = group.units.start, group.units.stop
    return any(((units >= first) & (units < end)).any() for units in axes)


Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class BlockUnits(ReadOnlyArrays):
    """The units of a block's channels, numbered over the whole model.

    Attributes:
        inputs: (input channels of one group,) int64, the same in all groups; `NO_UNIT` where a
            channel belongs to none.
        outputs: (output channels,) int64, likewise.
        duplicates: (input channels of one group,) int64: for every one the first that it always
            equals, or itself.
    """

    inputs: Units
    outputs: Units
    duplicates: Units

    def kept(self, removed: Mask) -> ChannelMask | None:
        """What is left of the block; None where it loses nothing.

        Args:
            removed: (units,) bool, of the whole model.
        """
        inputs, outputs = (
            np.flatnonzero(staying(units, removed)) for units in (self.inputs, self.outputs)
        )
        if len(inputs) == len(self.inputs) and len(outputs) == len(self.outputs):
            return None
        return ChannelMask(inputs=inputs, outputs=outputs, duplicates=self.duplicates)


def units_of_blocks(channels: Channels, blocks: Iterable[Block]) -> dict[str, BlockUnits]:
    """By key, the units of the blocks that have any."""
    produced = {axis.node: axis.units for axis in channels.produced}
    consumed = {axis.node: axis.units for axis in channels.consumed}
    # A depthwise Conv makes no units of its own: those that it reads go on.
    carried = {axis.node: axis.units for axis in channels.carried if axis.slot == 1}
    found: dict[str, BlockUnits] = {}
    for block in blocks:
        node, geometry = block.nodes[0], block.geometry
        if geometry.is_depthwise and node in carried:
            found[block.key] = BlockUnits(
                inputs=np.full(1, NO_UNIT, np.int64),
                outputs=carried[node],
                duplicates=np.zeros(1, np.int64),
            )
        elif node in produced or node in consumed:
            nothing = [
                np.full(length, NO_UNIT, np.int64)
                for length in (geometry.in_channels // geometry.groups, geometry.out_channels)
            ]
            inputs = consumed.get(node, nothing[0])
            found[block.key] = BlockUnits(
                inputs=inputs,
                outputs=produced.get(node, nothing[1]),
                duplicates=_first_equal(inputs, channels.duplicates),
            )
    return found


def _first_equal(inputs: Units, duplicates: Units | None) -> Units:
    """(channels,) int64: for every one the first that is of an equal unit.

    One unit may have several channels, a Flatten's run of them: the first equals the other's
    first, the second its second, and so on.
    """
    found = np.arange(len(inputs), dtype=np.int64)
    if duplicates is None:
        return found
    first: dict[tuple[int, int], int] = {}
    seen: dict[int, int] = {}
    for place, unit in enumerate(inputs.tolist()):
        if unit != NO_UNIT:
            run = seen.get(unit, 0)
            seen[unit] = run + 1
            found[place] = first.setdefault((int(duplicates[unit]), run), place)
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


def kept_channels(case: Case, plan: Plan) -> dict[str, ChannelMask]:
    """By key, what a plan leaves of the blocks that lose channels.

    Raises:
        InputError: The plan removes units that the model does not have.
    """
    if not plan.groups or case.channels is None:
        return {}
    removed = removed_mask(case.channels, plan)
    units = units_of_blocks(case.channels, case.blocks)
    found = {key: own.kept(removed) for key, own in units.items()}
    return {key: kept for key, kept in found.items() if kept is not None}


def removed_mask(channels: Channels, plan: Plan) -> Mask:
    """Which units a plan removes.

    Raises:
        InputError: The plan is not one of this model.
    """
    known = {group.key: group for group in channels.groups}
    for choice in plan.groups:
        group = known.get(choice.key)
        if group is None:
            raise InputError(f"the plan cuts {choice.key}, which is no group of this model.")
        if choice.units != len(group.units) or not choice.kept or choice.kept[-1] >= choice.units:
            raise InputError(
                f"the plan keeps units of {choice.key} up to {max(choice.kept, default=-1)} of "
                f"{choice.units}, but it has {len(group.units)}. One at least has to stay."
            )
    return removed_units(channels, plan.groups)
