"""Channels through nodes that move numbers about: transposition, reshaping, joining, parting."""

import numpy as np
from onnx import NodeProto

from onnx_relusv.graph.channel_records import NO_UNIT, UnitAxis, Units
from onnx_relusv.graph.channel_walk import Barrier, Walk, attribute, given, whole, wholes
from onnx_relusv.graph.operators import Shape


def transpose(walk: Walk, _index: int, node: NodeProto) -> None:
    """Moves the axis."""
    found, rank = walk.axes[node.input[0]], walk.rank(node.input[0])
    order = wholes(node, "perm") or list(range(rank))[::-1]
    walk.put(node.output[0], order.index(found.axis), found.units)


def squeeze(walk: Walk, _index: int, node: NodeProto) -> None:
    """Takes axes of length 1 away."""
    found, rank = walk.axes[node.input[0]], walk.rank(node.input[0])
    axes = _axes(walk, node)
    if axes is None:
        raise Barrier(f"Squeeze {node.output[0]} does not say which axes")
    gone = {axis % rank for axis in axes}
    if found.axis in gone:
        raise Barrier(f"Squeeze {node.output[0]} takes the channels' axis away")
    walk.put(node.output[0], found.axis - sum(axis < found.axis for axis in gone), found.units)


def unsqueeze(walk: Walk, _index: int, node: NodeProto) -> None:
    """Puts axes of length 1 in."""
    found, rank = walk.axes[node.input[0]], walk.rank(node.output[0])
    axes = _axes(walk, node)
    if axes is None:
        raise Barrier(f"the axes of Unsqueeze {node.output[0]} are computed")
    new = {axis % rank for axis in axes}
    old = [axis for axis in range(rank) if axis not in new]
    walk.put(node.output[0], old[found.axis], found.units)


def _axes(walk: Walk, node: NodeProto) -> list[int] | None:
    return walk.numbers(node.input[1]) if given(node, 1) else wholes(node, "axes")


def reshape(walk: Walk, _index: int, node: NodeProto) -> None:
    """Flatten, and Reshape by a constant: wherever an index of one axis is of one channel."""
    if node.op_type == "Reshape" and walk.constants.tensor(node.input[1]) is None:
        raise Barrier(f"the shape of Reshape {node.output[0]} is computed")
    found = walk.axes.get(node.input[0])
    if found is None:
        raise Barrier(f"{node.op_type} {node.output[0]} takes its shape from channels")
    moved = _reshaped(found, walk.shape(node.input[0]), walk.shape(node.output[0]))
    if moved is None:
        raise Barrier(f"{node.op_type} {node.output[0]} tears channels apart")
    walk.put(node.output[0], moved.axis, moved.units)


def _reshaped(found: UnitAxis, before: Shape, after: Shape) -> UnitAxis | None:
    """The axis of a reshaped tensor along which channels run; None where there is no single one."""
    spread = [1] * len(before)
    spread[found.axis] = len(found.units)
    every = np.broadcast_to(found.units.reshape(spread), before).reshape(after)
    for axis in range(1, len(after)):
        along: Units = every[
            tuple(slice(None) if each == axis else 0 for each in range(len(after)))
        ]
        wide = [1] * len(after)
        wide[axis] = len(along)
        if np.array_equal(np.broadcast_to(along.reshape(wide), after), every):
            return UnitAxis(axis, along)
    return None


def concat(walk: Walk, _index: int, node: NodeProto) -> None:
    """Joins channels, or merges them where another axis is joined."""
    rank = walk.rank(node.output[0])
    axis = whole(node, "axis", 1) % rank
    labelled = dict(walk.labelled(node))
    places = {found.axis for found in labelled.values()}
    if len(places) > 1:
        raise Barrier(f"Concat {node.output[0]} joins channels of different axes")
    (place,) = places
    if place != axis:
        if len(labelled) < len(node.input):
            raise Barrier(f"Concat {node.output[0]} joins channels with some that stay")
        units, *others = (found.units for found in labelled.values())
        for other in others:
            units = walk.atoms.merge(units, other)
        walk.put(node.output[0], place, units)
        return
    parts = [
        labelled[slot].units
        if slot in labelled
        else np.full(walk.shape(name)[axis], NO_UNIT, np.int64)
        for slot, name in enumerate(node.input)
    ]
    walk.put(node.output[0], axis, np.concatenate(parts))


def split(walk: Walk, _index: int, node: NodeProto) -> None:
    """Parts channels, or hands all of them to every part."""
    found = walk.axes.get(node.input[0])
    if found is None or (given(node, 1) and walk.constants.tensor(node.input[1]) is None):
        raise Barrier(f"the parts of Split {node.output[0]} are computed")
    axis = whole(node, "axis", 0) % walk.rank(node.input[0])
    start = 0
    for name in node.output:
        if axis != found.axis:
            walk.put(name, found.axis, found.units)
            continue
        length = walk.shape(name)[axis]
        walk.put(name, axis, found.units[start : start + length])
        start += length


def pad(walk: Walk, _index: int, node: NodeProto) -> None:
    """Pads positions."""
    found = walk.axes.get(node.input[0])
    pads = walk.numbers(node.input[1]) if given(node, 1) else wholes(node, "pads")
    if found is None or pads is None:
        raise Barrier(f"the pads of Pad {node.output[0]} are computed")
    axes = list(range(walk.rank(node.input[0])))
    if given(node, 3):
        named = walk.numbers(node.input[3])
        if named is None:
            raise Barrier(f"the axes of Pad {node.output[0]} are computed")
        axes = [axis % len(axes) for axis in named]
    for place, axis in enumerate(axes):
        if axis == found.axis and (pads[place] or pads[place + len(axes)]):
            raise Barrier(f"Pad {node.output[0]} adds channels")
    walk.put(node.output[0], found.axis, found.units)


def resize(walk: Walk, _index: int, node: NodeProto) -> None:
    """Resize and Upsample over positions."""
    found = walk.axes.get(node.input[0])
    settings = [name for name in node.input[1:] if name]
    if found is None or any(walk.constants.tensor(name) is None for name in settings):
        raise Barrier(f"the sizes of {node.op_type} {node.output[0]} are computed")
    mode = attribute(node, "coordinate_transformation_mode", b"")
    if mode == b"tf_crop_and_resize":
        raise Barrier(f"{node.op_type} {node.output[0]} crops")
    if walk.shape(node.output[0])[found.axis] != len(found.units):
        raise Barrier(f"{node.op_type} {node.output[0]} adds channels")
    walk.put(node.output[0], found.axis, found.units)


def slicing(walk: Walk, _index: int, node: NodeProto) -> None:
    """Slice over positions."""
    found = walk.axes.get(node.input[0])
    if found is None:
        raise Barrier(f"Slice {node.output[0]} takes its settings from channels")
    axes, rank = wholes(node, "axes"), walk.rank(node.input[0])
    if len(node.input) > 1:
        axes = walk.numbers(node.input[3]) if given(node, 3) else None
        count = walk.shape(node.input[1])[0]
        axes = list(range(count)) if not given(node, 3) else axes
    if axes is None:
        starts = wholes(node, "starts")
        if starts is None:
            raise Barrier(f"the axes of Slice {node.output[0]} are computed")
        axes = list(range(len(starts)))
    if found.axis in {axis % rank for axis in axes}:
        raise Barrier(f"Slice {node.output[0]} takes some of the channels")
    walk.put(node.output[0], found.axis, found.units)
