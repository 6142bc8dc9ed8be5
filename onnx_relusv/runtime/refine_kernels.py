"""Graphs for the ReLU-aware fit: patches with their targets, and the slope of the error.

They work for every shape: dimensions arrive as inputs.
"""

from functools import lru_cache

import numpy as np
from onnx import NodeProto, helper, numpy_helper

from onnx_relusv.runtime.graph_parts import FLOAT, node, open_kernel, value
from onnx_relusv.runtime.moment_kernels import column_nodes, geometry_constants, geometry_inputs
from onnx_relusv.runtime.session import Session


@lru_cache(maxsize=16)
def rows_kernel(provider: str, is_conv: bool, element_type: int) -> Session:
    """Takes patches of a batch, and what a weight makes of the original's patches.

    Inputs, besides the geometry of `moments_kernel`:
        x: the input that the compressed network delivers, of the element type.
        y: the original's input, of the same shape and type.
        weight: (groups, rows, columns) float32. bias: (groups, rows, 1) float32.

    Outputs:
        z: (groups, patches, columns) float32, patches of x.
        target: (groups, patches, rows) float32, weight y + bias.
    """
    nodes = [
        *column_nodes("x", is_conv, FLOAT),
        *column_nodes("y", is_conv, FLOAT),
        node("Transpose", ["x_exact"], "z", perm=[0, 2, 1]),
        node("MatMul", ["weight", "y_exact"], "products"),
        node("Add", ["products", "bias"], "answers"),
        node("Transpose", ["answers"], "target", perm=[0, 2, 1]),
    ]
    inputs = [
        helper.make_tensor_value_info("x", element_type, None),
        helper.make_tensor_value_info("y", element_type, None),
        *geometry_inputs(is_conv),
        value("weight", FLOAT, 3),
        value("bias", FLOAT, 3),
    ]
    outputs = [value("z", FLOAT, 3), value("target", FLOAT, 3)]
    graph = helper.make_graph(nodes, "rows", inputs, outputs, geometry_constants())
    return open_kernel(graph, provider, alone=False)


@lru_cache(maxsize=16)
def slope_kernel(provider: str, clipped: bool, weighted: bool, shifted: bool) -> Session:
    """The error of phi(Lz + b' + s) against phi(t), and its slope.

    Inputs:
        z: (groups, n, columns) float32. target: (groups, n, rows) float32, t.
        shift: (groups, n, rows) float32, s (shifted only).
        map: (groups, columns, rows) float32, L turned. bias: (groups, 1, rows) float32, b'.
        slope: (groups, 1, rows) float32, of phi for negative arguments.
        ceiling: (1, 1, 1) float32 (clipped only).
        importance: (1, rows, rows) float32 symmetric S (weighted only); otherwise S = I.

    Outputs:
        loss: () float32, the sum of e'Se over all patches, e = phi(Lz + b' + s) - phi(t).
        map_slope: (groups, columns, rows), half the derivative of the loss.
        bias_slope: (groups, 1, rows), likewise.
    """
    nodes = [
        *_own(shifted),
        *_activation("own", clipped),
        *_activation("target", clipped),
        node("Sub", ["own_out", "target_out"], "error"),
        node("MatMul", ["error", "importance"], "felt")
        if weighted
        else node("Identity", ["error"], "felt"),
        node("Mul", ["error", "felt"], "parts"),
        node("ReduceSum", ["parts"], "loss", keepdims=0),
        node("Mul", ["felt", "own_slope"], "pull"),
        *_PULLED,
    ]
    names = ["z", "target", "map", "bias", "slope"]
    names += ["shift"] * shifted + ["ceiling"] * clipped + ["importance"] * weighted
    return _opened(nodes, names, provider)


@lru_cache(maxsize=16)
def scores_kernel(provider: str) -> Session:
    """The divergence of softmax(Lz + b') from softmax(t), and its slope.

    Inputs:
        z: (1, n, columns) float32. target: (1, n, rows) float32, t.
        map: (1, columns, rows) float32, L turned. bias: (1, 1, rows) float32, b'.

    Outputs:
        loss: () float32, the sum of the Kullback-Leibler divergences, in nats.
        map_slope: (1, columns, rows), the derivative of the loss.
        bias_slope: (1, 1, rows), likewise.
    """
    nodes = [
        *_own(shifted=False),
        node("LogSoftmax", ["own"], "own_log", axis=2),
        node("LogSoftmax", ["target"], "target_log", axis=2),
        node("Exp", ["own_log"], "own_shares"),
        node("Exp", ["target_log"], "target_shares"),
        node("Sub", ["target_log", "own_log"], "gaps"),
        node("Mul", ["target_shares", "gaps"], "parts"),
        node("ReduceSum", ["parts"], "loss", keepdims=0),
        node("Sub", ["own_shares", "target_shares"], "pull"),
        *_PULLED,
    ]
    return _opened(nodes, ["z", "target", "map", "bias"], provider)


def _own(shifted: bool) -> list[NodeProto]:
    """Lz + b' + s as own."""
    return [
        node("MatMul", ["z", "map"], "products"),
        node("Add", ["products", "bias"], "unshifted"),
        node("Add", ["unshifted", "shift"], "own")
        if shifted
        else node("Identity", ["unshifted"], "own"),
    ]


# From the slope with respect to Lz + b' to those with respect to L and b'.
_PULLED = (
    node("Transpose", ["z"], "z_turned", perm=[0, 2, 1]),
    node("MatMul", ["z_turned", "pull"], "map_slope"),
    node("ReduceSum", ["pull", "middle"], "bias_slope", keepdims=1),
)


def _opened(nodes: list[NodeProto], names: list[str], provider: str) -> Session:
    graph = helper.make_graph(
        nodes,
        "slope",
        [value(name, FLOAT, 3) for name in names],
        [value("loss", FLOAT, 0), value("map_slope", FLOAT, 3), value("bias_slope", FLOAT, 3)],
        [
            numpy_helper.from_array(np.array(0, np.float32), "zero"),
            numpy_helper.from_array(np.array(1, np.float32), "one"),
            numpy_helper.from_array(np.array([1]), "middle"),
        ],
    )
    # It takes turns with the products of the chain rule.
    return open_kernel(graph, provider, alone=False)


def _activation(name: str, clipped: bool) -> list[NodeProto]:
    """phi(NAME) as NAME_out and its derivative as NAME_slope."""
    rising = f"{name}_rising" if clipped else f"{name}_slope"
    output = f"{name}_uncut" if clipped else f"{name}_out"
    nodes = [
        node("Greater", [name, "zero"], f"{name}_active"),
        node("Where", [f"{name}_active", "one", "slope"], rising),
        node("Mul", [name, rising], output),
    ]
    if clipped:
        nodes += [
            node("Min", [output, "ceiling"], f"{name}_out"),
            node("Less", [name, "ceiling"], f"{name}_below"),
            node("Where", [f"{name}_below", rising, "zero"], f"{name}_slope"),
        ]
    return nodes
