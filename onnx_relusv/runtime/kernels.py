"""Graphs that measure, built as ONNX models and run by onnxruntime; opset 17.

Each is built once per process and provider and works for every shape: dimensions arrive as inputs.
Values stay on the device between steps; loops are ONNX Loops, so no Python runs inside an ascent.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from onnx_relusv.records import Runnable
from onnx_relusv.runtime.session import Session

OPSET = 17
_FLOAT, _DOUBLE, _INT = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64
_TINY = 1e-30


@lru_cache(maxsize=16)
def moments_kernel(provider: str, is_conv: bool, element_type: int) -> Session:
    """Adds a batch's patches to first and second moments, in float64.

    Inputs:
        x: a batch of the block's input, of the element type.
        count: (1,) int64, how many samples of the batch count (Conv only).
        pads: (2 * rank,) int64, as the Pad operator has them (Conv only).
        index: int64; Conv: (kernel values * positions,) into the flattened padded spatial axes;
            otherwise the rows to take of the input flattened to (rows, columns).
        split: (5,) int64, [0, groups, channels per group, kernel values, positions] (Conv only).
        shape: (3,) int64, [groups, columns, -1] for a Conv, else [1, -1, columns].
        total, sum: (groups, columns, columns) and (groups, columns, 1) float64 so far.

    Outputs:
        new_total, new_sum: with this batch added.
    """
    if is_conv:
        nodes = [
            _node("Slice", ["x", "zeroth", "count", "zeroth"], "real"),
            _node("Pad", ["real", "pads"], "padded"),
            _node("Reshape", ["padded", "flat"], "flattened"),
            _node("Gather", ["flattened", "index"], "gathered", axis=2),
            _node("Reshape", ["gathered", "split"], "separated"),
            _node("Transpose", ["separated"], "ordered", perm=[1, 2, 3, 0, 4]),
            _node("Reshape", ["ordered", "shape"], "columns"),
        ]
        extra = [_value("count", _INT, 1), _value("pads", _INT, 1), _value("split", _INT, 1)]
    else:
        nodes = [
            _node("Reshape", ["x", "shape"], "all_rows"),
            _node("Gather", ["all_rows", "index"], "rows", axis=1),
            _node("Transpose", ["rows"], "columns", perm=[0, 2, 1]),
        ]
        extra = []
    nodes += [
        _node("Cast", ["columns"], "exact", to=_DOUBLE),
        _node("Transpose", ["exact"], "turned", perm=[0, 2, 1]),
        _node("MatMul", ["exact", "turned"], "products"),
        _node("Add", ["total", "products"], "new_total"),
        _node("ReduceSum", ["exact", "last"], "sums", keepdims=1),
        _node("Add", ["sum", "sums"], "new_sum"),
    ]
    graph = helper.make_graph(
        nodes,
        "moments",
        [
            helper.make_tensor_value_info("x", element_type, None),
            *extra,
            _value("index", _INT, 1),
            _value("shape", _INT, 1),
            _value("total", _DOUBLE, 3),
            _value("sum", _DOUBLE, 3),
        ],
        [_value("new_total", _DOUBLE, 3), _value("new_sum", _DOUBLE, 3)],
        [
            numpy_helper.from_array(np.array([0, 0, -1]), "flat"),
            numpy_helper.from_array(np.array([2]), "last"),
            numpy_helper.from_array(np.array([0]), "zeroth"),
        ],
    )
    return _open(graph, provider)


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
        _node("MatMul", ["a", "x_in"], "whole"),
        _node("Mul", ["x_in", "mask"], "kept"),
        _node("MatMul", ["a", "kept"], "part"),
        *_activation("whole", "whole_out", "whole_slope"),
        *_activation("part", "part_out", "part_slope"),
        _node("Sub", ["whole_out", "part_out"], "gap"),
        _node("ReduceSumSquare", ["gap"], "square", axes=[1], keepdims=1),
        _node("Sqrt", ["square"], "length"),
        _node("Max", ["best_in", "length"], "best_out"),
        _node("Mul", ["gap", "whole_slope"], "whole_pull"),
        _node("Mul", ["gap", "part_slope"], "part_pull"),
        _node("MatMul", ["a_turned", "whole_pull"], "upward"),
        _node("MatMul", ["a_turned", "part_pull"], "downward"),
        _node("Mul", ["downward", "mask"], "downward_kept"),
        _node("Sub", ["upward", "downward_kept"], "gradient"),
        # A long step: at this scale the gradient outweighs x where the gap is near its limit.
        _node("Div", ["gradient", "step_scale"], "step"),
        _node("Add", ["x_in", "step"], "moved"),
        *_normalized("moved", "x_out"),
    ]
    outer = [
        _node("Transpose", ["a"], "a_turned", perm=[1, 0]),
        _node("Mul", ["scale", "quarter"], "step_scale"),
        _node("ReduceSumSquare", ["x"], "ones", axes=[1], keepdims=1),
        _node("Mul", ["ones", "zero"], "none"),
        _loop(values, [("x", 3), ("best", 3)], ["x", "none"], ["last", "best"]),
    ]
    graph = helper.make_graph(
        outer,
        "gap",
        [
            _value("a", _FLOAT, 2),
            _value("mask", _FLOAT, 3),
            _value("slope", _FLOAT, 2),
            _value("scale", _FLOAT, 3),
            _value("x", _FLOAT, 3),
        ],
        [_value("best", _FLOAT, 3)],
        [*_constants(iterations), _scalar(0.25, "quarter")],
    )
    return _open(graph, provider)


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
        _node("MatMul", ["a", "x_in"], "whole"),
        *_activation("whole", "whole_out", "whole_slope"),
        _node("Mul", ["g", "whole_out"], "products"),
        _node("ReduceSum", ["products", "rows"], "value", keepdims=1),
        _node("Max", ["best_in", "value"], "best_out"),
        _node("Mul", ["g", "whole_slope"], "pull"),
        _node("MatMul", ["a_turned", "pull"], "gradient"),
        *_normalized("gradient", "direction"),
        _node("Add", ["x_in", "direction"], "moved"),
        *_normalized("moved", "x_out"),
    ]
    outer = [
        _node("Transpose", ["a"], "a_turned", perm=[1, 0]),
        _node("ReduceSumSquare", ["x"], "ones", axes=[0], keepdims=1),
        _node("Mul", ["ones", "zero"], "none"),
        _loop(values, [("x", 2), ("best", 2)], ["x", "none"], ["last", "best"]),
    ]
    graph = helper.make_graph(
        outer,
        "width",
        [
            _value("a", _FLOAT, 2),
            _value("slope", _FLOAT, 2),
            _value("g", _FLOAT, 2),
            _value("x", _FLOAT, 2),
        ],
        [_value("best", _FLOAT, 2)],
        [*_constants(iterations), numpy_helper.from_array(np.array([0]), "rows")],
    )
    return _open(graph, provider)


def _activation(source: str, output: str, derivative: str) -> list[NodeProto]:
    """phi(y) = y * d and its derivative d, 1 above zero and the slope elsewhere."""
    return [
        _node("Greater", [source, "zero"], f"{source}_active"),
        _node("Where", [f"{source}_active", "one", "slope"], derivative),
        _node("Mul", [source, derivative], output),
    ]


def _normalized(source: str, output: str) -> list[NodeProto]:
    """Columns of length 1; a column of zeros stays."""
    return [
        _node("ReduceL2", [source], f"{source}_norm", axes=[-2], keepdims=1),
        _node("Max", [f"{source}_norm", "tiny"], f"{source}_length"),
        _node("Div", [source, f"{source}_length"], output),
    ]


def _loop(
    body: Sequence[NodeProto],
    state: Sequence[tuple[str, int]],
    starts: Sequence[str],
    results: Sequence[str],
) -> NodeProto:
    """A Loop of a fixed number of steps; the body reads NAME_in and writes NAME_out."""
    graph = helper.make_graph(
        [*body, _node("Identity", ["going"], "still_going")],
        "step",
        [
            helper.make_tensor_value_info("step_number", _INT, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            *(_value(f"{name}_in", _FLOAT, rank) for name, rank in state),
        ],
        [
            helper.make_tensor_value_info("still_going", TensorProto.BOOL, []),
            *(_value(f"{name}_out", _FLOAT, rank) for name, rank in state),
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


def _node(op: str, inputs: list[str], output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(op, inputs, [output], **attributes)


def _value(name: str, element_type: int, rank: int) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, element_type, [None] * rank)


def _open(graph: GraphProto, provider: str) -> Session:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    return Session(Runnable(model.SerializeToString(), {}), provider)
