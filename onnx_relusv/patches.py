"""Which input values a Conv multiplies its kernel with: im2col as an index, without the copying."""

from math import ceil

import numpy as np
import numpy.typing as npt

from onnx_relusv.records import Geometry

Integers = npt.NDArray[np.int64]


def explicit_pads(geometry: Geometry, lengths: tuple[int, ...]) -> tuple[int, ...]:
    """Pads as begins then ends, with auto_pad resolved for an input of these spatial lengths.

    SAME_UPPER and SAME_LOWER give ceil(length / stride) outputs; of an odd total pad, the larger
    half goes to the end or to the beginning.
    """
    if geometry.auto_pad == "NOTSET":
        return geometry.pads
    if geometry.auto_pad == "VALID":
        return (0,) * (2 * len(lengths))
    begins, ends = [], []
    for length, kernel, stride, dilation in zip(
        lengths, geometry.kernel, geometry.strides, geometry.dilations, strict=True
    ):
        reach = (kernel - 1) * dilation + 1
        total = max((ceil(length / stride) - 1) * stride + reach - length, 0)
        smaller, larger = total // 2, total - total // 2
        upper = geometry.auto_pad == "SAME_UPPER"
        begins.append(smaller if upper else larger)
        ends.append(larger if upper else smaller)
    return (*begins, *ends)


def output_lengths(geometry: Geometry, lengths: tuple[int, ...]) -> tuple[int, ...]:
    """Spatial lengths of the Conv's output for an input of these spatial lengths."""
    axes = len(lengths)
    pads = explicit_pads(geometry, lengths)
    return tuple(
        (length + pads[i] + pads[i + axes] - (kernel - 1) * dilation - 1) // stride + 1
        for i, (length, kernel, stride, dilation) in enumerate(
            zip(lengths, geometry.kernel, geometry.strides, geometry.dilations, strict=True)
        )
    )


def patch_index(geometry: Geometry, lengths: tuple[int, ...], positions: Integers) -> Integers:
    """Where the values of patches lie in the padded input with its spatial axes flattened.

    Args:
        geometry: Of a Conv with one or two spatial axes.
        lengths: Spatial lengths of the input before padding.
        positions: (p,) output positions, flattened in C order.

    Returns:
        (kernel values, p) int64; kernel values in the order in which ONNX stores a kernel.
    """
    axes = len(lengths)
    pads = explicit_pads(geometry, lengths)
    padded = tuple(lengths[i] + pads[i] + pads[i + axes] for i in range(axes))
    where = np.unravel_index(positions, output_lengths(geometry, lengths))
    taps = np.indices(geometry.kernel).reshape(axes, -1)
    index = np.zeros((taps.shape[1], len(positions)), np.int64)
    for axis in range(axes):
        along = (
            where[axis][None, :] * geometry.strides[axis]
            + taps[axis][:, None] * geometry.dilations[axis]
        )
        index = index * padded[axis] + along
    return index
