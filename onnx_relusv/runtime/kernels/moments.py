"""Graphs that take patches of a block's input, answer them, and add up their moments in float64.

They work for every shape: dimensions arrive as inputs.
"""

from functools import lru_cache

import numpy as np

from onnx_relusv.runtime.kernels.parts import DOUBLE, FLOAT, INT, Graph, Tensor
from onnx_relusv.runtime.session import Session


@lru_cache(maxsize=16)
def patches_kernel(provider: str, spatial: bool, element_type: int) -> Session:
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
    graph = Graph("patches")
    z_type = DOUBLE if element_type == DOUBLE else FLOAT
    graph.output("z", _patches(graph, spatial, element_type).cast(z_type), 3, z_type)
    return graph.opened(provider, alone=False)


@lru_cache(maxsize=16)
def answers_kernel(provider: str, spatial: bool, element_type: int) -> Session:
    """The outputs of a linear map for patches of a batch.

    Inputs, besides those of `patches_kernel`:
        weight: (groups, rows, columns) float32. bias: (groups, 1, rows) float32.

    Outputs:
        answers: (groups, patches, rows) float32.
    """
    graph = Graph("answers")
    z = _patches(graph, spatial, element_type).cast(FLOAT)
    answers = z @ graph.input("weight", 3).transposed(0, 2, 1) + graph.input("bias", 3)
    graph.output("answers", answers, 3)
    return graph.opened(provider, alone=False)


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
    graph = Graph("products")
    z, t = (graph.input(name, 3, element_type).cast(DOUBLE) for name in "zt")
    for name, left in (("total", z), ("cross", t)):
        total = graph.input(name, 3, DOUBLE) + left.transposed(0, 2, 1) @ z
        graph.output(f"new_{name}", total, 3, DOUBLE)
    return graph.opened(provider, alone=False)


def _patches(graph: Graph, spatial: bool, element_type: int) -> Tensor:
    """Patches of the input x, (groups, patches, columns), of its element type.

    Kernel values are gathered last of all, so that whole runs of them move when positions come
    before channels.
    """
    x = graph.input("x", None, element_type)
    index, shape = (graph.input(name, 1, INT) for name in ("index", "shape"))
    if not spatial:
        return graph.op("Gather", graph.op("Reshape", x, shape), index, axis=1)
    count, pads, split = (graph.input(name, 1, INT) for name in ("count", "pads", "split"))
    zero = graph.constant(np.array([0]))
    padded = graph.op("Pad", graph.op("Slice", x, zero, count, zero), pads)
    flat = graph.op("Reshape", padded, graph.constant(np.array([0, 0, -1])))
    gathered = graph.op("Gather", flat, index, axis=2)
    ordered = graph.op("Reshape", gathered, split).transposed(1, 0, 3, 2, 4)
    return graph.op("Reshape", ordered, shape)
