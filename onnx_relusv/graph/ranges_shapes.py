"""Ranges through nodes that move, join, repeat or choose numbers.

Bounds keep their places where the graph fixes the lengths behind the samples' axis; elsewhere there
is one interval for the whole tensor, which is right wherever its numbers go.
"""

from math import prod

import numpy as np
from onnx import NodeProto

from onnx_relusv.graph.channel_walk import attribute, given, whole, wholes
from onnx_relusv.graph.ranges_interval import Interval, interval, outward
from onnx_relusv.graph.ranges_walk import RangeWalk, Unbounded, number


def transpose(walk: RangeWalk, node: NodeProto) -> Interval:
    """Moves axes."""
    rank = walk.rank(node.input[0])
    found = walk.range(node.input[0]).aligned(rank)
    order = wholes(node, "perm") or list(range(rank))[::-1]
    return Interval(found.low.transpose(order), found.high.transpose(order), found.whole)


def squeeze(walk: RangeWalk, node: NodeProto) -> Interval:
    """Takes axes of length 1 away."""
    rank, axes = walk.rank(node.input[0]), _axes(walk, node)
    found = walk.range(node.input[0])
    if axes is None:
        return found.spread()
    found, gone = found.aligned(rank), tuple(axis % rank for axis in axes)
    return Interval(found.low.squeeze(gone), found.high.squeeze(gone), found.whole)


def unsqueeze(walk: RangeWalk, node: NodeProto) -> Interval:
    """Puts axes of length 1 in."""
    rank, axes = walk.rank(node.input[0]), _axes(walk, node)
    if axes is None:
        raise Unbounded
    found = walk.range(node.input[0]).aligned(rank)
    low, high = (np.expand_dims(ends, tuple(axes)) for ends in (found.low, found.high))
    return Interval(low, high, found.whole)


def _axes(walk: RangeWalk, node: NodeProto) -> list[int] | None:
    return walk.numbers(node.input[1]) if given(node, 1) else wholes(node, "axes")


def reshape(walk: RangeWalk, node: NodeProto) -> Interval:
    """Flatten and Reshape."""
    found = walk.range(node.input[0])
    before, after = (walk.fixed(name)[1:] for name in (node.input[0], node.output[0]))
    lengths, wanted = ([each for each in shape if each] for shape in (before, after))
    if len(lengths) < len(before) or len(wanted) < len(after) or prod(lengths) != prod(wanted):
        return found.spread()
    found = found.aligned(len(before) + 1).spread((0,))
    low, high = (
        np.broadcast_to(ends, (1, *lengths)).reshape(1, *wanted) for ends in (found.low, found.high)
    )
    return interval(low, high, whole=found.whole)


def concat(walk: RangeWalk, node: NodeProto) -> Interval:
    """Joins tensors along an axis."""
    rank = walk.rank(node.output[0])
    axis = whole(node, "axis", 1) % rank
    parts = [walk.range(name).aligned(rank) for name in node.input]
    whole_numbers = any(part.whole for part in parts)
    lengths = [length for name in node.input if (length := walk.fixed(name)[axis])]
    if len(lengths) < len(parts):
        # Where along the axis the parts meet depends on the size.
        low = np.minimum.reduce([part.spread((axis,)).low for part in parts])
        high = np.maximum.reduce([part.spread((axis,)).high for part in parts])
        return interval(low, high, whole=whole_numbers)
    shape = np.broadcast_shapes(*(part.spread((axis,)).low.shape for part in parts))
    low, high = (
        np.concatenate(
            [
                np.broadcast_to(ends, (*shape[:axis], length, *shape[axis + 1 :]))
                for ends, length in zip(side, lengths, strict=True)
            ],
            axis=axis,
        )
        for side in ([part.low for part in parts], [part.high for part in parts])
    )
    return interval(low, high, whole=whole_numbers)


def max_pooling(walk: RangeWalk, node: NodeProto) -> Interval:
    """MaxPool and GlobalMaxPool, whose padding never wins."""
    rank = walk.rank(node.input[0])
    return walk.floats(node.input[0]).aligned(rank).spread(tuple(range(2, rank)))


def pad(walk: RangeWalk, node: NodeProto) -> Interval:
    """Pad."""
    rank = walk.rank(node.input[0])
    pads = walk.numbers(node.input[1]) if given(node, 1) else wholes(node, "pads")
    axes = walk.numbers(node.input[3]) if given(node, 3) else list(range(rank))
    if pads is None:
        raise Unbounded
    moved = {axis % rank for place, axis in enumerate(axes) if any(pads[place :: len(axes)])}
    found = walk.floats(node.input[0]).aligned(rank).spread(tuple(sorted(moved)))
    if attribute(node, "mode", b"constant") != b"constant":
        return found
    filled = walk.scalar(node.input[2]) if given(node, 2) else number(node, "value", 0.0)
    return found.joined(filled) if moved else found


def resize(walk: RangeWalk, node: NodeProto) -> Interval:
    """Resize and Upsample: neighbours are copied, or weighted by shares that add up to 1."""
    mode = attribute(node, "mode", b"nearest")
    crops = attribute(node, "coordinate_transformation_mode") == b"tf_crop_and_resize"
    if mode not in (b"nearest", b"linear") or crops:
        raise Unbounded
    rank = walk.rank(node.input[0])
    found = walk.floats(node.input[0]).aligned(rank)
    same = _unscaled(walk, node, rank)
    found = found.spread(tuple(axis for axis in range(rank) if axis not in same))
    return found if mode == b"nearest" else outward(found, walk.margin())


def _unscaled(walk: RangeWalk, node: NodeProto, rank: int) -> set[int]:
    """The axes along which nothing changes."""
    axes = [axis % rank for axis in wholes(node, "axes") or range(rank)]
    slot = 1 if node.op_type == "Upsample" or walk.opset < 11 else 2
    named = attribute(node, "scales")
    if named is None:
        named = walk.constants.array(node.input[slot]) if given(node, slot) else None
    scales = np.asarray(() if named is None else named, np.float64).reshape(-1)
    others = set(range(rank)) - set(axes)
    if scales.size:
        return others | {axis for axis, scale in zip(axes, scales, strict=True) if scale == 1}
    sizes = walk.constants.array(node.input[3]) if given(node, 3) else None
    if sizes is None:
        return others
    lengths = walk.fixed(node.input[0])
    wanted = [int(size) for size in sizes.reshape(-1)]
    return others | {axis for axis, size in zip(axes, wanted, strict=True) if lengths[axis] == size}
