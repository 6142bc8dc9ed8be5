"""Fresh names, used names, and copies of messages."""

import numpy as np
from graphs import model_proto, node, normal
from onnx import ModelProto, helper, numpy_helper

from onnx_relusv.graph.protos import FreshNames, bodies, copy_fields, set_metadata, used_names

BODY = (
    "(float[N,6] x, bool c) => (y) { y = If(c) <"
    "then_branch = t () => (float[N,6] a) { b = Neg(x) a = Relu(b) },"
    "else_branch = e () => (float[N,6] x2) <float[1] k = {1}> { d = Add(w, k) } > }"
)


def test_used_names_reach_into_bodies() -> None:
    proto = model_proto(BODY, {"w": normal(1)})
    used = set(used_names(proto.graph.node))
    # What a branch defines itself is another tensor than one outside that is called alike.
    assert used == {"c", "x", "w", "x2"}
    assert [body.name for body in bodies(proto.graph.node[0])] == ["t", "e"]
    assert set(used_names([node("y = Clip(x, , high)")])) == {"x", "", "high"}


def test_fresh_names_avoid_every_name_there_is() -> None:
    proto = model_proto(BODY, {"w": normal(1)})
    proto.graph.node[0].name = "the if"
    values = numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    index = numpy_helper.from_array(np.array([2]), "")
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, index, [5]))
    names = FreshNames(proto.graph)
    for taken in ("x", "c", "y", "w", "a", "b", "d", "k", "the if", "sparse"):
        assert names(taken) == f"{taken}_2"
    assert names("new") == "new"
    assert names("new") == "new_2"
    assert names("new") == "new_3"
    assert names("new_2") == "new_2_2"


def test_a_copy_is_equal_and_apart() -> None:
    proto = model_proto(BODY, {"w": normal(1)})
    proto.producer_name = ""  # set, although it is what it would be anyway
    copy = ModelProto()
    copy_fields(proto, copy)
    assert copy == proto
    assert copy.HasField("producer_name")
    copy.graph.node[0].op_type = "Loop"
    assert proto.graph.node[0].op_type == "If"


def test_a_copy_without_some_fields() -> None:
    proto = model_proto(BODY, {"w": normal(1)})
    copy = ModelProto()
    copy_fields(proto, copy, skipped={"graph", "opset_import"})
    assert copy.ir_version == proto.ir_version
    assert not copy.HasField("graph")
    assert not copy.opset_import


def test_metadata_is_set_once() -> None:
    proto = ModelProto()
    set_metadata(proto, "key", "old")
    set_metadata(proto, "other", "value")
    set_metadata(proto, "key", "new")
    assert [(entry.key, entry.value) for entry in proto.metadata_props] == [
        ("key", "new"),
        ("other", "value"),
    ]
