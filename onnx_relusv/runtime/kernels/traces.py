"""The graph that measures activated operators A_x = diag(phi'(Wx + b)) W, a batch at a time.

All of it rests on the Gram matrix G = W W', so what a sample costs depends on the block's outputs
alone, and inputs are never looked at.
"""

from functools import lru_cache

import numpy as np
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from onnx_relusv.runtime.kernels.parts import FLOAT, INT, node, open_kernel, value
from onnx_relusv.runtime.session import Session

STEPS = 10
# What is computed for every row; `open` besides, where exact values are wanted.
FIGURES = ("active", "square", "fourth", "climbed", "before", "single", "margin")
OPEN = "open"

_TINY = 1e-37


@lru_cache(maxsize=16)
def trace_kernel(provider: str, is_conv: bool, element_type: int) -> Session:
    """Measures the activated operators at some output positions of every sample.

    With D = diag(d), d = phi' at the pre-activation, e = d^2, and F^2 = e'diag(G), the squared
    largest ReLU singular value of A_x is the maximum of u'DGDu over u >= 0, |u| = 1. It is climbed
    by the power method for that cone, u <- max(0, DGDu) / |.|, from u = |d| / |d|: since u'DGDu is
    convex, no step descends, and |max(0, DGDu)| lies between its values at u and at the next u. So
    this length is the value. The value at a single unit, e_i G_ii, may be larger where the start
    was a poor one.

    Inputs:
        y: a batch of the block's pre-activation, of the element type; any rank.
        shape: (3,) int64, [samples, channels, -1] for a Conv, else [samples, -1, features].
        index: (positions,) int64, into the axis of -1.
        split: (3,) int64, [-1, groups, units of a group].
        gram: (groups, units, units) float32, G in units in which its largest entry is 1.
        squares: (groups, 1, units) float32, the diagonal of G.
        slope: (groups, 1, units) float32, the derivative of a unit that is not open.
        ceiling: (1,) float32, where units close again; the largest float32 where they do not.
        reciprocal: (groups, 1, units) float32, one over the length of a unit's weights, in any
            units; 0 where that length is 0.
        least: (groups, 1, units) float32, 0; infinite for units whose distance does not count.

    Outputs, rows = samples * positions, the positions of a sample one behind the other:
        active: (rows,) float32, how many d are not zero.
        square: (rows,) float32, F^2.
        fourth: (rows,) float32, e'(G o G)e, the sum of sigma^4.
        climbed: (rows,) float32, the value at the last step, the largest over the groups.
        before: (rows,) float32, the value one step earlier.
        single: (rows,) float32, the largest value at a single unit.
        margin: (rows,) float32, the least |y - knee| * reciprocal, the knees being 0 and ceiling.
        open: (groups, rows, units) bool, which units lie strictly between the knees.
    """
    nodes = [
        *_rows(is_conv),
        *_derivative(),
        node("Mul", ["d", "d"], "e"),
        node("Mul", ["e", "squares"], "parts"),
        node("ReduceSum", ["parts", "last"], "group_square", keepdims=1),
        node("ReduceSum", ["group_square", "outer"], "square", keepdims=0),
        node("Mul", ["gram", "gram"], "gram_squares"),
        node("MatMul", ["e", "gram_squares"], "spread"),
        node("Mul", ["e", "spread"], "fourths"),
        node("ReduceSum", ["fourths", "outer"], "fourth", keepdims=0),
        *_power(),
        *_margin(),
    ]
    inputs = [
        helper.make_tensor_value_info("y", element_type, None),
        *(value(name, INT, 1) for name in ("shape", "index", "split")),
        *(value(name, FLOAT, 3) for name in _OF_UNITS),
        value("ceiling", FLOAT, 1),
    ]
    graph = helper.make_graph(nodes, "trace", inputs, _outputs(), _constants())
    return open_kernel(graph, provider, alone=False)


_OF_UNITS = ("gram", "squares", "slope", "reciprocal", "least")


def _rows(is_conv: bool) -> list[NodeProto]:
    """The chosen positions as `rows`, (groups, rows, units) float32."""
    nodes = [node("Reshape", ["y", "shape"], "flat")]
    if is_conv:
        nodes += [
            node("Gather", ["flat", "index"], "columns", axis=2),
            node("Transpose", ["columns"], "chosen", perm=[0, 2, 1]),
        ]
    else:
        nodes.append(node("Gather", ["flat", "index"], "chosen", axis=1))
    return [
        *nodes,
        node("Cast", ["chosen"], "floats", to=FLOAT),
        node("Reshape", ["floats", "split"], "separated"),
        node("Transpose", ["separated"], "rows", perm=[1, 0, 2]),
    ]


def _derivative() -> list[NodeProto]:
    return [
        node("Greater", ["rows", "zero"], "above"),
        node("Less", ["rows", "ceiling"], "below"),
        node("And", ["above", "below"], OPEN),
        node("Where", [OPEN, "one", "slope"], "d"),
        node("Sign", ["d"], "sign"),
        node("ReduceSumSquare", ["sign"], "active", axes=[0, 2], keepdims=0),
    ]


def _power() -> list[NodeProto]:
    """The power steps, unrolled, on DGD / F^2: so no power of it leaves float32's range."""
    nodes = [
        node("Max", ["group_square", "tiny"], "positive_square"),
        node("Sqrt", ["positive_square"], "norm"),
        node("Div", ["d", "norm"], "scaled"),
        node("Abs", ["scaled"], "kept_0"),
        node("ReduceL2", ["kept_0"], "length_0", axes=[-1], keepdims=1),
    ]
    for step in range(1, STEPS + 1):
        before = step - 1
        nodes += [
            node("Max", [f"length_{before}", "tiny"], f"positive_{before}"),
            node("Div", [f"kept_{before}", f"positive_{before}"], f"u_{before}"),
            node("Mul", [f"u_{before}", "scaled"], f"weighted_{before}"),
            node("MatMul", [f"weighted_{before}", "gram"], f"pulled_{step}"),
            node("Mul", [f"pulled_{step}", "scaled"], f"moved_{step}"),
            node("Relu", [f"moved_{step}"], f"kept_{step}"),
            node("ReduceL2", [f"kept_{step}"], f"length_{step}", axes=[-1], keepdims=1),
        ]
    for name, step in (("before", STEPS - 1), ("climbed", STEPS)):
        nodes += [
            node("Mul", [f"length_{step}", "group_square"], f"{name}_of_group"),
            node("ReduceMax", [f"{name}_of_group"], name, axes=[0, 2], keepdims=0),
        ]
    return [*nodes, node("ReduceMax", ["parts"], "single", axes=[0, 2], keepdims=0)]


def _margin() -> list[NodeProto]:
    return [
        node("Abs", ["rows"], "from_zero"),
        node("Sub", ["rows", "ceiling"], "over"),
        node("Abs", ["over"], "from_ceiling"),
        node("Min", ["from_zero", "from_ceiling"], "gap"),
        node("Mul", ["gap", "reciprocal"], "distance"),
        node("Max", ["distance", "least"], "counted"),
        node("ReduceMin", ["counted"], "margin", axes=[0, 2], keepdims=0),
    ]


def _outputs() -> list[ValueInfoProto]:
    return [*(value(name, FLOAT, 1) for name in FIGURES), value(OPEN, TensorProto.BOOL, 3)]


def _constants() -> list[TensorProto]:
    scalars = {"zero": 0, "one": 1, "tiny": _TINY}
    axes = {"last": [2], "outer": [0, 2]}
    return [
        *(numpy_helper.from_array(np.array(x, np.float32), name) for name, x in scalars.items()),
        *(numpy_helper.from_array(np.array(x), name) for name, x in axes.items()),
    ]
