"""Random Conv nodes for the tests: any kernel, stride, dilation, pad, auto_pad and group."""

from dataclasses import dataclass

import numpy as np
from graphs import model_proto, normal
from hypothesis import assume
from hypothesis import strategies as st
from onnx import ModelProto


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
