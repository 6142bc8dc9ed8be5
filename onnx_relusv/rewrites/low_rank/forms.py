"""Geometry of the double layers: which kernels, strides and pads each of their layers has.

A double layer replaces the linear map x -> Wx + b by x -> U(Vx) + b'. In every form stride, pads
and dilation are placed so that the layers compute the one map with the composed kernel L, padded
borders included; that needs all layers but the last to have no bias.

    pair     Gemm, MatMul: columns -> rank -> rows.
    channel  Conv: the whole kernel to `rank` channels, then 1x1.
    spatial  2-D Conv: (kernel rows x 1) to `rank` channels, then (1 x kernel columns).
    tucker   Conv: 1x1 to p channels, the whole kernel (the core) from p to r, then 1x1.

The spatial form separates in another unfolding of the kernel: with the weight as (o, c, y, x), its
first layer is a matrix of shape (rank, c*y) and its second one of shape (o*x, rank).

The tucker form has a core between its first layer, of shape (p, c), and its second one, (o, r):
a matrix of shape (r, p*y*x). `tucker_widths` says which p and r a rank stands for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, prod, sqrt
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from onnx_relusv.core.blocks import Floats, Geometry
from onnx_relusv.core.plans import Form

# float64, or float32 where a graph goes on with it.
Reals = TypeVar("Reals", Floats, npt.NDArray[np.float32])


@dataclass(frozen=True)
class ConvLayer:
    """One Conv of a double layer: attributes as ONNX has them."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    auto_pad: str


def available_forms(geometry: Geometry) -> tuple[Form, ...]:
    """The forms that make sense for a geometry; 1x1 kernels have the channel form only."""
    if geometry.kind != "conv":
        return ("pair",)
    found: list[Form] = ["channel"]
    if len(geometry.kernel) == 2 and min(geometry.kernel) > 1:
        found.append("spatial")
    # One input channel leaves nothing for a layer in front of the core to mix.
    if prod(geometry.kernel) > 1 and geometry.in_channels > geometry.groups:
        found.append("tucker")
    return tuple(found)


def tucker_widths(geometry: Geometry, rank: int) -> tuple[int, int]:
    """The channels p in front of a tucker's core and r behind it, per group.

    r is the rank, and p is r over the root of the kernel's values, rounded up: r lies half way, in
    logarithms, between the p channels and the p * values numbers of a patch. That is a heuristic:
    on the bundled models' 3x3 kernels, at 3 to 25 % of the numbers, its squared error is 6 % above
    that of the best p on average, where p in proportion to the channels is 44 % above it. Where
    one of the two reaches what the block has, the other goes on alone.
    """
    return (
        min(_most_in_front(geometry), ceil(rank / sqrt(prod(geometry.kernel)))),
        min(geometry.largest_rank, rank),
    )


def _most_in_front(geometry: Geometry) -> int:
    """The rank of the kernel unfolded along its input channels, which it cannot exceed."""
    return min(geometry.in_channels // geometry.groups, geometry.rows * prod(geometry.kernel))


def first_shape(form: Form, geometry: Geometry, rank: int) -> tuple[int, int]:
    """Shape (rank, columns) of one group's first factor as a matrix."""
    if form == "tucker":
        return tucker_widths(geometry, rank)[0], geometry.in_channels // geometry.groups
    if form == "spatial":
        return rank, geometry.in_channels // geometry.groups * geometry.kernel[0]
    return rank, geometry.columns


def second_shape(form: Form, geometry: Geometry, rank: int) -> tuple[int, int]:
    """Shape (rows, rank) of one group's second factor as a matrix."""
    if form == "spatial":
        return geometry.rows * geometry.kernel[1], rank
    if form == "tucker":
        return geometry.rows, tucker_widths(geometry, rank)[1]
    return geometry.rows, rank


def shapes(form: Form, geometry: Geometry, rank: int) -> tuple[tuple[int, int], ...]:
    """Shapes of one group's factors as matrices, in the order in which their layers run."""
    if form == "dense":
        return ((geometry.rows, geometry.columns),)
    first, second = first_shape(form, geometry, rank), second_shape(form, geometry, rank)
    if form == "tucker":
        return first, (second[1], first[0] * prod(geometry.kernel)), second
    return first, second


def largest_rank(form: Form, geometry: Geometry) -> int:
    """The least rank with which the form reproduces any kernel."""
    if form == "dense":
        return geometry.largest_rank
    if form == "tucker":
        # The least that gives every channel in front of the core, and behind it.
        in_front = floor((_most_in_front(geometry) - 1) * sqrt(prod(geometry.kernel))) + 1
        return max(in_front, geometry.largest_rank)
    return min(first_shape(form, geometry, 1)[1], second_shape(form, geometry, 1)[0])


def parameters(form: Form, geometry: Geometry, rank: int) -> int:
    """Numbers in all factors, over all groups, without the bias."""
    return geometry.groups * sum(map(prod, shapes(form, geometry, rank)))


def macs(
    form: Form,
    geometry: Geometry,
    rank: int,
    source_shape: tuple[int, ...],
    output_shape: tuple[int, ...],
) -> int:
    """Multiply-accumulates of all layers for one sample.

    Args:
        form: The form.
        geometry: The block's geometry.
        rank: Inner width, per group.
        source_shape: The block input's shape at batch 1.
        output_shape: Its output's shape at batch 1.
    """
    first, *behind = (geometry.groups * prod(each) for each in shapes(form, geometry, rank))
    if geometry.kind != "conv":
        return (first + sum(behind)) * prod(output_shape[:-1])
    positions = prod(output_shape[2:])
    if form == "spatial":
        # The first layer strides along the rows only, so it runs over every input column.
        return first * output_shape[2] * source_shape[3] + sum(behind) * positions
    if form == "tucker":
        # The first layer runs over the whole input; the core strides.
        return first * prod(source_shape[2:]) + sum(behind) * positions
    return (first + sum(behind)) * positions


def conv_layers(form: Form, geometry: Geometry) -> tuple[ConvLayer, ...]:
    """The Conv nodes of a form, in their order."""
    axes = len(geometry.kernel)
    one, zero = (1,) * axes, (0,) * (2 * axes)
    if form != "spatial":
        whole = ConvLayer(
            geometry.kernel,
            geometry.strides,
            geometry.dilations,
            geometry.pads,
            geometry.auto_pad,
        )
        pointwise = ConvLayer(one, one, one, zero, "NOTSET")
        if form == "dense":
            return (whole,)
        return (whole, pointwise) if form == "channel" else (pointwise, whole, pointwise)
    (height, width), (down, across) = geometry.kernel, geometry.strides
    (row_step, column_step) = geometry.dilations
    top, left, bottom, right = geometry.pads if geometry.pads else (0, 0, 0, 0)
    # auto_pad acts on each axis by itself, and pads an axis of kernel 1 and stride 1 by nothing.
    columns = ConvLayer(
        (height, 1), (down, 1), (row_step, 1), (top, 0, bottom, 0), geometry.auto_pad
    )
    rows = ConvLayer(
        (1, width), (1, across), (1, column_step), (0, left, 0, right), geometry.auto_pad
    )
    return columns, rows


def conv_attributes(layer: ConvLayer, groups: int) -> dict[str, int | str | Sequence[int]]:
    """The attributes of a Conv node."""
    attributes: dict[str, int | str | Sequence[int]] = {
        "kernel_shape": list(layer.kernel),
        "strides": list(layer.strides),
        "dilations": list(layer.dilations),
        "group": groups,
    }
    if layer.auto_pad == "NOTSET":
        return attributes | {"pads": list(layer.pads)}
    return attributes | {"auto_pad": layer.auto_pad}


def unfold(form: Form, geometry: Geometry, weight: Reals) -> Reals:
    """The matrix whose rank the form cuts, per group.

    Args:
        form: The form.
        geometry: The block's geometry.
        weight: (groups, rows, columns); of all groups or of some.

    Returns:
        (groups, second rows, first columns): the weight itself, or (o*x, c*y) for `spatial`.
    """
    if form != "spatial":
        return weight
    groups, (height, width) = len(weight), geometry.kernel
    split = weight.reshape(groups, geometry.rows, -1, height, width)
    moved = split.transpose(0, 1, 4, 2, 3)
    return np.ascontiguousarray(moved).reshape(groups, geometry.rows * width, -1)


def fold(form: Form, geometry: Geometry, matrix: Reals) -> Reals:
    """The inverse of `unfold`: (groups, rows, columns) from the form's own matrix."""
    if form != "spatial":
        return matrix
    groups, (height, width) = len(matrix), geometry.kernel
    split = matrix.reshape(groups, geometry.rows, width, -1, height)
    moved = split.transpose(0, 1, 3, 4, 2)
    return np.ascontiguousarray(moved).reshape(groups, geometry.rows, geometry.columns)


def compose(form: Form, geometry: Geometry, *matrices: Reals) -> Reals:
    """The dense kernel L, (groups, rows, columns), that factors stand for.

    Args:
        form: The form.
        geometry: The block's geometry.
        matrices: One of each of `shapes`, in that order, with the groups as their first axis.
    """
    if len(matrices) == 1:
        return fold(form, geometry, matrices[0])
    return fold(form, geometry, matrices[-1] @ inner(*matrices[:-1]))


def inner(first: Reals, *core: Reals) -> Reals:
    """What all layers but the last compute: the first factor, or a core behind it.

    Args:
        first: (groups, rank, columns), or (groups, p, c) in front of a core.
        core: (groups, r, p * kernel values) of a tucker; nothing of the other forms.

    Returns:
        (groups, rank, columns), or (groups, r, c * kernel values).
    """
    if not core:
        return first
    by_value = core_by_value(core[0], first.shape[1])
    groups, width, values, _ = by_value.shape
    mixed = (by_value.reshape(groups, width * values, -1) @ first).reshape(
        groups, width, values, -1
    )
    return np.ascontiguousarray(mixed.transpose(0, 1, 3, 2)).reshape(groups, width, -1)


def inner_slopes(slope: Reals, first: Reals, *core: Reals) -> list[Reals]:
    """The chain rule through `inner`.

    Args:
        slope: With respect to what `inner` gives.
        first: As given to it.
        core: Likewise.

    Returns:
        With respect to the first factor and, if there is one, the core.
    """
    if not core:
        return [slope]
    groups, in_front, channels = first.shape
    by_value = core_by_value(core[0], in_front)
    slope_by_value = core_by_value(slope, channels)
    rows = groups, -1, channels
    first_slope = by_value.reshape(groups, -1, in_front).transpose(0, 2, 1) @ (
        slope_by_value.reshape(rows)
    )
    core_slope = slope_by_value.reshape(rows) @ first.transpose(0, 2, 1)
    turned = core_slope.reshape(by_value.shape).transpose(0, 1, 3, 2)
    return [first_slope, np.ascontiguousarray(turned).reshape(core[0].shape)]


def core_by_value(core: Reals, in_front: int) -> Reals:
    """(groups, r, kernel values, p) from a core's (groups, r, p * kernel values)."""
    groups, width, _ = core.shape
    split = core.reshape(groups, width, in_front, -1)
    return np.ascontiguousarray(split.transpose(0, 1, 3, 2))
