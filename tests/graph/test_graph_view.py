"""The import by onnx-graphsurgeon is compared with the file before anybody relies on it."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from graphs import model_proto, node, normal, saved
from onnx import AttributeProto, ModelProto, NodeProto, helper
from patterns import PATTERNS, REPRESENTATIVES

from onnx_relusv.core.errors import InputError
from onnx_relusv.graph.nodes import same_node, view


def plain() -> ModelProto:
    return model_proto(
        "(float[N,6] x) => (float[N,5] y) { h = Gemm(x, w) y = Relu(h) }", {"w": normal(6, 5)}
    )


def with_node(added: NodeProto, **domains: int) -> ModelProto:
    proto = model_proto(
        "(float[N,6] x) => (float[N,5] y) { h = Gemm(x, w) y = Relu(h) }",
        {"w": normal(6, 5)},
        domains=domains,
    )
    proto.graph.node.append(added)
    return proto


@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_every_pattern_survives(name: str, tmp_path: Path) -> None:
    model = saved(PATTERNS[name].proto(), tmp_path)
    seen = view(model)
    assert [member.op for member in seen.graph.nodes] == [
        original.op_type for original in model.proto.graph.node
    ]
    assert seen.outputs == {"y"}
    for index, member in enumerate(seen.graph.nodes):
        assert seen.index[id(member)] == index


def test_tensors_know_their_users_inside_bodies(tmp_path: Path) -> None:
    proto = model_proto(
        "(float[N,6] x, bool c) => (y) { h = Relu(x) y = If(c) <"
        "then_branch = t () => (float[N,6] a) { a = If(c) <"
        " then_branch = p () => (float[N,6] q) { q = Neg(h) },"
        " else_branch = r () => (float[N,6] s) { s = Identity(x) }> },"
        "else_branch = e () => (float[N,6] b) { b = Add(h, h) }> }"
    )
    seen = view(saved(proto, tmp_path))
    users = seen.graph.tensors()["h"].outputs
    assert sorted(user.op for user in users) == ["Add", "Add", "Neg"]
    assert not any(id(user) in seen.index for user in users)


def a_type() -> NodeProto:
    """A node whose attribute is a type, which graphsurgeon drops."""
    kind = helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, [1])
    return helper.make_node("Optional", [], ["o"], type=kind)


def several_graphs() -> NodeProto:
    body = helper.make_graph([helper.make_node("Relu", ["x"], ["i"])], "body", [], [])
    return helper.make_node("Switch", ["x"], ["j"], domain="mine", cases=[body, body])


def a_body_with_an_optional_value() -> NodeProto:
    """A node on whose body graphsurgeon's export fails."""
    element = helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, [1])
    optional = helper.make_value_info("i", helper.make_optional_type_proto(element))
    body = helper.make_graph([helper.make_node("Optional", ["x"], ["i"])], "body", [], [optional])
    return helper.make_node("Switch", ["x"], ["j"], domain="mine", case=body)


def bytes_as_text() -> NodeProto:
    """A node whose text is no UTF-8, on which graphsurgeon fails."""
    return helper.make_node("Engine", ["x"], ["k"], domain="mine", cache=b"\xff\xfe")


@pytest.mark.parametrize("make", [several_graphs, a_body_with_an_optional_value, bytes_as_text])
def test_a_node_that_does_not_survive_is_refused(
    make: Callable[[], NodeProto], tmp_path: Path
) -> None:
    view(saved(with_node(node("z = Neg(y)")), tmp_path))
    model = saved(with_node(make(), mine=1), tmp_path)
    with pytest.raises(InputError, match="this model is not touched") as caught:
        view(model)
    assert str(model.path) in str(caught.value)


def test_the_refused_node_is_named(tmp_path: Path) -> None:
    model = saved(with_node(several_graphs(), mine=1), tmp_path)
    with pytest.raises(InputError, match=r"node number 2 \(Switch\) does not survive"):
        view(model)
    model.proto.graph.node[2].name = "maybe"
    with pytest.raises(InputError, match=r"node maybe \(Switch\) does not survive"):
        view(model)


def test_a_type_among_the_attributes_is_no_obstacle(tmp_path: Path) -> None:
    model = saved(with_node(a_type()), tmp_path)
    assert [node.op for node in view(model).graph.nodes] == ["Gemm", "Relu", "Optional"]


@pytest.mark.parametrize(
    "kind", [AttributeProto.INTS, AttributeProto.FLOATS, AttributeProto.STRINGS]
)
@pytest.mark.parametrize("inside", [False, True])
def test_attributes_that_are_empty_lists_are_no_obstacle(
    kind: AttributeProto.AttributeType, inside: bool, tmp_path: Path
) -> None:
    # A scalar's shape is one, as exporters write it.
    constant = helper.make_node("Constant", [], ["shape"])
    constant.attribute.add(name="value_ints", type=kind)
    proto = plain()
    if inside:
        body = helper.make_graph([constant], "body", [], [])
        constant = helper.make_node("Case", ["x"], ["z"], domain="mine", body=body)
    proto.graph.node.insert(0, constant)
    seen = view(saved(proto, tmp_path))
    assert len(seen.graph.nodes) == 3


def test_a_tampered_node_is_another_one() -> None:
    text = (
        'y, z = mine.Op<a = 1, b = 0.5, c = "text", d = [1, 2], e = [0.5], f = ["t"],'
        " t = float[2] {1, 2}, g = body (x) => (r) { r = Relu(x) }>(x, , w)"
    )
    original = node(text)
    assert same_node(node(text), original)
    for before, after in (
        ("mine.Op", "mine.Other"),
        ("mine.Op", "other.Op"),
        ("(x, , w)", "(x, w)"),
        ("(x, , w)", "(w, , x)"),
        ("y, z", "z, y"),
        ("y, z", "y"),
        ("a = 1", "a = 2"),
        ("a = 1, ", ""),
        ("b = 0.5", "b = 0.25"),
        ("a = 1", "a = 1.0"),
        ('"text"', '"other"'),
        ("d = [1, 2]", "d = [2, 1]"),
        ("e = [0.5]", "e = [0.5, 0.5]"),
        ('["t"]', '["u"]'),
        ("float[2] {1, 2}", "float[3] {1, 2, 3}"),
        ("float[2] {1, 2}", "double[2] {1, 2}"),
        ("r = Relu(x)", "r = Neg(x)"),
        ("r = Relu(x)", "r = Relu(w)"),
        ("r = Relu(x)", "q = Neg(x) r = Relu(q)"),
        ("<a = 1", "<extra = 3, a = 1"),
    ):
        assert before in text
        assert not same_node(node(text.replace(before, after)), original), (before, after)


def test_names_documentation_and_order_of_attributes_mean_nothing() -> None:
    original = node("y = LRN<alpha = 0.5, size = 3>(x)")
    other = node("y = LRN<size = 3, alpha = 0.5>(x)")
    other.name, other.doc_string = "a name", "what it does"
    other.attribute[0].doc_string = "how wide"
    assert same_node(other, original)


def test_the_model_is_not_changed(tmp_path: Path) -> None:
    proto = model_proto(
        "(float[N,6] x, bool c) => (y) { v = Constant<value = float[2] {1, 2}>()"
        " y = If(c) <then_branch = t () => (a) { a = Constant<value = float {3}>() },"
        " else_branch = e () => (float[1] d) <float[1] k = {4}> { d = Identity(k) }> }"
    )
    proto.graph.node[0].attribute[0].t.ClearField("name")
    model = saved(proto, tmp_path)
    view(model)
    assert model.proto.SerializeToString() == model.path.read_bytes()
