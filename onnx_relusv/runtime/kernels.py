"""Graphs that ascend, for ReLU singular values and mean widths.

Each works for every shape: dimensions arrive as inputs. The loops are ONNX Loops, so no Python runs
inside an ascent. Many ascents share one product: a column is one ascent.
"""

from functools import lru_cache

import numpy as np
from onnx import NodeProto, helper, numpy_helper

from onnx_relusv.runtime.ascents import (
    OUTPUTS,
    Ascent,
    activation,
    back,
    compared,
    constants,
    coordinates,
    downward,
    kept,
    length,
    loop,
    pace,
    projected,
    pulled,
    scalar,
)
from onnx_relusv.runtime.graph_parts import FLOAT, node, open_kernel, value
from onnx_relusv.runtime.session import Session

_FACTOR = 4.0


@lru_cache(maxsize=32)
def gap_kernel(provider: str, ascent: Ascent) -> Session:
    """Ascends |phi(Ax + b) - phi(Lx + b)| over x, for many L and starts at once; opset 17.

    With A = W V (V the right singular vectors) and m the 0/1 mask of the first k coordinates,
    A(m * x) is the truncated SVD's Lx; the stand-in "none" is L = 0.

    A step adds the gradient of half the square, divided by the square's own scale, and projects:
    for L = 0 without bias the function is convex, and that is a step of the generalised power
    method, which never descends. Elsewhere steps get shorter. The largest value of all steps is
    kept, so that a bad step loses nothing.

    Inputs:
        a: (out, r) float32. slope, offset: (out, 1) float32; the offset is b (not plain only).
        ceiling: (1, 1) float32 (clipped only).
        mask: (r, columns) float32 (stand-in "mask" only).
        other: (out, r) float32, L (stand-in "map" only).
        rotation: (r, coordinates) float32 (non-negative only); otherwise coordinates = r.
        scale: (1, columns) float32, the squared largest gap that is possible, positive.
        x: (coordinates, columns) float32, feasible columns.

    Outputs:
        history: (iterations, 1, columns) float32, the largest gap that each start has met so far:
            lower estimates of the inner maximum.
        at: (coordinates, columns) float32, where each start has met it.
        last: (coordinates, columns) float32, where each start is one step later than the last gap.
    """
    step = [
        *coordinates(ascent),
        node("MatMul", ["a", "y"], "whole"),
        *activation("whole", ascent),
        *compared(ascent),
        node("ReduceSumSquare", ["gap"], "square", axes=[0], keepdims=1),
        node("Sqrt", ["square"], "length"),
        *kept("length", never_descends=ascent.convex),
        *_whole_pull(ascent),
        node("MatMul", ["a_turned", "whole_pull"], "upward"),
        *downward(ascent),
        *back("uphill", ascent),
        # A long step: at this scale the gradient outweighs x where the gap is near its limit.
        *pace("step_scale", constant=ascent.convex),
        node("Div", ["gradient", "step_scale_now"], "step"),
        node("Add", ["x_in", "step"], "moved"),
        *projected("moved", "x_out", ascent),
    ]
    outer = [
        node("Transpose", ["a"], "a_turned", perm=[1, 0]),
        node("Div", ["scale", "factor"], "step_scale"),
        node("Mul", ["scale", "zero"], "none"),
    ]
    if ascent.nonnegative:
        outer.append(node("Transpose", ["rotation"], "rotation_turned", perm=[1, 0]))
    if ascent.stand_in == "none" and not ascent.plain:
        # phi(b), which is all that is left of the stand-in.
        outer += [*activation("offset", ascent, add_offset=False)]
    elif ascent.stand_in == "map":
        outer.append(node("Transpose", ["other"], "other_turned", perm=[1, 0]))
    outer.append(loop(step, ["x", "none", "x"]))
    names = ["a", "scale", "x"] + ([] if ascent.plain else ["slope", "offset"])
    names += ["ceiling"] * ascent.clipped + ["rotation"] * ascent.nonnegative
    names += {"none": [], "mask": ["mask"], "map": ["other"]}[ascent.stand_in]
    return open_kernel(
        helper.make_graph(
            outer,
            "gap",
            [value(name, FLOAT, 2) for name in names],
            OUTPUTS,
            [*constants(ascent), scalar(_FACTOR, "factor")],
        ),
        provider,
    )


@lru_cache(maxsize=32)
def width_kernel(provider: str, ascent: Ascent) -> Session:
    """Ascends <g, phi(Ax + b)> over x, one column a draw of g; opset 17.

    A step adds the gradient, of length 1 at first and shorter later, and projects.

    Inputs:
        a: (out, r) float32. slope, offset: (out, 1) float32 (not plain only).
        ceiling: (1, 1) float32 (clipped only).
        rotation: (r, coordinates) float32 (non-negative only).
        g: (out, columns) float32.
        x: (coordinates, columns) float32, feasible columns.

    Outputs:
        history: (iterations, 1, columns) float32, the largest value met so far: lower estimates
            of each supremum.
        at: (coordinates, columns) float32, where each has met it.
        last: (coordinates, columns) float32, where each is one step later than the last value.
    """
    step = [
        *coordinates(ascent),
        node("MatMul", ["a", "y"], "whole"),
        *activation("whole", ascent),
        node("Mul", ["g", "whole_out"], "products"),
        node("ReduceSum", ["products", "rows"], "reached", keepdims=1),
        *kept("reached", never_descends=False),
        *pulled("g", "whole", "pull", ascent),
        node("MatMul", ["a_turned", "pull"], "uphill"),
        *back("uphill", ascent),
        *length("gradient", "tiny"),
        *pace("gradient_length", constant=False),
        node("Div", ["gradient", "gradient_length_now"], "step"),
        node("Add", ["x_in", "step"], "moved"),
        *projected("moved", "x_out", ascent),
    ]
    outer = [
        node("Transpose", ["a"], "a_turned", perm=[1, 0]),
        node("ReduceSum", ["g", "rows"], "sums", keepdims=1),
        node("Mul", ["sums", "zero"], "zeros"),
        node("Sub", ["zeros", "huge"], "none"),
    ]
    names = ["a", "g", "x"] + ([] if ascent.plain else ["slope", "offset"])
    names += ["ceiling"] * ascent.clipped + ["rotation"] * ascent.nonnegative
    if ascent.nonnegative:
        outer.append(node("Transpose", ["rotation"], "rotation_turned", perm=[1, 0]))
    outer.append(loop(step, ["x", "none", "x"]))
    return open_kernel(
        helper.make_graph(
            outer,
            "width",
            [value(name, FLOAT, 2) for name in names],
            OUTPUTS,
            [
                *constants(ascent),
                numpy_helper.from_array(np.array([0]), "rows"),
                # Below every value that can be met: with a bias, suprema may be negative.
                scalar(float(np.finfo(np.float32).max), "huge"),
            ],
        ),
        provider,
    )


def _whole_pull(ascent: Ascent) -> list[NodeProto]:
    """The gap times the derivative behind the map."""
    if ascent.plain and ascent.stand_in == "none":
        # What a Relu has left is 0 where its derivative is.
        return [node("Identity", ["gap"], "whole_pull")]
    return pulled("gap", "whole", "whole_pull", ascent)
