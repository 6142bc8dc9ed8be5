"""What graphs ascend, and the parts that such graphs are made of.

Graphs that ascend, for ReLU singular values and mean widths.

Each works for every shape: dimensions arrive as inputs. The loops are ONNX Loops, so no Python runs
inside an ascent. Many ascents share one product: a column is one ascent.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from onnx_relusv.runtime.kernels.parts import FLOAT, INT, node, open_kernel, value
from onnx_relusv.runtime.session import Session

# What stands in for the map A: nothing but the bias; A with coordinates masked; another map.
StandIn = Literal["none", "mask", "map"]

_TINY = 1e-30
# What is not convex is ascended in steps that get shorter, or else they jump to and fro between
# the sides of a ridge: along a cosine over four fifths of them, then so short that a start which
# still grows has not arrived.
_FALLING, _SHORTEST = 0.8, 0.01

OUTPUTS = [value("history", FLOAT, 3), value("at", FLOAT, 2), value("last", FLOAT, 2)]


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
        plain: Whether phi is a plain Relu and b is 0, the commonest layer by far; that spares half
            of the work besides the products.
    """

    iterations: int
    stand_in: StandIn = "none"
    clipped: bool = False
    inside: bool = False
    nonnegative: bool = False
    plain: bool = False

    @property
    def convex(self) -> bool:
        """Whether the gap is a convex function: that to L = 0, without bias and ceiling."""
        return self.stand_in == "none" and not (self.inside or self.clipped)


def coordinates(ascent: Ascent) -> list[NodeProto]:
    """What A acts on."""
    if ascent.nonnegative:
        return [node("MatMul", ["rotation", "x_in"], "y")]
    return [node("Identity", ["x_in"], "y")]


def back(uphill: str, ascent: Ascent) -> list[NodeProto]:
    """The gradient in the coordinates of x."""
    if ascent.nonnegative:
        return [node("MatMul", ["rotation_turned", uphill], "gradient")]
    return [node("Identity", [uphill], "gradient")]


def activation(name: str, ascent: Ascent, *, add_offset: bool = True) -> list[NodeProto]:
    """The answer phi(NAME + b) as NAME_out, and what `pulled` needs of its derivative."""
    if ascent.plain:
        return [
            node("Relu", [name], f"{name}_out"),
            node("Greater", [name, "zero"], f"{name}_active"),
        ]
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


def pulled(vector: str, name: str, output: str, ascent: Ascent) -> list[NodeProto]:
    """A vector times the derivative of phi(NAME + b)."""
    if ascent.plain:
        return [node("Where", [f"{name}_active", vector, "zero"], output)]
    return [node("Mul", [vector, f"{name}_slope"], output)]


def compared(ascent: Ascent) -> list[NodeProto]:
    """The gap between the map and its stand-in."""
    if ascent.stand_in == "none":
        if ascent.plain:
            return [node("Identity", ["whole_out"], "gap")]
        return [node("Sub", ["whole_out", "offset_out"], "gap")]
    if ascent.stand_in == "mask":
        nodes = [node("Mul", ["y", "mask"], "kept"), node("MatMul", ["a", "kept"], "part")]
    else:
        nodes = [node("MatMul", ["other", "y"], "part")]
    return [*nodes, *activation("part", ascent), node("Sub", ["whole_out", "part_out"], "gap")]


def downward(ascent: Ascent) -> list[NodeProto]:
    """The gradient's part that goes through the stand-in."""
    if ascent.stand_in == "none":
        return [node("Identity", ["upward"], "uphill")]
    nodes = pulled("gap", "part", "part_pull", ascent)
    if ascent.stand_in == "mask":
        nodes += [
            node("MatMul", ["a_turned", "part_pull"], "through"),
            node("Mul", ["through", "mask"], "downward"),
        ]
    else:
        nodes.append(node("MatMul", ["other_turned", "part_pull"], "downward"))
    return [*nodes, node("Sub", ["upward", "downward"], "uphill")]


def kept(reached: str, *, never_descends: bool) -> list[NodeProto]:
    """The best value so far, and where it was met."""
    best = node("Max", ["best_in", reached], "best_out")
    if never_descends:
        return [best, node("Identity", ["x_in"], "at_out")]
    return [
        best,
        node("Greater", [reached, "best_in"], "better"),
        node("Where", ["better", "x_in", "at_in"], "at_out"),
    ]


def projected(source: str, output: str, ascent: Ascent) -> list[NodeProto]:
    """The nearest feasible column, or for the sphere the one in the same direction."""
    nodes = []
    if ascent.nonnegative:
        nodes.append(node("Relu", [source], f"{source}_positive"))
        source = f"{source}_positive"
    nodes += length(source, "one" if ascent.inside else "tiny")
    return [*nodes, node("Div", [source, f"{source}_length"], output)]


def length(source: str, least: str) -> list[NodeProto]:
    """The length of columns, or `least` where that is larger, as SOURCE_length."""
    return [
        node("ReduceL2", [source], f"{source}_norm", axes=[0], keepdims=1),
        node("Max", [f"{source}_norm", least], f"{source}_length"),
    ]


def pace(divisor: str, *, constant: bool) -> list[NodeProto]:
    """What a step is divided by, as DIVISOR_now: it grows where steps get shorter."""
    if constant:
        return [node("Identity", [divisor], f"{divisor}_now")]
    return [
        node("Cast", ["step_number"], "number", to=FLOAT),
        node("Mul", ["number", "turn"], "turned"),
        node("Min", ["turned", "half_turn"], "angle"),
        node("Cos", ["angle"], "cosine"),
        node("Add", ["cosine", "one"], "raised"),
        node("Div", ["raised", "two"], "falling"),
        node("Max", ["falling", "shortest"], "pace"),
        node("Div", [divisor, "pace"], f"{divisor}_now"),
    ]


def loop(body: Sequence[NodeProto], starts: Sequence[str]) -> NodeProto:
    """A Loop of a fixed number of steps with the state x, best and at; gives the OUTPUTS."""
    state = ("x", "best", "at")
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
        "Loop", ["steps", "always", *starts], ["last", "best", "at", "history"], body=graph
    )


def constants(ascent: Ascent) -> list[TensorProto]:
    """The numbers that the parts read."""
    scalars = {
        "zero": 0.0,
        "one": 1.0,
        "two": 2.0,
        "tiny": _TINY,
        "turn": math.pi / (_FALLING * ascent.iterations),
        "half_turn": math.pi,
        "shortest": _SHORTEST,
    }
    return [
        numpy_helper.from_array(np.array(ascent.iterations), "steps"),
        numpy_helper.from_array(np.array(True), "always"),
        *(scalar(value, name) for name, value in scalars.items()),
    ]


def scalar(value: float, name: str) -> TensorProto:
    """One float32 number."""
    return numpy_helper.from_array(np.array(value, np.float32), name)


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
