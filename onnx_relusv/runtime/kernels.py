"""Graphs that ascend, for ReLU singular values and mean widths.

Each works for every shape: dimensions arrive as inputs. The loops are ONNX Loops, so no Python runs
inside an ascent.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from onnx_relusv.runtime.graph_parts import FLOAT, INT, node, open_kernel, value
from onnx_relusv.runtime.session import Session

_TINY = 1e-30


@lru_cache(maxsize=8)
def gap_kernel(provider: str, iterations: int) -> Session:
    """Ascends |phi(Ax) - phi(A(m * x))| over the unit sphere, for many m and starts at once.

    phi(y) = max(y, 0) + slope * min(y, 0). With A = W V (V the right singular vectors) and m the
    0/1 mask of the first k coordinates, A(m * x) is the truncated SVD's Lx, and m = 0 gives s_0.

    A step adds the gradient of half the square, divided by the square's own scale, and projects
    onto the sphere: for m = 0 the function is convex, and that is a step of the generalised power
    method, which never descends. The largest value of all steps is kept, so a bad step loses
    nothing.

    Inputs:
        a: (out, r) float32. mask: (ranks, r, 1) float32. slope: (out, 1) float32.
        scale: (ranks, 1, 1) float32, the squared largest gap that is possible, positive.
        x: (ranks, r, starts) float32, unit columns.

    Outputs:
        best: (ranks, 1, starts) float32, the largest gap each start met: a lower estimate of the
            inner maximum.
    """
    values = [
        node("MatMul", ["a", "x_in"], "whole"),
        node("Mul", ["x_in", "mask"], "kept"),
        node("MatMul", ["a", "kept"], "part"),
        *_activation("whole", "whole_out", "whole_slope"),
        *_activation("part", "part_out", "part_slope"),
        node("Sub", ["whole_out", "part_out"], "gap"),
        node("ReduceSumSquare", ["gap"], "square", axes=[1], keepdims=1),
        node("Sqrt", ["square"], "length"),
        node("Max", ["best_in", "length"], "best_out"),
        node("Mul", ["gap", "whole_slope"], "whole_pull"),
        node("Mul", ["gap", "part_slope"], "part_pull"),
        node("MatMul", ["a_turned", "whole_pull"], "upward"),
        node("MatMul", ["a_turned", "part_pull"], "downward"),
        node("Mul", ["downward", "mask"], "downward_kept"),
        node("Sub", ["upward", "downward_kept"], "gradient"),
        # A long step: at this scale the gradient outweighs x where the gap is near its limit.
        node("Div", ["gradient", "step_scale"], "step"),
        node("Add", ["x_in", "step"], "moved"),
        *_normalized("moved", "x_out"),
    ]
    outer = [
        node("Transpose", ["a"], "a_turned", perm=[1, 0]),
        node("Mul", ["scale", "quarter"], "step_scale"),
        node("ReduceSumSquare", ["x"], "ones", axes=[1], keepdims=1),
        node("Mul", ["ones", "zero"], "none"),
        _loop(values, [("x", 3), ("best", 3)], ["x", "none"], ["last", "best"]),
    ]
    graph = helper.make_graph(
        outer,
        "gap",
        [
            value("a", FLOAT, 2),
            value("mask", FLOAT, 3),
            value("slope", FLOAT, 2),
            value("scale", FLOAT, 3),
            value("x", FLOAT, 3),
        ],
        [value("best", FLOAT, 3)],
        [*_constants(iterations), _scalar(0.25, "quarter")],
    )
    return open_kernel(graph, provider)


@lru_cache(maxsize=8)
def width_kernel(provider: str, iterations: int) -> Session:
    """Ascends <g, phi(Ax)> over the unit sphere, one column a draw of g.

    Inputs:
        a: (out, r) float32. slope: (out, 1) float32. g: (out, draws) float32.
        x: (r, draws) float32, unit columns.

    Outputs:
        best: (1, draws) float32, the largest value met: a lower estimate of each supremum.
    """
    values = [
        node("MatMul", ["a", "x_in"], "whole"),
        *_activation("whole", "whole_out", "whole_slope"),
        node("Mul", ["g", "whole_out"], "products"),
        node("ReduceSum", ["products", "rows"], "value", keepdims=1),
        node("Max", ["best_in", "value"], "best_out"),
        node("Mul", ["g", "whole_slope"], "pull"),
        node("MatMul", ["a_turned", "pull"], "gradient"),
        *_normalized("gradient", "direction"),
        node("Add", ["x_in", "direction"], "moved"),
        *_normalized("moved", "x_out"),
    ]
    outer = [
        node("Transpose", ["a"], "a_turned", perm=[1, 0]),
        node("ReduceSumSquare", ["x"], "ones", axes=[0], keepdims=1),
        node("Mul", ["ones", "zero"], "none"),
        _loop(values, [("x", 2), ("best", 2)], ["x", "none"], ["last", "best"]),
    ]
    graph = helper.make_graph(
        outer,
        "width",
        [
            value("a", FLOAT, 2),
            value("slope", FLOAT, 2),
            value("g", FLOAT, 2),
            value("x", FLOAT, 2),
        ],
        [value("best", FLOAT, 2)],
        [*_constants(iterations), numpy_helper.from_array(np.array([0]), "rows")],
    )
    return open_kernel(graph, provider)


def _activation(source: str, output: str, derivative: str) -> list[NodeProto]:
    """phi(y) = y * d and its derivative d, 1 above zero and the slope elsewhere."""
    return [
        node("Greater", [source, "zero"], f"{source}_active"),
        node("Where", [f"{source}_active", "one", "slope"], derivative),
        node("Mul", [source, derivative], output),
    ]


def _normalized(source: str, output: str) -> list[NodeProto]:
    """Columns of length 1; a column of zeros stays."""
    return [
        node("ReduceL2", [source], f"{source}_norm", axes=[-2], keepdims=1),
        node("Max", [f"{source}_norm", "tiny"], f"{source}_length"),
        node("Div", [source, f"{source}_length"], output),
    ]


def _loop(
    body: Sequence[NodeProto],
    state: Sequence[tuple[str, int]],
    starts: Sequence[str],
    results: Sequence[str],
) -> NodeProto:
    """A Loop of a fixed number of steps; the body reads NAME_in and writes NAME_out."""
    graph = helper.make_graph(
        [*body, node("Identity", ["going"], "still_going")],
        "step",
        [
            helper.make_tensor_value_info("step_number", INT, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            *(value(f"{name}_in", FLOAT, rank) for name, rank in state),
        ],
        [
            helper.make_tensor_value_info("still_going", TensorProto.BOOL, []),
            *(value(f"{name}_out", FLOAT, rank) for name, rank in state),
        ],
    )
    return helper.make_node("Loop", ["steps", "always", *starts], list(results), body=graph)


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
