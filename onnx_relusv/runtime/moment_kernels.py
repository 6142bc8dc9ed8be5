"""Graphs that add up moments of a block's input in float64, a batch at a time.

They work for every shape: dimensions arrive as inputs. The running sums stay on the device from
batch to batch.
"""

from functools import lru_cache

import numpy as np
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from onnx_relusv.runtime.graph_parts import DOUBLE, FLOAT, INT, node, open_kernel, value
from onnx_relusv.runtime.session import Session


@lru_cache(maxsize=16)
def moments_kernel(provider: str, is_conv: bool, element_type: int) -> Session:
    """Adds a batch's patches to first and second moments.

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
    nodes = [*column_nodes("x", is_conv, DOUBLE), *_second("x", "total"), *_first("x", "sum")]
    inputs = [
        helper.make_tensor_value_info("x", element_type, None),
        *geometry_inputs(is_conv),
        value("total", DOUBLE, 3),
        value("sum", DOUBLE, 3),
    ]
    outputs = [value("new_total", DOUBLE, 3), value("new_sum", DOUBLE, 3)]
    graph = helper.make_graph(nodes, "moments", inputs, outputs, geometry_constants())
    return open_kernel(graph, provider, alone=False)


@lru_cache(maxsize=16)
def fit_kernel(provider: str, is_conv: bool, element_type: int, shifted: bool) -> Session:
    """Adds a batch to the moments of one input and of what a weight makes of another.

    Inputs, besides those of `moments_kernel` with x the input that a fit will see:
        y: the original's input, of the same shape and type.
        weight: (groups, rows, columns) float64.
        shift: (groups, patches, rows) float32, added to weight y (shifted only).
        cross: (groups, rows, columns) float64, sums of t x' so far, t being that sum.
        target_sum: (groups, rows, 1) float64, sums of t so far.

    Outputs:
        new_total, new_sum, new_cross, new_target_sum: with this batch added.
    """
    nodes = [
        *column_nodes("x", is_conv, DOUBLE),
        *column_nodes("y", is_conv, DOUBLE),
        *_second("x", "total"),
        *_first("x", "sum"),
        *_target(shifted),
        node("MatMul", ["t_exact", "x_turned"], "cross_products"),
        node("Add", ["cross", "cross_products"], "new_cross"),
        *_first("t", "target_sum"),
    ]
    sums = [value(name, DOUBLE, 3) for name in ("total", "sum", "cross", "target_sum")]
    inputs = [
        helper.make_tensor_value_info("x", element_type, None),
        helper.make_tensor_value_info("y", element_type, None),
        *geometry_inputs(is_conv),
        value("weight", DOUBLE, 3),
        *([value("shift", FLOAT, 3)] if shifted else []),
        *sums,
    ]
    outputs = [value(f"new_{one.name}", DOUBLE, 3) for one in sums]
    graph = helper.make_graph(nodes, "fit", inputs, outputs, geometry_constants())
    return open_kernel(graph, provider, alone=False)


def _target(shifted: bool) -> list[NodeProto]:
    if not shifted:
        return [node("MatMul", ["weight", "y_exact"], "t_exact")]
    return [
        node("MatMul", ["weight", "y_exact"], "t_unshifted"),
        node("Transpose", ["shift"], "shift_turned", perm=[0, 2, 1]),
        node("Cast", ["shift_turned"], "shift_exact", to=DOUBLE),
        node("Add", ["t_unshifted", "shift_exact"], "t_exact"),
    ]


def column_nodes(name: str, is_conv: bool, element_type: int) -> list[NodeProto]:
    """NAME as NAME_exact, (groups, columns, rows) of a type."""

    def own(suffix: str) -> str:
        return f"{name}_{suffix}"

    if is_conv:
        nodes = [
            node("Slice", [name, "zeroth", "count", "zeroth"], own("real")),
            node("Pad", [own("real"), "pads"], own("padded")),
            node("Reshape", [own("padded"), "flat"], own("flattened")),
            node("Gather", [own("flattened"), "index"], own("gathered"), axis=2),
            node("Reshape", [own("gathered"), "split"], own("separated")),
            node("Transpose", [own("separated")], own("ordered"), perm=[1, 2, 3, 0, 4]),
            node("Reshape", [own("ordered"), "shape"], own("columns")),
        ]
    else:
        nodes = [
            node("Reshape", [name, "shape"], own("all_rows")),
            node("Gather", [own("all_rows"), "index"], own("rows"), axis=1),
            node("Transpose", [own("rows")], own("columns"), perm=[0, 2, 1]),
        ]
    return [*nodes, node("Cast", [own("columns")], own("exact"), to=element_type)]


def _second(name: str, total: str) -> list[NodeProto]:
    return [
        node("Transpose", [f"{name}_exact"], f"{name}_turned", perm=[0, 2, 1]),
        node("MatMul", [f"{name}_exact", f"{name}_turned"], f"{name}_products"),
        node("Add", [total, f"{name}_products"], f"new_{total}"),
    ]


def _first(name: str, total: str) -> list[NodeProto]:
    return [
        node("ReduceSum", [f"{name}_exact", "last"], f"{name}_sums", keepdims=1),
        node("Add", [total, f"{name}_sums"], f"new_{total}"),
    ]


def geometry_inputs(is_conv: bool) -> list[ValueInfoProto]:
    """The inputs that say which patches are taken."""
    names = ("count", "pads", "index", "split", "shape") if is_conv else ("index", "shape")
    return [value(name, INT, 1) for name in names]


def geometry_constants() -> list[TensorProto]:
    """What `column_nodes` and the sums need."""
    return [
        numpy_helper.from_array(np.array([0, 0, -1]), "flat"),
        numpy_helper.from_array(np.array([2]), "last"),
        numpy_helper.from_array(np.array([0]), "zeroth"),
    ]
