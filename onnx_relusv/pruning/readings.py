"""What reads a group's units: consumers' weights, with the moments of what they read.

A consumer that is a block is seen with its whole patch, so that neighbouring positions help to
reproduce what is gone. Of one that is none, a ConvTranspose, no moments are known: its inputs count
as independent, each as large as the mean of what the blocks read, or of one without any.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import prod

import numpy as np

from onnx_relusv.graph.channel_records import ChannelGroup, Channels, ConstantAxis, Units
from onnx_relusv.graph.constants import Constants
from onnx_relusv.opened import BlockMoments, Opened
from onnx_relusv.pruning.elimination import NO_UNIT, Reading
from onnx_relusv.records import Block, Floats


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
    """
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
    return found + [replace(one, covariance=scale * one.covariance) for one in others]


def _local(units: Units, group: ChannelGroup) -> Units:
    """Units by their numbers in a group, `NO_UNIT` for those of other groups."""
    inside = (units >= group.units.start) & (units < group.units.stop)
    return np.where(inside, units - group.units.start, NO_UNIT)


def _of_block(
    opened: Opened, block: Block, units: Units, moments: BlockMoments, weighting: Floats | None
) -> Iterator[Reading]:
    geometry, seen = block.geometry, moments[block.key]
    linear = opened.folding(block)
    columns = np.repeat(units, prod(geometry.kernel))
    for group, weight in enumerate(linear.weight):
        yield Reading(
            weight=weight if weighting is None else weighting @ weight,
            covariance=np.eye(geometry.columns) if seen is None else seen.covariance[group],
            units=columns,
        )


def _of_constant(opened: Opened, axis: ConstantAxis, units: Units) -> Reading:
    name = opened.model.proto.graph.node[axis.node].input[axis.slot]
    values = Constants(opened.model).array(name)
    assert values is not None  # what is cut is constant
    weight = np.moveaxis(values.astype(np.float64), axis.axis, -1).reshape(-1, len(units))
    return Reading(weight=weight, covariance=np.eye(len(units)), units=units)


def _mean_variance(readings: Sequence[Reading]) -> float:
    traces = [float(np.trace(one.covariance)) for one in readings]
    columns = sum(len(one.covariance) for one in readings)
    return sum(traces) / columns if columns and sum(traces) > 0 else 1.0
