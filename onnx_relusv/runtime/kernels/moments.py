"""Graphs that take patches of a block's input, answer them, and add up their moments in float64.

They work for every shape: dimensions arrive as inputs.
"""

from functools import lru_cache

import numpy as np
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from onnx_relusv.runtime.kernels.parts import DOUBLE, FLOAT, INT, node, open_kernel, value
from onnx_relusv.runtime.session import Session


@lru_cache(maxsize=16)
def patches_kernel(provider: str, is_conv: bool, element_type: int) -> Session:
    """Takes patches of a batch.

    Inputs:
        x: a batch of the block's input, of the element type.
        count: (1,) int64, how many samples of the batch count (Conv only).
        pads: (2 * rank,) int64, as the Pad operator has them (Conv only).
        index: int64; Conv: (positions * kernel values,) into the flattened padded spatial axes;
            otherwise the rows to take of the input flattened to (rows, columns).
        split: (5,) int64, [0, groups, channels per group, positions, kernel values] (Conv only).
        shape: (3,) int64, [groups, -1, columns] for a Conv, else [1, -1, columns].

    Outputs:
        z: (groups, patches, columns), float64 if the element type is, otherwise float32, which
            holds every smaller type exactly.
    """
    nodes = patch_nodes("x", "z", is_conv, DOUBLE if element_type == DOUBLE else FLOAT)
    inputs = [helper.make_tensor_value_info("x", element_type, None), *geometry_inputs(is_conv)]
    outputs = [value("z", DOUBLE if element_type == DOUBLE else FLOAT, 3)]
    graph = helper.make_graph(nodes, "patches", inputs, outputs, geometry_constants(is_conv))
    return open_kernel(graph, provider, alone=False)


@lru_cache(maxsize=16)
def answers_kernel(provider: str, is_conv: bool, element_type: int) -> Session:
    """What a linear map makes of patches of a batch.

    Inputs, besides those of `patches_kernel`:
        weight: (groups, rows, columns) float32. bias: (groups, 1, rows) float32.

    Outputs:
        answers: (groups, patches, rows) float32.
    """
    nodes = [
        *patch_nodes("x", "z", is_conv, FLOAT),
        node("Transpose", ["weight"], "weight_turned", perm=[0, 2, 1]),
        node("MatMul", ["z", "weight_turned"], "products"),
        node("Add", ["products", "bias"], "answers"),
    ]
    inputs = [
        helper.make_tensor_value_info("x", element_type, None),
        *geometry_inputs(is_conv),
        value("weight", FLOAT, 3),
        value("bias", FLOAT, 3),
    ]
    outputs = [value("answers", FLOAT, 3)]
    graph = helper.make_graph(nodes, "answers", inputs, outputs, geometry_constants(is_conv))
    return open_kernel(graph, provider, alone=False)


@lru_cache(maxsize=4)
def products_kernel(provider: str, element_type: int) -> Session:
    """Adds patches' products, and products with others, to sums.

    Inputs:
        z: (groups, n, columns) of the element type.
        t: (groups, n, rows), likewise.
        total, cross: (groups, columns, columns) and (groups, rows, columns) float64 so far.

    Outputs:
        new_total: with the sums of zz' added.
        new_cross: with those of tz'.
    """
    nodes = [
        node("Cast", ["z"], "z_exact", to=DOUBLE),
        node("Cast", ["t"], "t_exact", to=DOUBLE),
        node("Transpose", ["z_exact"], "z_turned", perm=[0, 2, 1]),
        node("Transpose", ["t_exact"], "t_turned", perm=[0, 2, 1]),
        node("MatMul", ["z_turned", "z_exact"], "products"),
        node("MatMul", ["t_turned", "z_exact"], "cross_products"),
        node("Add", ["total", "products"], "new_total"),
        node("Add", ["cross", "cross_products"], "new_cross"),
    ]
    sums = [value(name, DOUBLE, 3) for name in ("total", "cross")]
    inputs = [value("z", element_type, 3), value("t", element_type, 3), *sums]
    outputs = [value(f"new_{one.name}", DOUBLE, 3) for one in sums]
    graph = helper.make_graph(nodes, "products", inputs, outputs)
    return open_kernel(graph, provider, alone=False)


def patch_nodes(source: str, output: str, is_conv: bool, element_type: int) -> list[NodeProto]:
    """Patches of a tensor, (groups, patches, columns), of an element type.

    Kernel values are gathered last of all, so that whole runs of them move when positions come
    before channels.
    """

    def own(suffix: str) -> str:
        return f"{output}_{suffix}"

    if is_conv:
        nodes = [
            node("Slice", [source, "zeroth", "count", "zeroth"], own("real")),
            node("Pad", [own("real"), "pads"], own("padded")),
            node("Reshape", [own("padded"), "flat"], own("flattened")),
            node("Gather", [own("flattened"), "index"], own("gathered"), axis=2),
            node("Reshape", [own("gathered"), "split"], own("separated")),
            node("Transpose", [own("separated")], own("ordered"), perm=[1, 0, 3, 2, 4]),
            node("Reshape", [own("ordered"), "shape"], own("rows")),
        ]
    else:
        nodes = [
            node("Reshape", [source, "shape"], own("all_rows")),
            node("Gather", [own("all_rows"), "index"], own("rows"), axis=1),
        ]
    return [*nodes, node("Cast", [own("rows")], output, to=element_type)]


def geometry_inputs(is_conv: bool) -> list[ValueInfoProto]:
    """The inputs that say which patches are taken."""
    names = ("count", "pads", "index", "split", "shape") if is_conv else ("index", "shape")
    return [value(name, INT, 1) for name in names]


def geometry_constants(is_conv: bool) -> list[TensorProto]:
    """What `patch_nodes` need."""
    if not is_conv:
        return []
    return [
        numpy_helper.from_array(np.array([0, 0, -1]), "flat"),
        numpy_helper.from_array(np.array([0]), "zeroth"),
    ]
