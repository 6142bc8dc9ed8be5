"""Ranges through nodes that work on every number by itself, and on two tensors number by number.

Ranges through nodes that move, join, repeat or choose numbers.

Bounds keep their places where the graph fixes the lengths behind the samples' axis; elsewhere there
is one interval for the whole tensor, which is right wherever its numbers go.
"""

from collections.abc import Callable
from math import prod

import numpy as np
from onnx import NodeProto

from onnx_relusv.core.blocks import Floats
from onnx_relusv.graph.channels.intervals import (
    Interval,
    RangeWalk,
    Unbounded,
    added,
    interval,
    inverted,
    multiplied,
    negated,
    number,
    outward,
)
from onnx_relusv.graph.channels.walk import attribute, given, whole, wholes
from onnx_relusv.graph.nodes import FLOAT_TYPES

# Where x times its HardSigmoid is least, and what it is there.
_HARD_SWISH_LEAST = -0.375


def unchanged(walk: RangeWalk, node: NodeProto) -> Interval:
    """Identity."""
    return walk.range(node.input[0])


def dropout(walk: RangeWalk, node: NodeProto) -> Interval:
    """Dropout, unless some are dropped."""
    if given(node, 2) and walk.constants.scalar(node.input[2]) != 0:
        raise Unbounded
    return walk.range(node.input[0])


def cast(walk: RangeWalk, node: NodeProto) -> Interval:
    """Into a type of floats."""
    if whole(node, "to", 0) not in FLOAT_TYPES:
        raise Unbounded
    return outward(walk.range(node.input[0]), walk.margin())


def add(walk: RangeWalk, node: NodeProto) -> Interval:
    """A sum of two."""
    first, second = (walk.floats(name) for name in node.input)
    return added(first, second, walk.margin())


def subtract(walk: RangeWalk, node: NodeProto) -> Interval:
    """A difference."""
    first, second = (walk.floats(name) for name in node.input)
    return added(first, negated(second), walk.margin())


def multiply(walk: RangeWalk, node: NodeProto) -> Interval:
    """A product of two."""
    first, second = (walk.floats(name) for name in node.input)
    return multiplied(first, second, walk.margin())


def divide(walk: RangeWalk, node: NodeProto) -> Interval:
    """A quotient."""
    first, second = (walk.floats(name) for name in node.input)
    return multiplied(first, inverted(second), walk.margin())


def relu(walk: RangeWalk, node: NodeProto) -> Interval:
    """Relu, which rounds nothing."""
    return _clipped(walk.floats(node.input[0]), 0.0, np.inf)


def clip(walk: RangeWalk, node: NodeProto) -> Interval:
    """Clip; bounds are attributes before opset 11, and inputs since."""
    if walk.opset < 11:
        floor, ceiling = number(node, "min", -np.inf), number(node, "max", np.inf)
    else:
        floor = walk.scalar(node.input[1]) if given(node, 1) else -np.inf
        ceiling = walk.scalar(node.input[2]) if given(node, 2) else np.inf
    return _clipped(walk.floats(node.input[0]), floor, ceiling)


def _clipped(found: Interval, floor: float, ceiling: float) -> Interval:
    low, high = (np.minimum(np.maximum(ends, floor), ceiling) for ends in (found.low, found.high))
    return interval(low, high)


def leaky_relu(walk: RangeWalk, node: NodeProto) -> Interval:
    """LeakyRelu."""
    slope = np.full((), number(node, "alpha", 0.01))
    return _sloped(walk, walk.floats(node.input[0]), slope)


def prelu(walk: RangeWalk, node: NodeProto) -> Interval:
    """PRelu with constant slopes."""
    slope = walk.vector(node.input[1])
    return _sloped(walk, walk.floats(node.input[0]), slope)


def _sloped(walk: RangeWalk, found: Interval, slope: Floats) -> Interval:
    """Of x from 0 on, slope times x below: ends are at ends, or at 0 where that is between."""
    below = multiplied(_clipped(found, -np.inf, 0.0), Interval(slope, slope), walk.margin())
    above = _clipped(found, 0.0, np.inf)
    falls, rises = found.low < 0, found.high > 0
    low = np.where(falls, below.low, np.inf), np.where(rises | ~falls, above.low, np.inf)
    high = np.where(falls, below.high, -np.inf), np.where(rises | ~falls, above.high, -np.inf)
    return interval(np.minimum(*low), np.maximum(*high))


def monotone(function: Callable[[Floats], Floats]) -> Callable[[RangeWalk, NodeProto], Interval]:
    """The rule of a function that never decreases and that runtimes approximate."""

    def rule(walk: RangeWalk, node: NodeProto) -> Interval:
        found = walk.floats(node.input[0])
        # Values are about 1 at most. Approximations cut their arguments off at about 9 or 18, are a
        # few 1e-7 off, and not always within the function's own ends.
        margin = walk.margin()
        return interval(function(found.low) - margin, function(found.high) + margin)

    return rule


def hard_sigmoid(walk: RangeWalk, node: NodeProto) -> Interval:
    """HardSigmoid."""
    found = walk.floats(node.input[0])
    return _hard_sigmoid(walk, found, number(node, "alpha", 0.2), number(node, "beta", 0.5))


def hard_swish(walk: RangeWalk, node: NodeProto) -> Interval:
    """HardSwish: x times a HardSigmoid of it."""
    found = walk.floats(node.input[0])
    product = multiplied(found, _hard_sigmoid(walk, found, 1 / 6, 0.5), walk.margin())
    least = _HARD_SWISH_LEAST * (1 + walk.margin())
    return interval(np.maximum(product.low, least), product.high)


def _hard_sigmoid(walk: RangeWalk, found: Interval, alpha: float, beta: float) -> Interval:
    scale, shift = (np.full((), value) for value in (alpha, beta))
    scaled = multiplied(found, Interval(scale, scale), walk.margin())
    return _clipped(added(scaled, Interval(shift, shift), walk.margin()), 0.0, 1.0)


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
