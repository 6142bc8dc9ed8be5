"""What reads a group's units: consumers' weights, with the moments of what they read.

A consumer that is a block is seen with its whole patch, so that neighbouring positions help to
reproduce what is gone. Of one that is none, a ConvTranspose, no moments are known: its inputs count
as independent, each as large as the mean of what the blocks read, or of one without any.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import prod

import numpy as np
import numpy.typing as npt

from onnx_relusv.covariance import identity, of_columns, scaled, variances
from onnx_relusv.graph.channel_records import ChannelGroup, Channels, ConstantAxis, Units
from onnx_relusv.graph.constants import Constants
from onnx_relusv.opened import BlockMoments, Opened
from onnx_relusv.pruning.elimination import Reading
from onnx_relusv.pruning.separable import separable
from onnx_relusv.pruning.wide_elimination import NO_UNIT
from onnx_relusv.records import Block, Covariance, FactoredCovariance, Floats, Moments

# Of the mean square: above what rounding and shrinking make of a constant, below what matters.
_STILL = 1e-8
# Columns of which a square array may be made where nothing is known of them.
_SMALL = 2048


def group_readings(
    opened: Opened,
    channels: Channels,
    group: ChannelGroup,
    moments: BlockMoments,
    weighting: Callable[[Block], Floats | None],
) -> list[Reading]:
    """All that reads a group's units.

    Args:
        opened: The model.
        channels: Its groups.
        group: One of them.
        moments: Of the blocks' inputs.
        weighting: Told a block, says with which (n, out) matrix its answers are multiplied before
            they are compared; None where all count alike.

    Returns:
        With the columns of twins moved to those of the first of them, and without those of dead
        units, which tell nothing of others either.
    """
    twins, dead = local_twins(channels, group), local_dead(channels, group)
    blocks = {block.nodes[0]: block for block in opened.blocks}
    found: list[Reading] = []
    others: list[Reading] = []
    for axis in channels.consumed:
        units = _local(axis.units, group)
        if not np.any(units != NO_UNIT):
            continue
        if axis.node in blocks:
            block = blocks[axis.node]
            found.extend(_of_block(opened, block, units, moments, weighting(block)))
        else:
            others.append(_of_constant(opened, axis, units))
    scale = _mean_variance(found)
    found += [replace(one, covariance=scaled(one.covariance, scale)) for one in others]
    left = [_without(_without_twins(one, twins), dead) for one in found]
    return [separable(one) for one in left if np.any(one.units != NO_UNIT)]


def columns_read(opened: Opened, channels: Channels, group: ChannelGroup) -> list[int]:
    """How many columns each weight has that reads a group's units, once for each of its groups."""
    blocks = {block.nodes[0]: block.geometry for block in opened.blocks}
    found: list[int] = []
    for axis in channels.consumed:
        if np.any(_local(axis.units, group) != NO_UNIT):
            own = blocks.get(axis.node)
            found += [len(axis.units)] if own is None else [own.columns] * own.groups
    return found


def still_units(readings: Sequence[Reading], count: int) -> Units:
    """Increasing: units that are read, and never vary where they are, as far as is known.

    With a mean of zero such a unit is dead; another is nothing but a part of the consumers' biases.

    Args:
        readings: Of a group.
        count: How many units it has.
    """
    read, varying = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
    for one in readings:
        known = one.units != NO_UNIT
        read[one.units[known]] = True
        varying[one.units[known & one.varies]] = True
    return np.flatnonzero(read & ~varying)


def _local(units: Units, group: ChannelGroup) -> Units:
    """Units by their numbers in a group, `NO_UNIT` for those of other groups."""
    inside = (units >= group.units.start) & (units < group.units.stop)
    return np.where(inside, units - group.units.start, NO_UNIT)


def local_twins(channels: Channels, group: ChannelGroup) -> Units:
    """(units,) int64: for every unit of a group the first that it equals, numbered within it."""
    if channels.twins is None:
        return np.arange(len(group.units), dtype=np.int64)
    found: Units = channels.twins[group.units.start : group.units.stop] - group.units.start
    return found


def local_dead(channels: Channels, group: ChannelGroup) -> npt.NDArray[np.bool_]:
    """(units,) bool: which units of a group are certified to be dead."""
    if channels.dead is None:
        return np.zeros(len(group.units), np.bool_)
    return channels.dead[group.units.start : group.units.stop]


def _without_twins(reading: Reading, twins: Units) -> Reading:
    """Columns of a unit that equals another are added to that one's, and are gone."""
    columns: dict[int, list[int]] = {}
    for place, unit in enumerate(reading.units.tolist()):
        columns.setdefault(unit, []).append(place)
    weight, left = np.array(reading.weight), np.ones(len(reading.units), np.bool_)
    for unit, own in columns.items():
        if unit != NO_UNIT and twins[unit] != unit:
            weight[:, columns[int(twins[unit])]] += weight[:, own]
            left[own] = False
    return _part(replace(reading, weight=weight), left)


def _without(reading: Reading, dead: npt.NDArray[np.bool_]) -> Reading:
    """Columns of units that are always zero are gone."""
    return _part(reading, (reading.units == NO_UNIT) | ~dead[reading.units])


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
    opened: Opened, block: Block, units: Units, moments: BlockMoments, weighting: Floats | None
) -> Iterator[Reading]:
    geometry, seen = block.geometry, moments[block.key]
    linear = opened.folding(block)
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
    found: npt.NDArray[np.bool_] = own > _STILL * square
    return found


def _of_constant(opened: Opened, axis: ConstantAxis, units: Units) -> Reading:
    name = opened.model.proto.graph.node[axis.node].input[axis.slot]
    values = Constants(opened.model).array(name)
    assert values is not None  # what is cut is constant
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
