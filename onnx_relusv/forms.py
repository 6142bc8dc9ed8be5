"""Geometry of the double layers: which kernels, strides and pads each of the two layers has.

A double layer replaces the linear map x -> Wx + b by x -> U(Vx) + b'. In every form stride, pads
and dilation are placed so that the two layers compute the one map with the composed kernel L,
padded borders included; that needs the first layer to have no bias.

    pair     Gemm, MatMul: columns -> rank -> rows.
    channel  Conv: the whole kernel to `rank` channels, then 1x1.
    spatial  2-D Conv: (kernel rows x 1) to `rank` channels, then (1 x kernel columns).

The spatial form separates in another unfolding of the kernel: with the weight as (o, c, y, x), its
first layer is a matrix of shape (rank, c*y) and its second one of shape (o*x, rank).
"""

from dataclasses import dataclass
from math import prod
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from onnx_relusv.decisions import Form
from onnx_relusv.records import Floats, Geometry

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
    """The forms that make sense for a geometry; 1x1 and 1-D kernels have the channel form only."""
    if geometry.kind != "conv":
        return ("pair",)
    if len(geometry.kernel) == 2 and min(geometry.kernel) > 1:
        return ("channel", "spatial")
    return ("channel",)


def first_shape(form: Form, geometry: Geometry, rank: int) -> tuple[int, int]:
    """Shape (rank, columns) of one group's first factor as a matrix."""
    if form == "spatial":
        return rank, geometry.in_channels // geometry.groups * geometry.kernel[0]
    return rank, geometry.columns


def second_shape(form: Form, geometry: Geometry, rank: int) -> tuple[int, int]:
    """Shape (rows, rank) of one group's second factor as a matrix."""
    if form == "spatial":
        return geometry.rows * geometry.kernel[1], rank
    return geometry.rows, rank


def largest_rank(form: Form, geometry: Geometry) -> int:
    """The rank with which the form reproduces any kernel."""
    return min(first_shape(form, geometry, 1)[1], second_shape(form, geometry, 1)[0])


def parameters(form: Form, geometry: Geometry, rank: int) -> int:
    """Numbers in both factors, over all groups, without the bias."""
    first, second = first_shape(form, geometry, rank), second_shape(form, geometry, rank)
    return geometry.groups * (prod(first) + prod(second))


def macs(
    form: Form,
    geometry: Geometry,
    rank: int,
    source_shape: tuple[int, ...],
    output_shape: tuple[int, ...],
) -> int:
    """Multiply-accumulates of both layers for one sample.

    Args:
        form: The form.
        geometry: The block's geometry.
        rank: Inner width, per group.
        source_shape: The block input's shape at batch 1.
        output_shape: Its output's shape at batch 1.
    """
    first = geometry.groups * prod(first_shape(form, geometry, rank))
    second = geometry.groups * prod(second_shape(form, geometry, rank))
    if geometry.kind != "conv":
        return (first + second) * prod(output_shape[:-1])
    if form == "spatial":
        # The first layer strides along the rows only, so it runs over every input column.
        return first * output_shape[2] * source_shape[3] + second * prod(output_shape[2:])
    return (first + second) * prod(output_shape[2:])


def conv_layers(form: Form, geometry: Geometry) -> tuple[ConvLayer, ConvLayer]:
    """The two Conv nodes of a form."""
    axes = len(geometry.kernel)
    one, zero = (1,) * axes, (0,) * (2 * axes)
    if form == "channel":
        whole = ConvLayer(
            geometry.kernel,
            geometry.strides,
            geometry.dilations,
            geometry.pads,
            geometry.auto_pad,
        )
        return whole, ConvLayer(one, one, one, zero, "NOTSET")
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


def compose(form: Form, geometry: Geometry, first: Reals, second: Reals) -> Reals:
    """The dense kernel L, (groups, rows, columns), that two factors stand for."""
    return fold(form, geometry, second @ first)
