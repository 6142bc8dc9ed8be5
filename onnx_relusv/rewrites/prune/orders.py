"""What reads a group's units: consumers' weights, with the moments of what they read.

A consumer that is a block is seen with its whole patch, so that neighbouring positions help to
reproduce what is gone. Of one that is none, a ConvTranspose, no moments are known: its inputs count
as independent, each as large as the mean of what the blocks read, or of one without any.

The orders of all groups' units: as many are found at a time as cores and memory allow.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import numpy.typing as npt

from onnx_relusv.core.blocks import Block, Covariance, FactoredCovariance, Floats, Moments
from onnx_relusv.core.linear_algebra import identity, of_columns, scaled, variances
from onnx_relusv.core.options import PlanOptions
from onnx_relusv.graph.channels.walk import ChannelGroup, Channels, ConstantAxis, Units
from onnx_relusv.graph.constants import Constants
from onnx_relusv.graph.protos import known_constant
from onnx_relusv.measuring.answers import scores_block
from onnx_relusv.measuring.case import BlockMoments, Case, Workspace, run_identity
from onnx_relusv.measuring.inputs import Inputs
from onnx_relusv.rewrites.prune.elimination import Elimination, Reading, eliminate, separable
from onnx_relusv.rewrites.prune.units import Mask, blocks_by_output, free_groups
from onnx_relusv.rewrites.prune.wide_elimination import NONE_LEFT
from onnx_relusv.work.executors import Load, Progress, Task, local, run


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


# Of the mean square: above what rounding and shrinking make of a constant, below what matters.
_CONSTANT = 1e-8
# Columns of which a square array may be made where nothing is known of them.
_SMALL = 2048


def group_readings(
    case: Case,
    channels: Channels,
    group: ChannelGroup,
    moments: BlockMoments,
    roots: Mapping[str, Floats],
    *,
    apart: bool = False,
) -> list[Reading]:
    """All that reads a group's units.

    Args:
        case: The model.
        channels: Its groups.
        group: One of them.
        moments: Of the blocks' inputs.
        roots: By block key, the (n, out) matrix that its answers are multiplied with before they
            are compared; of other blocks, all count alike.
        apart: Whether all covariances of patches are taken apart into channels and positions.

    Returns:
        With the columns of duplicates moved to those of the first of them.
    """
    duplicates = local_duplicates(channels, group)
    blocks = {block.nodes[0]: block for block in case.blocks}
    found: list[Reading] = []
    others: list[Reading] = []
    for axis in channels.consumed:
        units = _local(axis.units, group)
        if not np.any(units != NONE_LEFT):
            continue
        if axis.node in blocks:
            block = blocks[axis.node]
            found.extend(_of_block(case, block, units, moments, roots.get(block.key)))
        else:
            others.append(_of_constant(case, axis, units))
    scale = _mean_variance(found)
    found += [replace(one, covariance=scaled(one.covariance, scale)) for one in others]
    left = [_without_duplicates(one, duplicates) for one in found]
    return [separable(one, always=apart) for one in left if np.any(one.units != NONE_LEFT)]


def columns_read(case: Case, channels: Channels, group: ChannelGroup) -> list[int]:
    """How many columns each weight has that reads a group's units, once for each of its groups."""
    blocks = {block.nodes[0]: block.geometry for block in case.blocks}
    found: list[int] = []
    for axis in channels.consumed:
        if np.any(_local(axis.units, group) != NONE_LEFT):
            own = blocks.get(axis.node)
            found += [len(axis.units)] if own is None else [own.columns] * own.groups
    return found


def constant_units(readings: Sequence[Reading], count: int) -> Units:
    """Increasing: units that are read, and never vary where they are, as far as is known.

    With a mean of zero such a unit is dead; another is nothing but a part of the consumers' biases.

    Args:
        readings: Of a group.
        count: How many units it has.
    """
    read, varying = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
    for one in readings:
        known = one.units != NONE_LEFT
        read[one.units[known]] = True
        varying[one.units[known & one.varies]] = True
    return np.flatnonzero(read & ~varying)


def _local(units: Units, group: ChannelGroup) -> Units:
    """Units by their numbers in a group, `NO_UNIT` for those of other groups."""
    inside = (units >= group.units.start) & (units < group.units.stop)
    return np.where(inside, units - group.units.start, NONE_LEFT)


def local_duplicates(channels: Channels, group: ChannelGroup) -> Units:
    """(units,) int64: for every unit of a group the first that it equals, numbered within it."""
    if channels.duplicates is None:
        return np.arange(len(group.units), dtype=np.int64)
    found: Units = channels.duplicates[group.units.start : group.units.stop] - group.units.start
    return found


def _without_duplicates(reading: Reading, duplicates: Units) -> Reading:
    """Columns of a unit that equals another are added to that one's, and are gone."""
    columns: dict[int, list[int]] = {}
    for place, unit in enumerate(reading.units.tolist()):
        columns.setdefault(unit, []).append(place)
    weight, left = np.array(reading.weight), np.ones(len(reading.units), np.bool_)
    for unit, own in columns.items():
        if unit != NONE_LEFT and duplicates[unit] != unit:
            weight[:, columns[int(duplicates[unit])]] += weight[:, own]
            left[own] = False
    return _part(replace(reading, weight=weight), left)


def _part(reading: Reading, left: npt.NDArray[np.bool_]) -> Reading:
    """Some of the columns."""
    if left.all():
        return reading
    return Reading(
        weight=reading.weight[:, left],
        covariance=of_columns(reading.covariance, left),
        units=reading.units[left],
        varies=reading.varies[left],
    )


def _of_block(
    case: Case, block: Block, units: Units, moments: BlockMoments, weighting: Floats | None
) -> Iterator[Reading]:
    geometry, seen = block.geometry, moments[block.key]
    linear = case.folding(block)
    columns = np.repeat(units, prod(geometry.kernel))
    for group, weight in enumerate(linear.weight):
        yield Reading(
            weight=weight if weighting is None else weighting @ weight,
            covariance=_unknown(geometry.columns) if seen is None else seen.of_group(group),
            units=columns,
            varies=np.ones(len(columns), np.bool_) if seen is None else _varying(seen, group),
        )


def _varying(moments: Moments, group: int) -> npt.NDArray[np.bool_]:
    """(columns,) bool: where the variance, without what shrinking adds, is above rounding."""
    shrunk, share = variances(moments.of_group(group)), moments.shrinkage[group]
    if share >= 1:
        return np.ones(len(shrunk), np.bool_)
    own = (shrunk - share * shrunk.mean()) / (1 - share)
    square = np.mean(moments.mean[group] ** 2) + shrunk.mean()
    found: npt.NDArray[np.bool_] = own > _CONSTANT * square
    return found


def _of_constant(case: Case, axis: ConstantAxis, units: Units) -> Reading:
    name = case.model.proto.graph.node[axis.node].input[axis.slot]
    values = known_constant(Constants(case.model).array(name), name)
    weight = np.moveaxis(values.astype(np.float64), axis.axis, -1).reshape(-1, len(units))
    everywhere = np.ones(len(units), np.bool_)
    return Reading(weight=weight, covariance=_unknown(len(units)), units=units, varies=everywhere)


def _unknown(columns: int) -> Covariance:
    """Of what nothing is known: the identity, as a square array where that is small."""
    return np.eye(columns) if columns <= _SMALL else identity(columns)


def _trace(covariance: Covariance) -> float:
    if isinstance(covariance, FactoredCovariance):
        return float(variances(covariance).sum())
    return float(np.trace(covariance))


def _mean_variance(readings: Sequence[Reading]) -> float:
    traces = [_trace(one.covariance) for one in readings]
    columns = sum(len(one.covariance) for one in readings)
    return sum(traces) / columns if columns and sum(traces) > 0 else 1.0


# Of a reading's columns, squared: its covariance twice, a factor, and P and G with what is added.
_SQUARES = 7
_FLOAT64 = 8
_LARGEST_SQUARE = 11_000


def ordered_groups(
    case: Case,
    inputs: Inputs,
    workspace: Workspace,
    channels: Channels,
    moments: BlockMoments,
    planning: PlanOptions,
    progress: Progress,
) -> tuple[Ordered, ...]:
    """Orders the units of the groups that may change.

    Args:
        case: The model, its samples split.
        inputs: Its samples.
        workspace: Where it runs, and what is kept.
        channels: Its groups.
        moments: Of the blocks' inputs.
        planning: What may change.
        progress: Shows the groups.
    """
    blocks, free = blocks_by_output(case), free_groups(case, planning)
    places = {block.key: place for place, block in enumerate(case.blocks)}
    scores = scores_block(case, inputs, workspace)
    roots = {} if scores is None else {scores.block.key: scores.root}
    tasks = {
        group.key: Task(
            kind="order",
            key={**run_identity(case, inputs, workspace), "group": group.key},
            result=Elimination,
            lengths={"units": len(group.units)},
            function=order_of,
            arguments=(case, channels, group, moments, roots, workspace.spending.apart),
            load=_load(case, channels, group),
        )
        for group in free
    }
    with progress.stage("Order of the units", len(free)) as advance:
        executor = local(workspace.options.working_bytes, advance)
        orders = run(tasks, executor, workspace.cache, advance)
    found = []
    for group in free:
        consumers = [blocks[name] for name in group.consumers if name in blocks]
        consumers.sort(key=lambda block: places[block.key])
        found.append(Ordered(group, orders[group.key], tuple(consumers)))
    return tuple(found)


def _load(case: Case, channels: Channels, group: ChannelGroup) -> Load:
    columns = np.array(columns_read(case, channels, group), np.float64)
    # Of wide readings, whose covariances are factored, no square array is made.
    columns = np.minimum(columns, _LARGEST_SQUARE)
    work, memory = np.sum(columns**3), _FLOAT64 * _SQUARES * np.sum(columns**2)
    return Load(work=float(work), memory=int(memory))


def order_of(
    case: Case,
    channels: Channels,
    group: ChannelGroup,
    moments: BlockMoments,
    roots: Mapping[str, Floats],
    apart: bool,
    threads: int,
) -> Elimination:
    """A group's order: what is nothing to anybody first, and one unit stays to the end.

    Args:
        case: The model.
        channels: Its groups.
        group: One of them.
        moments: Of the blocks' inputs.
        roots: As of `group_readings`.
        apart: Likewise.
        threads: How many may be used; BLAS is limited to them already.
    """
    readings = group_readings(case, channels, group, moments, roots, apart=apart)
    equal = local_duplicates(channels, group)
    redundant = np.flatnonzero(equal != np.arange(len(equal)))
    constant = np.setdiff1d(constant_units(readings, len(equal)), redundant)
    first = [*redundant.tolist(), *constant.tolist()][: len(equal) - 1]
    return eliminate(readings, len(group.units), first)
