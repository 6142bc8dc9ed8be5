"""Shapes for one sample, read off a run."""

import numpy as np
from examples import conv
from onnx_graphs import conv_node, run, runnable

from onnx_relusv.runtime.session import shapes_for_one


def test_the_batch_is_divided_out() -> None:
    for batch in (1, 2, 7):
        weight = np.ones((5, 3, 3, 3), np.float32)
        nodes = [conv_node(["x", "w"], "h", conv(3, 5, (3, 3), strides=(2, 1)), 1)]
        x = np.zeros((batch, 3, 9, 11), np.float32)
        values = run(runnable(nodes, {"x": ("n", 3, "h", "w")}, ["h"], {"w": weight}), x=x)
        found = shapes_for_one(values, {"x": x}, batch)
        assert found == {"x": (1, 3, 9, 11), "h": (1, 5, 4, 9)}


def test_tensors_without_the_batch_keep_their_shape() -> None:
    values = {
        "total": np.float32(3),
        "twice": np.zeros((8, 6)),
        # Five rows are no multiple of four samples.
        "longer": np.zeros((5, 6)),
        "sequence": [np.zeros(3)],
    }
    found = shapes_for_one(values, {"x": np.zeros((4, 6))}, 4)
    assert found == {"x": (1, 6), "total": (), "twice": (2, 6), "longer": (5, 6)}
