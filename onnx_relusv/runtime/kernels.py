"""Graphs that ascend, for ReLU singular values and mean widths.

Each works for every shape: dimensions arrive as inputs. The loops are ONNX Loops, so no Python runs
inside an ascent. Many ascents share one product: a column is one ascent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from onnx_relusv.runtime.graph_parts import FLOAT, INT, node, open_kernel, value
from onnx_relusv.runtime.session import Session

# What stands in for the map A: nothing but the bias; A with coordinates masked; another map.
StandIn = Literal["none", "mask", "map"]

_TINY = 1e-30
_FACTOR = 4.0


@dataclass(frozen=True)
class Ascent:
    """What a graph ascends; one is built for each that is asked for.

    phi(y) = max(y, 0) + slope * min(y, 0), from above cut off at a ceiling where `clipped`.

    Attributes:
        iterations: Steps.
        stand_in: What A is compared with.
        clipped: Whether phi has a ceiling.
        inside: Whether x may lie inside of the unit ball; otherwise it lies on the sphere, where
            maxima of positively homogeneous functions are found.
        nonnegative: Whether x has to be non-negative; A then acts on `rotation` @ x.
    """

    iterations: int
    stand_in: StandIn = "none"
    clipped: bool = False
    inside: bool = False
    nonnegative: bool = False


@lru_cache(maxsize=32)
def gap_kernel(provider: str, ascent: Ascent) -> Session:
    """Ascends |phi(Ax + b) - phi(Lx + b)| over x, for many L and starts at once; opset 17.

    With A = W V (V the right singular vectors) and m the 0/1 mask of the first k coordinates,
    A(m * x) is the truncated SVD's Lx; the stand-in "none" is L = 0.

    A step adds the gradient of half the square, divided by the square's own scale, and projects:
    for L = 0 without bias the function is convex, and that is a step of the generalised power
    method, which never descends. The largest value of all steps is kept, so that a bad step
    loses nothing.

    Inputs:
        a: (out, r) float32. slope, offset: (out, 1) float32; the offset is b.
        ceiling: (1, 1) float32 (clipped only).
        mask: (r, columns) float32 (stand-in "mask" only).
        other: (out, r) float32, L (stand-in "map" only).
        rotation: (r, coordinates) float32 (non-negative only); otherwise coordinates = r.
        scale: (1, columns) float32, the squared largest gap that is possible, positive.
        x: (coordinates, columns) float32, feasible columns.

    Outputs:
        history: (iterations, 1, columns) float32, the largest gap that each start has met so far:
            lower estimates of the inner maximum.
        last: (coordinates, columns) float32, where each start has arrived.
    """
    step = [
        *_coordinates(ascent),
        node("MatMul", ["a", "y"], "whole"),
        *_activation("whole", ascent),
        *_compared(ascent),
        node("ReduceSumSquare", ["gap"], "square", axes=[0], keepdims=1),
        node("Sqrt", ["square"], "length"),
        node("Max", ["best_in", "length"], "best_out"),
        node("Mul", ["gap", "whole_slope"], "whole_pull"),
        node("MatMul", ["a_turned", "whole_pull"], "upward"),
        *_downward(ascent),
        *_back("uphill", ascent),
        # A long step: at this scale the gradient outweighs x where the gap is near its limit.
        node("Div", ["gradient", "step_scale"], "step"),
        node("Add", ["x_in", "step"], "moved"),
        *_projected("moved", "x_out", ascent),
    ]
    outer = [
        node("Transpose", ["a"], "a_turned", perm=[1, 0]),
        node("Div", ["scale", "factor"], "step_scale"),
        node("Mul", ["scale", "zero"], "none"),
    ]
    if ascent.nonnegative:
        outer.append(node("Transpose", ["rotation"], "rotation_turned", perm=[1, 0]))
    if ascent.stand_in == "none":
        # phi(b), which is all that is left of the stand-in.
        outer += [*_activation("offset", ascent, add_offset=False)]
    elif ascent.stand_in == "map":
        outer.append(node("Transpose", ["other"], "other_turned", perm=[1, 0]))
    outer.append(_loop(step, ["x", "none"]))
    names = ["a", "slope", "offset", "scale", "x"]
    names += ["ceiling"] * ascent.clipped + ["rotation"] * ascent.nonnegative
    names += {"none": [], "mask": ["mask"], "map": ["other"]}[ascent.stand_in]
    return open_kernel(
        helper.make_graph(
            outer,
            "gap",
            [value(name, FLOAT, 2) for name in names],
            [value("history", FLOAT, 3), value("last", FLOAT, 2)],
            [*_constants(ascent.iterations), _scalar(_FACTOR, "factor")],
        ),
        provider,
    )


@lru_cache(maxsize=32)
def width_kernel(provider: str, ascent: Ascent) -> Session:
    """Ascends <g, phi(Ax + b)> over x, one column a draw of g; opset 17.

    Inputs:
        a: (out, r) float32. slope, offset: (out, 1) float32.
        ceiling: (1, 1) float32 (clipped only).
        rotation: (r, coordinates) float32 (non-negative only).
        g: (out, columns) float32.
        x: (coordinates, columns) float32, feasible columns.

    Outputs:
        history: (iterations, 1, columns) float32, the largest value met so far: lower estimates
            of each supremum.
        last: (coordinates, columns) float32, where each has arrived.
    """
    step = [
        *_coordinates(ascent),
        node("MatMul", ["a", "y"], "whole"),
        *_activation("whole", ascent),
        node("Mul", ["g", "whole_out"], "products"),
        node("ReduceSum", ["products", "rows"], "reached", keepdims=1),
        node("Max", ["best_in", "reached"], "best_out"),
        node("Mul", ["g", "whole_slope"], "pull"),
        node("MatMul", ["a_turned", "pull"], "uphill"),
        *_back("uphill", ascent),
        *_unit("gradient", "direction"),
        node("Add", ["x_in", "direction"], "moved"),
        *_projected("moved", "x_out", ascent),
    ]
    outer = [
        node("Transpose", ["a"], "a_turned", perm=[1, 0]),
        node("ReduceSum", ["g", "rows"], "sums", keepdims=1),
        node("Mul", ["sums", "zero"], "zeros"),
        node("Sub", ["zeros", "huge"], "none"),
    ]
    names = ["a", "slope", "offset", "g", "x"]
    names += ["ceiling"] * ascent.clipped + ["rotation"] * ascent.nonnegative
    if ascent.nonnegative:
        outer.append(node("Transpose", ["rotation"], "rotation_turned", perm=[1, 0]))
    outer.append(_loop(step, ["x", "none"]))
    return open_kernel(
        helper.make_graph(
            outer,
            "width",
            [value(name, FLOAT, 2) for name in names],
            [value("history", FLOAT, 3), value("last", FLOAT, 2)],
            [
                *_constants(ascent.iterations),
                numpy_helper.from_array(np.array([0]), "rows"),
                # Below every value that can be met: with a bias, suprema may be negative.
                _scalar(float(np.finfo(np.float32).max), "huge"),
            ],
        ),
        provider,
    )


def _coordinates(ascent: Ascent) -> list[NodeProto]:
    """What A acts on."""
    if ascent.nonnegative:
        return [node("MatMul", ["rotation", "x_in"], "y")]
    return [node("Identity", ["x_in"], "y")]


def _back(uphill: str, ascent: Ascent) -> list[NodeProto]:
    """The gradient in the coordinates of x."""
    if ascent.nonnegative:
        return [node("MatMul", ["rotation_turned", uphill], "gradient")]
    return [node("Identity", [uphill], "gradient")]


def _activation(name: str, ascent: Ascent, *, add_offset: bool = True) -> list[NodeProto]:
    """phi(NAME + b) as NAME_out and its derivative as NAME_slope."""
    source = f"{name}_shifted" if add_offset else name
    nodes = [node("Add", [name, "offset"], source)] if add_offset else []
    slope = f"{name}_rising" if ascent.clipped else f"{name}_slope"
    output = f"{name}_uncut" if ascent.clipped else f"{name}_out"
    nodes += [
        node("Greater", [source, "zero"], f"{name}_active"),
        node("Where", [f"{name}_active", "one", "slope"], slope),
        node("Mul", [source, slope], output),
    ]
    if ascent.clipped:
        nodes += [
            node("Min", [output, "ceiling"], f"{name}_out"),
            node("Less", [source, "ceiling"], f"{name}_below"),
            node("Where", [f"{name}_below", slope, "zero"], f"{name}_slope"),
        ]
    return nodes


def _compared(ascent: Ascent) -> list[NodeProto]:
    """The gap between the map and its stand-in."""
    if ascent.stand_in == "none":
        return [node("Sub", ["whole_out", "offset_out"], "gap")]
    if ascent.stand_in == "mask":
        nodes = [node("Mul", ["y", "mask"], "kept"), node("MatMul", ["a", "kept"], "part")]
    else:
        nodes = [node("MatMul", ["other", "y"], "part")]
    return [*nodes, *_activation("part", ascent), node("Sub", ["whole_out", "part_out"], "gap")]


def _downward(ascent: Ascent) -> list[NodeProto]:
    """The gradient's part that goes through the stand-in."""
    if ascent.stand_in == "none":
        return [node("Identity", ["upward"], "uphill")]
    nodes = [node("Mul", ["gap", "part_slope"], "part_pull")]
    if ascent.stand_in == "mask":
        nodes += [
            node("MatMul", ["a_turned", "part_pull"], "through"),
            node("Mul", ["through", "mask"], "downward"),
        ]
    else:
        nodes.append(node("MatMul", ["other_turned", "part_pull"], "downward"))
    return [*nodes, node("Sub", ["upward", "downward"], "uphill")]


def _projected(source: str, output: str, ascent: Ascent) -> list[NodeProto]:
    """The nearest feasible column, or for the sphere the one in the same direction."""
    nodes = []
    if ascent.nonnegative:
        nodes.append(node("Relu", [source], f"{source}_positive"))
        source = f"{source}_positive"
    return [*nodes, *_unit(source, output, least="one" if ascent.inside else "tiny")]


def _unit(source: str, output: str, *, least: str = "tiny") -> list[NodeProto]:
    """Columns divided by their length, or by `least` where that is larger."""
    return [
        node("ReduceL2", [source], f"{source}_norm", axes=[0], keepdims=1),
        node("Max", [f"{source}_norm", least], f"{source}_length"),
        node("Div", [source, f"{source}_length"], output),
    ]


def _loop(body: Sequence[NodeProto], starts: Sequence[str]) -> NodeProto:
    """A Loop of a fixed number of steps with the state x and best; gives last and history."""
    state = ("x", "best")
    graph = helper.make_graph(
        [
            *body,
            node("Identity", ["going"], "still_going"),
            node("Identity", ["best_out"], "best_so_far"),
        ],
        "step",
        [
            helper.make_tensor_value_info("step_number", INT, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            *(value(f"{name}_in", FLOAT, 2) for name in state),
        ],
        [
            helper.make_tensor_value_info("still_going", TensorProto.BOOL, []),
            *(value(f"{name}_out", FLOAT, 2) for name in state),
            value("best_so_far", FLOAT, 2),
        ],
    )
    return helper.make_node(
        "Loop", ["steps", "always", *starts], ["last", "best", "history"], body=graph
    )


def _constants(iterations: int) -> list[TensorProto]:
    return [
        numpy_helper.from_array(np.array(iterations), "steps"),
        numpy_helper.from_array(np.array(True), "always"),
        _scalar(0, "zero"),
        _scalar(1, "one"),
        _scalar(_TINY, "tiny"),
    ]


def _scalar(value: float, name: str) -> TensorProto:
    return numpy_helper.from_array(np.array(value, np.float32), name)
