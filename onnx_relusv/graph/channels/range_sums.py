"""Ranges through nodes that add up many terms: Conv, Gemm, MatMul, normalisation and means."""

from math import prod

import numpy as np
from onnx import NodeProto

from onnx_relusv.core.blocks import Floats
from onnx_relusv.graph.channels.intervals import (
    Interval,
    RangeWalk,
    Unbounded,
    interval,
    number,
    outward,
    product,
)
from onnx_relusv.graph.channels.walk import attribute, given, whole, wholes

# Numbers of a weight that are looked at at once, so that large ones stay on disk.
_CHUNK = 1 << 22
# Positions that are averaged, where their number is not fixed: images of 1,024 by 1,024.
_MANY = 1 << 20
_NOTHING = Interval(np.zeros(()), np.zeros(()))


def conv(walk: RangeWalk, node: NodeProto) -> Interval:
    """Every channel by itself, at all positions alike."""
    weight, groups = walk.weight(node.input[1]), whole(node, "group", 1)
    found = walk.floats(node.input[0]).aligned(weight.ndim)
    if is_padded(node):
        found = found.joined(0.0)
    per_channel = found.spread((0, *range(2, weight.ndim)))
    channels, taps = (groups, weight.shape[1]), prod(weight.shape[2:])
    low, high = (
        np.broadcast_to(ends.reshape(-1), prod(channels)).reshape(channels).repeat(taps, axis=1)
        for ends in (per_channel.low, per_channel.high)
    )
    rows = weight.reshape(groups, -1, low.shape[1])
    bias = walk.floats(node.input[2]) if given(node, 2) else _NOTHING
    parts = [
        _weighted(walk, own, Interval(low[group], high[group]), _part(bias, group, own.shape[0]))
        for group, own in enumerate(rows)
    ]
    shape = (1, -1, *(1,) * (weight.ndim - 2))
    ends = [
        np.concatenate([np.broadcast_to(getattr(part, name), rows.shape[1]) for part in parts])
        for name in ("low", "high")
    ]
    return interval(ends[0].reshape(shape), ends[1].reshape(shape))


def _part(bias: Interval, group: int, rows: int) -> Interval:
    """What of a bias belongs to a group; one that is computed may be a single interval."""
    if bias.low.size == 1:
        return bias
    own = slice(group * rows, (group + 1) * rows)
    return Interval(bias.low[own], bias.high[own])


def is_padded(node: NodeProto) -> bool:
    """Whether a Conv or a pooling may read beyond the border."""
    if attribute(node, "auto_pad", b"NOTSET") in (b"SAME_UPPER", b"SAME_LOWER"):
        return True
    return any(wholes(node, "pads") or ())


def gemm(walk: RangeWalk, node: NodeProto) -> Interval:
    """Row by row, as far as rows differ."""
    weight, found = walk.weight(node.input[1]), walk.floats(node.input[0]).aligned(2)
    if whole(node, "transA", 0):
        found = Interval(found.low.T, found.high.T)
    alpha, beta = number(node, "alpha", 1.0), number(node, "beta", 1.0)
    bias = _NOTHING
    if given(node, 2):
        bias = product(walk.floats(node.input[2]), _constant(np.full((), beta)))
    rows = weight if whole(node, "transB", 0) else weight.T
    return _weighted(walk, rows, found, bias, alpha)


def matmul(walk: RangeWalk, node: NodeProto) -> Interval:
    """By a constant matrix from the right."""
    weight = walk.weight(node.input[1])
    if weight.ndim != 2:
        raise Unbounded
    return _weighted(walk, weight.T, walk.floats(node.input[0]), _NOTHING)


def _weighted(
    walk: RangeWalk, weight: np.ndarray, found: Interval, bias: Interval, scale: float = 1.0
) -> Interval:
    """Of scale times a weight times a tensor's last axis, plus a bias.

    Args:
        walk: Where we are.
        weight: (rows, columns).
        found: Of the tensor.
        bias: Of what broadcasts to the result.
        scale: Of the products.
    """
    rows, columns = weight.shape
    shape = (*found.low.shape[:-1], columns)
    low, high = (np.broadcast_to(ends, shape) for ends in (found.low, found.high))
    margin, step = walk.margin(columns), max(1, _CHUNK // max(columns, 1))
    ends: list[tuple[Floats, Floats]] = []
    for start in range(0, rows, step):
        part = scale * weight[start : start + step].astype(np.float64)
        ends.append((-_largest(part, -high, -low, margin), _largest(part, low, high, margin)))
    low, high = (np.concatenate(side, axis=-1) for side in zip(*ends, strict=True))
    return interval(
        low + bias.low - margin * np.abs(bias.low), high + bias.high + margin * np.abs(bias.high)
    )


def _largest(weight: Floats, low: Floats, high: Floats, margin: float) -> Floats:
    """The largest that a weight makes of numbers between low and high, (..., rows)."""
    positive, negative = np.maximum(weight, 0).T, np.maximum(-weight, 0).T
    top, bottom = (np.where(np.isfinite(ends), ends, 0.0) for ends in (high, low))
    found = top @ positive - bottom @ negative
    found += margin * (np.abs(top) @ positive + np.abs(bottom) @ negative)
    unknown = np.isinf(high) @ positive + np.isinf(low) @ negative
    return np.where(unknown > 0, np.inf, found)


def normalization(walk: RangeWalk, node: NodeProto) -> Interval:
    """BatchNormalization by constants."""
    if whole(node, "training_mode", 0) or not whole(node, "spatial", 1):
        raise Unbounded
    rank, name = walk.rank(node.input[0]), node.input[0]
    gamma, beta, mean, variance = (
        walk.vector(each).reshape(-1, *(1,) * (rank - 2)) for each in node.input[1:5]
    )
    square = variance + number(node, "epsilon", 1e-5)
    if not (square > 0).all():
        raise Unbounded
    scale = gamma / np.sqrt(square)
    terms = product(walk.floats(name).aligned(rank), _constant(scale))
    margin, shifts = walk.margin(), np.abs(beta) + np.abs(mean * scale)
    shift = beta - mean * scale
    return interval(
        terms.low + shift - margin * (np.abs(terms.low) + shifts),
        terms.high + shift + margin * (np.abs(terms.high) + shifts),
    )


def average_pooling(walk: RangeWalk, node: NodeProto) -> Interval:
    """AveragePool; zeros count where windows may reach beyond the border and are counted whole."""
    rank = walk.rank(node.input[0])
    found = walk.floats(node.input[0]).aligned(rank).spread(tuple(range(2, rank)))
    reaches = is_padded(node) and whole(node, "count_include_pad", 0)
    if reaches or whole(node, "ceil_mode", 0):
        found = found.joined(0.0)
    return outward(found, walk.margin(prod(wholes(node, "kernel_shape") or ())))


def global_average(walk: RangeWalk, node: NodeProto) -> Interval:
    """GlobalAveragePool."""
    return _mean(walk, node.input[0], range(2, walk.rank(node.input[0])), keep=True)


def reduced_mean(walk: RangeWalk, node: NodeProto) -> Interval:
    """ReduceMean."""
    rank = walk.rank(node.input[0])
    axes = walk.numbers(node.input[1]) if given(node, 1) else wholes(node, "axes")
    if not axes and whole(node, "noop_with_empty_axes", 0):
        return walk.floats(node.input[0])
    gone = {axis % rank for axis in axes or range(rank)}
    return _mean(walk, node.input[0], sorted(gone), keep=bool(whole(node, "keepdims", 1)))


def _mean(walk: RangeWalk, name: str, axes: range | list[int], *, keep: bool) -> Interval:
    lengths = walk.fixed(name)
    found = walk.floats(name).aligned(len(lengths))
    counts = [lengths[axis] for axis in axes]
    margin = walk.margin(prod(count for count in counts if count) if all(counts) else _MANY)
    where = tuple(axes)
    low, high = (
        np.asarray((ends + sign * margin * np.abs(ends)).mean(axis=where, keepdims=keep))
        for sign, ends in ((-1, found.low), (1, found.high))
    )
    return interval(low, high)


def _constant(values: Floats) -> Interval:
    return Interval(values, values)
