"""Dense matrices of convolutions on feature maps, for tests.

They come out of onnxruntime's own Conv: what it makes of every map that is 1 at one place. Kernels
are of small whole numbers, so that its float32 sums are exact.
"""

from collections.abc import Sequence
from math import prod

import numpy as np
import onnx_graphs
from examples import conv

from onnx_relusv.core.blocks import Floats, Geometry


def whole_numbers(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng([seed, *shape]).integers(-9, 10, shape).astype(np.float64)


def convolved(x: np.ndarray, kernel: Floats, geometry: Geometry) -> Floats:
    axes = [None] * len(geometry.kernel)
    model = onnx_graphs.runnable(
        [onnx_graphs.conv_node(["x", "w"], "y", geometry, geometry.groups)],
        {"x": [None, geometry.in_channels, *axes]},
        ["y"],
        {"w": kernel.astype(np.float32)},
    )
    return onnx_graphs.run(model, x=x.astype(np.float32))["y"].astype(np.float64)


def unit_maps(channels: int, lengths: Sequence[int]) -> np.ndarray:
    size = channels * prod(lengths)
    return np.eye(size, dtype=np.float32).reshape(size, channels, *lengths)


def circular_matrix(
    kernel: Floats,
    lengths: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    groups: int,
) -> Floats:
    """(inputs, outputs) of the convolution with circular padding."""
    channels, axes = kernel.shape[1] * groups, len(lengths)
    reach = [d * (k - 1) for d, k in zip(dilations, kernel.shape[2:], strict=True)]
    x = unit_maps(channels, lengths)
    padded = np.pad(x, [(0, 0), (0, 0), *((0, along) for along in reach)], mode="wrap")
    geometry = conv(
        channels,
        len(kernel),
        kernel.shape[2:],
        groups=groups,
        strides=tuple(strides),
        dilations=tuple(dilations),
        pads=(0,) * (2 * axes),
    )
    return convolved(padded, kernel, geometry).reshape(len(x), -1)


def padded_matrix(kernel: Floats, geometry: Geometry, lengths: Sequence[int]) -> Floats:
    """(inputs, outputs) of the convolution with the zero padding that it has."""
    x = unit_maps(geometry.in_channels, lengths)
    return convolved(x, kernel, geometry).reshape(len(x), -1)


def patch_view(kernel: Floats, groups: int) -> Floats:
    """(groups, rows, columns)."""
    return kernel.reshape(groups, len(kernel) // groups, -1)


def largest_of_patches(kernel: Floats, groups: int) -> float:
    return float(np.linalg.norm(patch_view(kernel, groups), 2, axis=(1, 2)).max())
