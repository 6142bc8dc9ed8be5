"""Units that are equal to others whatever the input, since all that makes them is equal.

Units of one group are twins where every constant that is cut with them has equal entries for both:
the rows of all producers, biases, vectors of BatchNormalizations, slopes, depthwise kernels. Only
one of them has to stay, and their consumers' columns are added up.
"""

import hashlib

import numpy as np

from onnx_relusv.graph.channel_records import NO_UNIT, Channels, Units
from onnx_relusv.graph.constants import Constants
from onnx_relusv.graph.model import Model


def twins(model: Model, channels: Channels) -> Units:
    """(units,) int64: of every unit, the first of its group that it is equal to, or itself."""
    constants, nodes = Constants(model), model.proto.graph.node
    marks = [hashlib.sha256() for _ in range(channels.count)]
    for axis in (*channels.produced, *channels.carried):
        values = constants.array(nodes[axis.node].input[axis.slot])
        assert values is not None  # what is cut is constant
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
