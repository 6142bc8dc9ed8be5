"""Units that are zero, where they are read, for all inputs within a declared range.

What reads such a unit, a weight's columns, may be cut with it: the model computes the same.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from onnx_relusv.graph.channel_records import NO_UNIT, Channels
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.operators import Shape
from onnx_relusv.graph.ranges import tensor_ranges


def dead_units(
    model: Model, channels: Channels, shapes: Mapping[str, Shape], declared: tuple[float, float]
) -> npt.NDArray[np.bool_]:
    """(units,) bool: those that are certified to be zero wherever a weight reads them.

    Args:
        model: The model.
        channels: Its units.
        shapes: Of the `channel_tensors` for one sample.
        declared: Between which numbers all inputs lie.
    """
    ranges = tensor_ranges(model, shapes, declared)
    read, alive = np.zeros(channels.count, np.bool_), np.zeros(channels.count, np.bool_)
    for axis in channels.consumed:
        source = model.proto.graph.node[axis.node].input[0]
        along = channels.tensors[source]
        known = along.units != NO_UNIT
        zero = np.zeros(len(along.units), np.bool_)
        if source in ranges:
            elsewhere = tuple(place for place in range(along.rank) if place != along.axis)
            zero |= ranges[source].aligned(along.rank).is_zero.all(axis=elsewhere)
        read[along.units[known]] = True
        alive[along.units[known & ~zero]] = True
    return read & ~alive
