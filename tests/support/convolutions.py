"""Convolutions: Conv nodes drawn by hypothesis, and dense matrices of Convs on feature maps."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx_graphs
from examples import conv
from graphs import model_proto, normal
from hypothesis import assume
from hypothesis import strategies as st
from onnx import ModelProto

from onnx_relusv.core.blocks import Floats, Geometry


@dataclass(frozen=True, eq=False)
class Convolution:
    """A model of one Conv from `x` to `y`."""

    attributes: str
    arrays: dict[str, np.ndarray]
    shape: tuple[int, ...]

    def proto(self) -> ModelProto:
        """The model."""
        axes = ",".join("abcd"[: len(self.shape)])
        text = f"(float[{axes}] x) => (y) {{ y = Conv<{self.attributes}>(x, w, b) }}"
        return model_proto(text, self.arrays)

    def feeds(self) -> dict[str, np.ndarray]:
        """Random input."""
        return {"x": normal(*self.shape, seed=1)}

    def __repr__(self) -> str:
        return f"Conv<{self.attributes}> {self.arrays['w'].shape} on {self.shape}"


@st.composite
def convolutions(draw: st.DrawFn, axes: int | None = None) -> Convolution:
    """A Conv with an output of at least one value, with one or two spatial axes."""
    axes = axes or draw(st.integers(1, 2))
    auto_pad = draw(st.sampled_from(["NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    # onnxruntime has no kernel for SAME_UPPER or SAME_LOWER with dilation.
    widest = 1 if auto_pad.startswith("SAME") else 3

    def lengths(least: int, most: int, count: int = axes) -> list[int]:
        return draw(st.lists(st.integers(least, most), min_size=count, max_size=count))

    kernel, strides, dilations = lengths(1, 4), lengths(1, 3), lengths(1, widest)
    pads = lengths(0, 3, 2 * axes) if auto_pad == "NOTSET" else [0] * (2 * axes)
    groups = draw(st.sampled_from([1, 2, 3]))
    # A group of one input channel would be refused as depthwise.
    inputs, outputs = groups * draw(st.integers(2, 3)), groups * draw(st.integers(1, 3))
    size = lengths(1, 10)
    if not auto_pad.startswith("SAME"):
        for axis, length in enumerate(size):
            reach = (kernel[axis] - 1) * dilations[axis] + 1
            assume(length + pads[axis] + pads[axis + axes] >= reach)
    padding = f"pads={pads}" if auto_pad == "NOTSET" else f'auto_pad="{auto_pad}"'
    return Convolution(
        f"group={groups}, strides={strides}, dilations={dilations}, {padding}",
        {"w": normal(outputs, inputs // groups, *kernel), "b": normal(outputs)},
        (2, inputs, *size),
    )


def whole_numbers(*shape: int, seed: int = 0) -> Floats:
    """Kernels of small whole numbers, so that float32 sums of onnxruntime are exact."""
    return np.random.default_rng([seed, *shape]).integers(-9, 10, shape).astype(np.float64)


def convolved(x: np.ndarray, kernel: Floats, geometry: Geometry) -> Floats:
    """What onnxruntime's own Conv makes of maps; of maps that are 1 at one place, its matrix."""
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
