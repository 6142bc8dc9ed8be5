"""New tensors and nodes with short names: the same graph, and the original's names stay."""

import numpy as np
import onnx
from graphs import model_proto, normal, run

from onnx_relusv.graph.protos import FreshNames
from onnx_relusv.graph.writing import shortened

ARRAYS = {"a": normal(4, 6, seed=0), "weight": normal(6, 3, seed=1), "bias": normal(3, seed=2)}
BEFORE = "(float[N,4] x) => (float[N,3] y) { h = MatMul(x, a) y = MatMul(h, weight) }"
AFTER = (
    "(float[N,4] x) => (float[N,3] y) { h = MatMul(x, a) inner = Relu(h)"
    " longer_name = MatMul(inner, weight) b = Add(longer_name, bias) y = Relu(b) }"
)


def made() -> tuple[onnx.ModelProto, onnx.ModelProto]:
    before = model_proto(BEFORE, {name: ARRAYS[name] for name in ("a", "weight")})
    before.graph.node[0].name = "first"
    after = model_proto(AFTER, ARRAYS)
    after.graph.node[0].name, after.graph.node[3].name = "first", "sum_of_both"
    return before, after


def test_only_what_is_new_is_renamed_and_the_graph_computes_the_same() -> None:
    before, after = made()
    found = shortened(after, before)
    onnx.checker.check_model(found, full_check=True)
    feeds = {"x": normal(5, 4, seed=3)}
    np.testing.assert_array_equal(run(found, feeds)["y"], run(after, feeds)["y"])
    assert {t.name for t in found.graph.initializer} >= {"a", "weight"}
    assert [node.name for node in found.graph.node] == ["first", "", "", "", ""]
    outputs = [node.output[0] for node in found.graph.node]
    assert (outputs[0], outputs[-1]) == ("h", "y")
    # One letter each, none of them that of a tensor of the original.
    new = {*outputs[1:-1], *(t.name for t in found.graph.initializer)} - {"a", "weight"}
    assert len(new) == 4
    assert {len(name) for name in new} == {1}
    assert new.isdisjoint({"a", "h", "x", "y"})
    assert found.ByteSize() < after.ByteSize()
    # What it was made of is as it was.
    assert after.graph.node[3].name == "sum_of_both"


def test_what_a_body_reads_keeps_its_name() -> None:
    text = (
        "(float[N,4] x, bool c) => (float[N,4] y) { outside = Relu(x)"
        " y = If(c) <then_branch = g1 () => (float[N,4] p) { p = Abs(outside) },"
        " else_branch = g2 () => (float[N,4] q) { q = Neg(outside) }> }"
    )
    after = model_proto(text)
    before = model_proto("(float[N,4] x, bool c) => (float[N,4] y) { y = Relu(x) }")
    found = shortened(after, before)
    assert found.graph.node[0].output[0] == "outside"
    feeds = {"x": normal(2, 4, seed=1), "c": np.array(True)}
    np.testing.assert_array_equal(run(found, feeds)["y"], run(after, feeds)["y"])


def test_the_shortest_names_come_one_after_the_other() -> None:
    names = FreshNames(made()[0].graph)
    found = [names.shortest() for _ in range(200)]
    assert len(set(found)) == 200
    assert found == sorted(found, key=len)
    assert set(found).isdisjoint({"a", "h", "x", "y"})
    # Of one letter there are 52, of which four are taken.
    assert sum(len(name) == 1 for name in found) == 48
