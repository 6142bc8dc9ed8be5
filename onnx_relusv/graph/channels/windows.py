"""Operators over positions: pooling, reductions, resizing, and what trades positions for depth."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from onnx import NodeProto

from onnx_relusv.graph.channels.elementwise import mixing
from onnx_relusv.graph.channels.lengths import (
    Axes,
    Dims,
    Length,
    LengthWalk,
    Numbers,
    Row,
    Step,
    constant,
    stepped,
)
from onnx_relusv.graph.channels.operator import (
    Cut,
    Operator,
    axes_of,
    family,
    handed_on,
    of_source,
    same_statistics,
)
from onnx_relusv.graph.channels.walk import Barrier, Walk
from onnx_relusv.graph.nodes import attribute, has_input, whole, wholes


def windowed(
    walk: LengthWalk,
    node: NodeProto,
    lengths: Sequence[Length | None],
    windows: Sequence[int | None],
) -> list[Length | None]:
    """Lengths behind windows that slide, of a Conv or pooling, or, of a ConvTranspose, before them.

    Args:
        walk: Where the walk is.
        node: The node.
        lengths: Of the axes of positions.
        windows: Of each, how long the window is.
    """
    if attribute(node, "output_shape") is not None:
        return list(map(constant, attribute(node, "output_shape")))
    count = len(lengths)
    strides, dilations = (attribute(node, name, [1] * count) for name in ("strides", "dilations"))
    pads = attribute(node, "pads", [0] * 2 * count)
    further = attribute(node, "output_padding", [0] * count)
    way = attribute(node, "auto_pad", b"NOTSET").decode()
    upwards = attribute(node, "ceil_mode", 0)
    found: list[Length | None] = []
    for number, length in enumerate(lengths):
        window, stride = windows[number], strides[number]
        if length is None or window is None:
            found.append(None)
            continue
        same, padding = way.startswith("SAME"), pads[number] + pads[number + count]
        reach = dilations[number] * (window - 1) + 1
        if node.op_type == "ConvTranspose":
            plus = 0 if same else reach + further[number] - padding - stride
            found.append(length.stepped(Step(stride, plus)))
        elif same:
            found.append(length.stepped(Step(plus=stride - 1, by=stride)))
        else:
            padding = 0 if way == "VALID" else padding
            plus = padding - reach + stride + (stride - 1 if upwards else 0)
            found.append(length.stepped(Step(plus=plus, by=stride)))
            walk.require(found[-1], "least", 1)
    return found


def _pooling(walk: Walk, index: int, node: NodeProto) -> None:
    """Pools positions, channel by channel."""
    walk.axis(node.input[0], 1)
    handed_on(walk, index, node)


def _pooled(walk: LengthWalk, node: NodeProto, dims: Sequence[Dims]) -> Sequence[Dims]:
    windows = attribute(node, "kernel_shape")
    source = walk.of_rank(dims[0], len(windows) + 2)
    if source is None:
        return []
    found = (*source[:2], *windowed(walk, node, source[2:], windows))
    return [found] * len(node.output)


@of_source
def _pooled_to_one(_walk: LengthWalk, _node: NodeProto, source: Axes) -> Sequence[Dims]:
    return [(*source[:2], *[constant(1)] * (len(source) - 2))]


def _reduction(walk: Walk, index: int, node: NodeProto) -> None:
    """ReduceMean and its like over other axes."""
    found, axes = walk.source(node), axes_of(walk, node)
    if axes is None and has_input(node, 1):
        raise Barrier("takes computed axes")
    if not axes and not whole(node, "noop_with_empty_axes", 0):
        mixing(walk, index, node)
    gone = {axis % found.rank for axis in axes or ()}
    if found.axis in gone:
        mixing(walk, index, node)
    before = sum(axis < found.axis for axis in gone)
    walk.put(node, found.axis if whole(node, "keepdims", 1) else found.axis - before, found.units)


@of_source
def _reduced(walk: LengthWalk, node: NodeProto, source: Axes) -> Sequence[Dims]:
    axes = [whole(node, "axis", 0)] if node.op_type.startswith("Arg") else axes_of(walk, node)
    if axes is None:
        if has_input(node, 1):
            return [None]
        axes = list(range(len(source)))
        if whole(node, "noop_with_empty_axes", 0):
            return [source]
    gone = {axis % len(source) for axis in axes} if source else set()
    if whole(node, "keepdims", 1):
        return [tuple(constant(1) if at in gone else one for at, one in enumerate(source))]
    return [tuple(one for at, one in enumerate(source) if at not in gone)]


def _multiplied(walk: Numbers, node: NodeProto) -> Row:
    """ReduceProd over a row."""
    found = Row(walk.vector(node.input[0])).product
    return Row((found,), rank=whole(node, "keepdims", 1))


def _resize(walk: Walk, index: int, node: NodeProto) -> None:
    """Resize and Upsample over positions."""
    found = walk.source(node)
    if any(walk.constants.tensor(name) is None for name in node.input[1:] if name):
        raise Barrier("takes sizes that are computed")
    if attribute(node, "coordinate_transformation_mode") == b"tf_crop_and_resize":
        raise Barrier("crops")
    if _scale(walk, node, found.axis, found.rank) != 1:
        # Even one that leaves their number as it is would mix them.
        raise Barrier("resizes the channels' axis")
    handed_on(walk, index, node)


def _scale(walk: Walk, node: NodeProto, axis: int, rank: int) -> float:
    """By what an axis is scaled; where sizes are given, by what they say."""
    axes = [each % rank for each in wholes(node, "axes") or range(rank)]
    if axis not in axes:
        return 1
    place = axes.index(axis)
    named = attribute(node, "scales")
    if named is None:
        slot = 1 if node.op_type == "Upsample" or walk.opset < 11 else 2
        named = walk.constants.array(node.input[slot]) if has_input(node, slot) else ()
    scales = np.asarray(named, np.float64)
    if scales.size:
        return float(scales[place])
    sizes = walk.known(node.input[3])
    assert sizes is not None  # computed ones have been refused
    return sizes[place] / walk.shape(node.input[0])[axis]


def _renamed(cut: Cut, node: NodeProto) -> None:
    """The length of the channels' axis, where a Resize's sizes name it."""
    found = cut.axis(node.output[0])
    if found is None:
        return
    axes = [each % found.rank for each in wholes(node, "axes") or range(found.rank)]
    if found.axis in axes:
        cut.rename_length(node, 3, axes.index(found.axis))


@of_source
def _resized(walk: LengthWalk, node: NodeProto, source: Axes) -> Sequence[Dims]:
    sizes = walk.dims_in(node.input[3]) if has_input(node, 3) else None
    if sizes is None or len(sizes) != len(source):
        return [(*source[:2], *[None] * (len(source) - 2))]
    return [sizes]


def _deepened(walk: LengthWalk, node: NodeProto, dims: Sequence[Dims]) -> Sequence[Dims]:
    """DepthToSpace and SpaceToDepth."""
    source, size = walk.of_rank(dims[0], 4), attribute(node, "blocksize")
    if source is None:
        return []
    depth, *rows = source[1:]
    if node.op_type == "SpaceToDepth":
        for one in rows:
            walk.require(one, "multiple", size)
        depth = None if depth is None else depth.times(constant(size * size))
        step = Step(by=size)
    else:
        depth, step = stepped(depth, Step(by=size * size)), Step(size)
    return [(source[0], depth, *(stepped(one, step) for one in rows))]


def _transformed(walk: LengthWalk, node: NodeProto, dims: Sequence[Dims]) -> Sequence[Dims]:
    """STFT, whose input is no shorter than its window."""
    source = dims[0]
    if source is not None and len(source) > 1:
        window = dims[2] if len(dims) > 2 else None
        length = window[0] if window else None
        if (length is None or length.fixed is None) and has_input(node, 3):
            length = (walk.dims_in(node.input[3]) or (None,))[0]
        if length is not None and length.fixed is not None:
            walk.require(source[1], "least", length.fixed)
    return [None]


_POOLING = Operator(lengths=_pooled, channels=_pooling)
_REDUCTION = Operator(lengths=_reduced, channels=_reduction)

OPERATORS = {
    "AveragePool": Operator(lengths=_pooled, channels=_pooling, statistics=same_statistics),
    **family("MaxPool LpPool", _POOLING),
    "GlobalAveragePool": Operator(
        lengths=_pooled_to_one, channels=_pooling, statistics=same_statistics
    ),
    **family("GlobalMaxPool GlobalLpPool", Operator(lengths=_pooled_to_one, channels=_pooling)),
    **family(
        "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceSum "
        "ReduceSumSquare",
        _REDUCTION,
    ),
    "ReduceProd": replace(_REDUCTION, numbers=_multiplied),
    **family("ArgMax ArgMin", Operator(lengths=_reduced)),
    "Resize": Operator(lengths=_resized, channels=_resize, settings=_renamed),
    "Upsample": Operator(lengths=_resized, channels=_resize),
    **family("DepthToSpace SpaceToDepth", Operator(lengths=_deepened)),
    "STFT": Operator(lengths=_transformed),
}
