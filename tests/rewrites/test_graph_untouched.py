"""What a rewriting does not touch stays byte for byte, and what is no longer used is gone."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import bytes_of, full_rank, gap, model_proto, normal, run, search
from onnx import ModelProto, TensorAnnotation, helper, parser

from onnx_relusv.core.blocks import LinearMap
from onnx_relusv.graph.checks import PROVENANCE_KEY
from onnx_relusv.rewrites.low_rank.forms import double_layer
from onnx_relusv.rewrites.low_rank.surgery import rewrite

ROUNDING = 5e-6  # float32 sums of a few products, twice
VECTORS = {"x": normal(3, 6)}
GEMM = "(float[N,6] x) => (float[N,5] y) { h = Gemm(x, w, b) y = Relu(h) }"


def rich() -> ModelProto:
    """A model that uses every field that a rewriting could lose."""
    proto = model_proto(
        "(float[batch,6] x, bool c) => (float[batch,5] y, float[batch,7] z)"
        " <float[batch,5] h, float[batch,5] y1, float[batch,7] g> {"
        " spare = Constant<value_floats=[1.0]>()"
        " h = Gemm(x, w, b) y1 = Relu(h)"
        " y = If(c) <then_branch = t () => (float[batch,5] a) { a = Neg(y1) },"
        " else_branch = e () => (float[batch,5] d) { d = Identity(y1) }>"
        " g = MatMul(y1, other) z = mine.twice<factor=2.0>(g) }",
        {"w": normal(6, 5), "b": normal(5), "unused": normal(3), "other": normal(5, 7)},
        domains={"mine": 3},
    )
    proto.functions.append(
        parser.parse_function(
            '<domain: "mine", opset_import: ["" : 17], doc_string: "adds">'
            " twice <factor> (a) => (r) { r = Add(a, a) }"
        )
    )
    proto.producer_name, proto.producer_version = "someone", "1.2.3"
    proto.domain, proto.model_version, proto.doc_string = "org.example", 42, "for tests"
    helper.set_model_props(proto, {"labels": "a,b", "empty": ""})
    graph = proto.graph
    graph.doc_string = "a graph"
    graph.metadata_props.add(key="of the graph", value="kept")
    for number, node in enumerate(graph.node):
        node.name, node.doc_string = f"node {number}", f"does {node.op_type}"
        node.metadata_props.add(key="source", value=f"line {number}")
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.doc_string = f"the tensor {value.name}"
        value.type.denotation = "TENSOR"
    for tensor in graph.initializer:
        tensor.doc_string = f"the values {tensor.name}"
    note = TensorAnnotation(tensor_name="y1")
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="b")
    graph.quantization_annotation.append(note)
    graph.node[1].attribute.add(
        name="transB", i=0, type=onnx.AttributeProto.INT, doc_string="not transposed"
    )
    return proto


def test_everything_else_stays_byte_for_byte(tmp_path: Path) -> None:
    proto = rich()
    onnx.checker.check_model(proto, full_check=True)
    feeds = {**VECTORS, "c": np.array(True)}
    searched = search(proto, tmp_path, feeds)
    result = full_rank(searched, ["y1"])
    onnx.checker.check_model(result, full_check=True)
    before, after = run(proto, feeds), run(result, feeds)
    assert all(gap(after[name], before[name]) < ROUNDING for name in before)

    assert bytes_of(result.graph.node[:1]) == bytes_of(proto.graph.node[:1])
    assert bytes_of(result.graph.node[3:]) == bytes_of(proto.graph.node[2:])
    added = {"y1/first_weight", "y1/second_weight", "y1/bias"}
    kept = [tensor for tensor in result.graph.initializer if tensor.name not in added]
    assert bytes_of(kept) == bytes_of(proto.graph.initializer[2:])
    assert {tensor.name for tensor in proto.graph.initializer[:2]} == {"w", "b"}
    for field in ("value_info", "input", "output"):
        assert bytes_of(getattr(result.graph, field)) == bytes_of(getattr(proto.graph, field))
    # All the rest at once, whatever fields there are.
    *metadata, provenance = result.metadata_props
    assert provenance.key == PROVENANCE_KEY
    assert bytes_of(metadata) == bytes_of(proto.metadata_props)
    for message in (proto, result):
        del message.metadata_props[:], message.graph.node[:], message.graph.initializer[:]
    assert result.SerializeToString(deterministic=True) == proto.SerializeToString(
        deterministic=True
    )


def test_the_original_is_not_changed(tmp_path: Path) -> None:
    searched = search(rich(), tmp_path, {**VECTORS, "c": np.array(True)})
    before = searched.model.proto.SerializeToString(deterministic=True)
    full_rank(searched)
    assert searched.model.proto.SerializeToString(deterministic=True) == before


def test_no_factors_change_nothing_but_the_provenance(tmp_path: Path) -> None:
    searched = search(rich(), tmp_path, {**VECTORS, "c": np.array(True)})
    result = rewrite(searched.model, searched.blocks, {}, "{}")
    del result.metadata_props[-1]
    expected = searched.model.proto.SerializeToString(deterministic=True)
    assert result.SerializeToString(deterministic=True) == expected


def test_an_earlier_provenance_is_replaced(tmp_path: Path) -> None:
    proto = model_proto(GEMM, {"w": normal(6, 5), "b": normal(5)})
    helper.set_model_props(proto, {"first": "1", PROVENANCE_KEY: "old", "last": "2"})
    result = full_rank(search(proto, tmp_path, VECTORS))
    assert [(entry.key, entry.value) for entry in result.metadata_props] == [
        ("first", "1"),
        (PROVENANCE_KEY, "{}"),
        ("last", "2"),
    ]


def test_value_infos_of_removed_tensors_go(tmp_path: Path) -> None:
    proto = model_proto(
        "(float[N,6] x) => (float[N,5] y) <float[N,5] f, float[N,5] g, float[6,5] w>"
        " { f = Gemm(x, w) g = Add(f, b) y = Relu(g) }",
        {"w": normal(6, 5), "b": normal(5)},
    )
    result = full_rank(search(proto, tmp_path, VECTORS))
    assert [value.name for value in result.graph.value_info] == ["g"]
    onnx.checker.check_model(result, full_check=True)


@pytest.mark.parametrize("operator", ["Gemm", "MatMul"])
def test_a_bias_of_zeros_is_left_out(operator: str, tmp_path: Path) -> None:
    proto = model_proto(
        f"(float[N,6] x) => (float[N,5] y) {{ h = {operator}(x, w) g = Add(h, b) y = Relu(g) }}",
        {"w": normal(6, 5), "b": np.zeros(5, np.float32)},
    )
    result = full_rank(search(proto, tmp_path, VECTORS))
    assert [len(node.input) for node in result.graph.node] == [2, 2, 1]
    assert [node.op_type for node in result.graph.node] == ["MatMul", "MatMul", "Relu"]
    assert [tensor.name for tensor in result.graph.initializer] == [
        "y/first_weight",
        "y/second_weight",
    ]


def test_a_matmul_gets_a_bias_that_it_did_not_have(tmp_path: Path) -> None:
    proto = model_proto(
        "(float[N,T,6] x) => (float[N,T,5] y) { h = MatMul(x, w) y = Relu(h) }",
        {"w": normal(6, 5)},
    )
    feeds = {"x": normal(2, 3, 6)}
    searched = search(proto, tmp_path, feeds)
    linear = LinearMap(searched.linear().weight, normal(5).astype(np.float64))
    factors = double_layer("pair", searched.block.geometry, linear, None, 5)
    result = rewrite(searched.model, searched.blocks, {"y": factors}, "{}")
    assert [node.op_type for node in result.graph.node] == ["MatMul", "MatMul", "Add", "Relu"]
    expected = run(proto, feeds, ["h"])["h"] + normal(5)
    assert gap(run(result, feeds, ["h"])["h"], expected) < ROUNDING


def check_users(
    body: str, arrays: Mapping[str, np.ndarray], left: set[str], folder: Path, outputs: str = "y"
) -> None:
    """Rewrites the block that ends in y and looks for what is left of the old constants."""
    proto = model_proto(f"(float[N,6] x) => ({outputs}) {{ {body} }}", arrays)
    searched = search(proto, folder, VECTORS)
    result = full_rank(searched, ["y"])
    before, after = run(proto, VECTORS), run(result, VECTORS)
    assert all(gap(after[name], before[name]) < ROUNDING for name in before)
    names = {tensor.name for tensor in result.graph.initializer}
    names |= {node.output[0] for node in result.graph.node if node.op_type in _PASSIVE}
    assert {name for name in names if not name.startswith("y/")} == left


_PASSIVE = ("Constant", "Identity")
W, B = {"w": normal(6, 5)}, {"b": normal(5)}


@pytest.mark.parametrize(
    ("body", "arrays", "left"),
    [
        ("h = Gemm(x, w, b) y = Relu(h)", W | B, set()),
        ("v = Identity(w) u = Identity(v) h = Gemm(x, u, b) y = Relu(h)", W | B, set()),
        (
            "c = Constant<value_floats=[1.0,2.0,3.0,4.0,5.0]>() d = Identity(c)"
            " h = Gemm(x, w, d) y = Relu(h)",
            W,
            set(),
        ),
        # Nobody used these in the original either, so they are none of our business.
        (
            "c = Constant<value_float=1.0>() d = Identity(spare) h = Gemm(x, w) y = Relu(h)",
            W | {"spare": normal(2), "idle": normal(3)},
            {"c", "d", "spare", "idle"},
        ),
        ("d = Identity(b) h = Gemm(x, w, b) y = Relu(h)", W | B, {"d", "b"}),
    ],
)
def test_what_only_the_block_used_is_gone(
    body: str, arrays: Mapping[str, np.ndarray], left: set[str], tmp_path: Path
) -> None:
    check_users(body, arrays, left, tmp_path)


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("h = Gemm(x, w, b) y = Relu(h) z = Add(y, b)", {"b"}),
        ("c = Identity(b) h = Gemm(x, w, c) y = Relu(h) z = Add(y, b)", {"b"}),
        ("c = Identity(b) h = Gemm(x, w, b) y = Relu(h) z = Add(y, c)", {"b", "c"}),
        ("c = Identity(b) h = Gemm(x, w, c) y = Relu(h) z = Add(y, c)", {"b", "c"}),
        ("h = MatMul(x, w) f = Add(h, b) g = Add(f, b) y = Relu(g) z = Mul(y, b)", {"b"}),
    ],
)
def test_a_shared_bias_stays_for_the_other_user(body: str, left: set[str], tmp_path: Path) -> None:
    check_users(body, W | B, left, tmp_path, "y, z")


def test_a_bias_that_a_branch_reads_stays(tmp_path: Path) -> None:
    proto = model_proto(
        "(float[N,6] x, bool c) => (float[N,5] z) { h = Gemm(x, w, b) y = Relu(h)"
        " z = If(c) <then_branch = t () => (float[N,5] a) { a = Add(y, b) },"
        " else_branch = e () => (float[N,5] d) { d = Neg(y) }> }",
        W | B,
    )
    feeds = {**VECTORS, "c": np.array(True)}
    result = full_rank(search(proto, tmp_path, feeds))
    assert "b" in {tensor.name for tensor in result.graph.initializer}
    assert gap(run(result, feeds)["z"], run(proto, feeds)["z"]) < ROUNDING


def test_a_bias_that_is_an_output_stays(tmp_path: Path) -> None:
    check_users("h = Gemm(x, w, b) y = Relu(h)", W | B, {"b"}, tmp_path, "y, b")


def test_two_blocks_may_share_a_bias(tmp_path: Path) -> None:
    proto = model_proto(
        "(float[N,6] x) => (y, z) { g = Gemm(x, v, b) z = Relu(g) h = Gemm(x, w, b) y = Relu(h) }",
        W | B | {"v": normal(6, 5, seed=1)},
    )
    searched = search(proto, tmp_path, VECTORS)
    before = run(proto, VECTORS)
    for keys, left in ((["y"], {"v", "b"}), (["z", "y"], set())):
        result = full_rank(searched, keys)
        names = {tensor.name for tensor in result.graph.initializer}
        assert {name for name in names if "/" not in name} == left
        after = run(result, VECTORS)
        assert all(gap(after[name], before[name]) < ROUNDING for name in before)


def test_inputs_of_old_files_follow_their_initializers(tmp_path: Path) -> None:
    proto = model_proto(GEMM, W | B | {"idle": normal(2)}, opset=7)
    result = full_rank(search(proto, tmp_path, VECTORS))
    onnx.checker.check_model(result, full_check=True)
    inputs = [value.name for value in result.graph.input]
    assert inputs == ["x", "idle", "y/first_weight", "y/second_weight", "y/bias"]
    assert sorted(inputs[1:]) == sorted(tensor.name for tensor in result.graph.initializer)
