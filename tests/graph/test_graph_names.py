"""New tensors and nodes get names that the graph does not have, whatever it has."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import full_rank, gap, model_proto, normal, run, search
from onnx import helper

ROUNDING = 5e-6  # float32 sums of a few products, twice
VECTORS = {"x": normal(3, 6)}


@pytest.mark.parametrize("key", ["y", "model/layer.1/Relu_output_0", "卷积/ε y", "a%2Fb:0"])
def test_names_are_unique_whatever_the_graph_has(key: str, tmp_path: Path) -> None:
    roles = ("first_weight", "second_weight", "bias", "inner", "first", "second")
    arrays = {"w": normal(6, 5), "b": normal(5), "c": normal(5)}
    proto = model_proto(
        f'(float[N,6] x) => (float[N,5] "{key}", float[N,5] "{key}/inner")'
        f' {{ h = Gemm(x, w, b) "{key}" = Relu(h) "{key}/inner" = Add("{key}", c) }}',
        arrays | {f"{key}/{role}": normal(2) for role in roles[:3]},
    )
    proto.graph.node[2].name = f"{key}/first"
    searched = search(proto, tmp_path, VECTORS)
    assert searched.block.key == key
    result = full_rank(searched)
    onnx.checker.check_model(result, full_check=True)
    before, after = run(proto, VECTORS), run(result, VECTORS)
    assert all(gap(after[name], before[name]) < ROUNDING for name in before)
    names = [tensor.name for tensor in result.graph.initializer]
    names += [name for node in result.graph.node for name in node.output]
    assert len(set(names)) == len(names)
    assert {f"{key}/{role}_2" for role in roles[:4]} <= set(names)
    nodes = [node.name for node in result.graph.node if node.name]
    assert len(set(nodes)) == len(nodes)


def test_names_inside_bodies_and_of_sparse_initializers_are_taken(tmp_path: Path) -> None:
    proto = model_proto(
        "(float[N,6] x, bool c) => (float[N,5] y, float[N,5] z) { h = Gemm(x, w, b) y = Relu(h)"
        ' z = If(c) <then_branch = t () => (float[N,5] "y/inner") { "y/inner" = Neg(y) },'
        ' else_branch = e () => (float[N,5] d) { d = Add(y, "y/bias") }> }',
        {"w": normal(6, 5), "b": normal(5)},
    )
    values = onnx.numpy_helper.from_array(np.ones(1, np.float32), "y/bias")
    index = onnx.numpy_helper.from_array(np.array([2]), "")
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, index, [5]))
    feeds = {**VECTORS, "c": np.array(False)}
    result = full_rank(search(proto, tmp_path, feeds))
    assert "y/bias_2" in {tensor.name for tensor in result.graph.initializer}
    assert "y/inner_2" in result.graph.node[0].output
    before, after = run(proto, feeds), run(result, feeds)
    assert all(gap(after[name], before[name]) < ROUNDING for name in before)
