"""Nodes in any order, and names that stand for one tensor each."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import bytes_of, model_proto, normal, run, saved
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, helper, numpy_helper

from onnx_relusv.core.errors import InputError
from onnx_relusv.graph.protos import Circular, sort_nodes

TEXT = (
    "(float[N,6] x, bool c) => (float[N,5] y, float[N,5] z) { h = Gemm(x, w) r = Relu(h)"
    " n = Neg(r) y = Add(n, h) z = If(c) <then_branch = t () => (float[N,5] a) { a = Neg(r) },"
    " else_branch = e () => (float[N,5] b) { b = Identity(n) }> }"
)
FEEDS = {"x": normal(3, 6), "c": np.array(True)}


def shuffled(order: list[int]) -> ModelProto:
    proto = model_proto(TEXT, {"w": normal(6, 5)})
    nodes = list(model_proto(TEXT).graph.node)
    nodes = [nodes[index] for index in order]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    return proto


def is_sorted(proto: ModelProto) -> bool:
    try:
        onnx.checker.check_model(proto)
    except onnx.checker.ValidationError:
        return False
    return True


@given(order=st.permutations(range(5)))
@settings(max_examples=30, deadline=None)
def test_nodes_are_read_as_if_sorted(order: list[int]) -> None:
    proto = shuffled(order)
    expected = run(proto, FEEDS)  # onnxruntime sorts by itself
    before, was_sorted = bytes_of(proto.graph.node), is_sorted(proto)
    sort_nodes(proto.graph)
    assert is_sorted(proto)
    assert sorted(bytes_of(proto.graph.node)) == sorted(before)
    if was_sorted:
        assert bytes_of(proto.graph.node) == before
    for name, value in run(proto, FEEDS).items():
        np.testing.assert_array_equal(value, expected[name])


def test_of_several_nodes_the_first_comes_first(tmp_path: Path) -> None:
    model = saved(shuffled([4, 3, 2, 1, 0]), tmp_path)
    assert [node.op_type for node in model.proto.graph.node] == ["Gemm", "Relu", "Neg", "If", "Add"]


def test_a_circle_names_a_node_in_it(tmp_path: Path) -> None:
    proto = model_proto(
        "(float[N,6] x) => (y) { z = Neg(q) y = Neg(x) p = Add(x, q) q = Relu(p) }",
    )
    with pytest.raises(Circular, match=r"^(Add p|Relu q)$"):
        sort_nodes(proto.graph)
    with pytest.raises(InputError, match="needs its own result") as caught:
        saved(proto, tmp_path)
    assert caught.value.exit_code == 3


def twice(kind: str) -> ModelProto:
    """A model that defines a name twice."""
    proto = model_proto("(float[N,6] x) => (y) { h = Gemm(x, w) y = Relu(h) }", {"w": normal(6, 5)})
    other = normal(6, 5, seed=1)
    if kind == "initializers":
        proto.graph.initializer.append(numpy_helper.from_array(other, "w"))
    elif kind == "sparse":
        values = numpy_helper.from_array(np.ones(1, np.float32), "w")
        place = numpy_helper.from_array(np.array([3]), "")
        proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, place, [6, 5]))
    elif kind == "inputs":
        proto.graph.input.append(proto.graph.input[0])
    elif kind == "written_twice":
        proto.graph.node.append(helper.make_node("Neg", ["y"], ["h"]))
    elif kind == "written_initializer":
        proto.graph.node.append(helper.make_node("Neg", ["y"], ["w"]))
    elif kind == "written_input":
        proto.graph.node.append(helper.make_node("Neg", ["y"], ["x"]))
    return proto


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("initializers", "w is defined twice, as an initializer,"),
        ("sparse", "w is defined twice, as an initializer,"),
        ("inputs", "x is defined twice, as an input,"),
        ("written_twice", "h is defined twice, as an output of Gemm and as an output of Neg"),
        ("written_initializer", "w is defined twice, as an initializer and as an output of Neg"),
        ("written_input", "x is defined twice, as an input and as an output of Neg"),
    ],
)
def test_a_name_that_is_defined_twice(kind: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as caught:
        saved(twice(kind), tmp_path)
    assert caught.value.exit_code == 3


def test_equal_initializers_of_one_name_are_one(tmp_path: Path) -> None:
    proto = twice("nothing")
    proto.graph.initializer.append(numpy_helper.from_array(normal(5), "b"))
    proto.graph.initializer.extend([proto.graph.initializer[0], proto.graph.initializer[0]])
    proto.graph.node[0].input.append("b")
    model = saved(proto, tmp_path)
    assert sorted(tensor.name for tensor in model.proto.graph.initializer) == ["b", "w"]
    feeds = {"x": normal(2, 6)}
    np.testing.assert_array_equal(run(model.proto, feeds)["y"], run(proto, feeds)["y"])


def test_a_default_is_an_input_and_an_initializer(tmp_path: Path) -> None:
    proto = twice("nothing")
    proto.graph.input.append(helper.make_tensor_value_info("w", 1, [6, 5]))
    assert saved(proto, tmp_path).inputs[0].name == "x"
