"""Ranges through nodes that work on every number by itself, and on two tensors number by number."""

from collections.abc import Callable

import numpy as np
from onnx import NodeProto

from onnx_relusv.graph.channel_walk import given, whole
from onnx_relusv.graph.operators import FLOAT_TYPES
from onnx_relusv.graph.ranges_interval import (
    Interval,
    added,
    interval,
    inverted,
    multiplied,
    negated,
    outward,
)
from onnx_relusv.graph.ranges_walk import RangeWalk, Unbounded, number
from onnx_relusv.records import Floats

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
