"""Weights, biases and shapes that nodes compute of constants: read, counted, replaced."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from channel_graphs import follow
from graphs import Searched, full_rank, gap, model_proto, normal, run, saved, search
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnx_relusv.graph.constants import Constants, constant_names
from onnx_relusv.graph.reference import runnable
from onnx_relusv.rewrites.prune.cutting import cut, zeroed
from onnx_relusv.runtime.session import CPU, Session

W = normal(6, 5)
ARRAYS = {
    "w": W,
    "half": W.astype(np.float16),
    "whole": np.arange(-15, 15, dtype=np.int8).reshape(6, 5),
    "scale": normal(5, seed=1),
    "flat": W.reshape(-1),
    "turned": np.ascontiguousarray(W.T),
    "stacked": normal(2, 6, 5),
    "norms": np.abs(normal(1, 5)),
    "low": normal(6, 2),
    "high": normal(2, 5),
    "s": np.array([6, -1]),
    "zero": np.array([0]),
    "one": np.array([1]),
    "three": np.array([3]),
    "eight": np.array([8]),
}
WEIGHTS = {
    "cast": ("v = Cast<to=1>(half)", 17),
    "transpose": ("v = Transpose(turned)", 17),
    "reshape": ("v = Reshape(flat, s)", 17),
    "reshape by a node": ("i = Constant<value_ints=[6,5]>() v = Reshape(flat, i)", 17),
    "cast and scale": ("c = Cast<to=1>(whole) v = Mul(c, scale)", 17),
    "all at once": (
        "t = Transpose(turned) i = Identity(t) c = Cast<to=10>(i) v = Cast<to=1>(c)",
        17,
    ),
    "squeeze": ("u = Unsqueeze(w, zero) v = Squeeze(u, zero)", 13),
    "squeeze by attributes": ("u = Unsqueeze<axes=[0]>(w) v = Squeeze<axes=[0]>(u)", 11),
    "parts": (
        "a = Slice(w, zero, three, zero) b = Slice(w, three, eight, zero) v = Concat<axis=0>(a, b)",
        17,
    ),
    "parts by attributes": (
        "a = Slice<axes=[0], starts=[0], ends=[3]>(w) b = Slice<axes=[0], starts=[3], ends=[9]>(w)"
        " v = Concat<axis=0>(a, b)",
        9,
    ),
    "split": ("a, b = Split<axis=0>(w) v = Concat<axis=0>(b, a)", 11),
    "norms": ("n = ReduceL2<axes=[0]>(w) d = Div(w, n) v = Mul(d, norms)", 13),
    "norms of axes as input": ("n = ReduceL2(w, zero) d = Div(w, n) v = Mul(d, norms)", 18),
    "low rank": ("p = MatMul(low, high) v = Add(w, p)", 17),
    "gather": ("g = Gather<axis=0>(stacked, one) v = Squeeze(g, zero)", 17),
    "reduced": ("v = ReduceSum<keepdims=0>(stacked, zero)", 13),
}


def proto_of(text: str, opset: int = 17) -> ModelProto:
    names = text.replace(",", " ").replace("(", " ").replace(")", " ").split()
    arrays = {name: values for name, values in ARRAYS.items() if name in names}
    return model_proto(
        f"(float[N,6] x) => (float[N,5] y) {{ {text} h = MatMul(x, v) y = Relu(h) }}",
        arrays,
        opset=opset,
    )


def found(name: str, folder: Path) -> Searched:
    return search(proto_of(*WEIGHTS[name]), folder, {"x": normal(3, 6)})


@pytest.mark.parametrize("name", WEIGHTS)
def test_values_are_those_that_onnxruntime_computes(name: str, tmp_path: Path) -> None:
    proto = proto_of(*WEIGHTS[name])
    constants = Constants(saved(proto, tmp_path))
    names = [out for node in proto.graph.node for out in node.output if out not in ("h", "y")]
    exact = run(proto, {"x": normal(3, 6)}, names)
    for each in names:
        values, tensor = constants.array(each), constants.tensor(each)
        assert values is not None
        assert tensor is not None
        assert (tuple(tensor.dims), values.dtype) == (exact[each].shape, exact[each].dtype)
        # Sums of six squares may be taken in another order.
        np.testing.assert_allclose(values, exact[each], rtol=1e-6 if "norms" in name else 0)
    assert set(names) <= constant_names(proto)


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_weight_is_counted_and_replaced_with_all_that_computed_it(
    name: str, tmp_path: Path
) -> None:
    searched = found(name, tmp_path)
    result = full_rank(searched)
    feeds = {"x": normal(4, 6, seed=3)}
    kind = searched.block.weight_type
    # Half precision rounds to 11 bits.
    rounding = 1e-5 if kind == TensorProto.FLOAT else 2e-3
    assert gap(run(result, feeds)["y"], run(searched.model.proto, feeds)["y"]) < rounding
    operators = [node.op_type for node in result.graph.node]
    assert operators == ["Cast"] * (2 * (name in ("cast",))) + ["MatMul", "MatMul", "Relu"]
    assert {tensor.data_type for tensor in result.graph.initializer} == {kind}
    # Its bytes are those that the file loses.
    proto = searched.model.proto
    left = ModelProto()
    left.CopyFrom(proto)
    del left.graph.node[:]
    del left.graph.initializer[:]
    lost = proto.ByteSize() - left.ByteSize() - proto.graph.node[-1].ByteSize()
    # Beside numbers and nodes, every tensor has a name, a shape, a type, and their tags.
    slack = 40 * (len(proto.graph.initializer) + len(proto.graph.node))
    assert searched.block.original_bytes <= lost <= searched.block.original_bytes + slack


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("v = Cast<to=1>(half)", TensorProto.FLOAT16),
        ("t = Transpose(half) u = Transpose(t) v = Cast<to=1>(u)", TensorProto.FLOAT16),
        ("v = Transpose(turned)", TensorProto.FLOAT),
        # What a scale makes of numbers in half precision needs more than that.
        ("c = Cast<to=1>(half) v = Mul(c, scale)", TensorProto.FLOAT),
        ("c = Cast<to=1>(whole) v = Mul(c, scale)", TensorProto.FLOAT),
        # Part of it is in single precision.
        (
            "c = Cast<to=1>(half) a = Slice(c, zero, three, zero) b = Slice(w, three, eight, zero)"
            " v = Concat<axis=0>(a, b)",
            TensorProto.FLOAT,
        ),
    ],
)
def test_numbers_in_half_precision_stay_in_it(text: str, kind: int, tmp_path: Path) -> None:
    constants = Constants(saved(proto_of(text), tmp_path))
    assert constants.stored_type("v") == kind


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("v = Transpose(turned) z = Gather(turned, one)", "its weight also serves Gather z"),
        ("t = Transpose(turned) v = Identity(t) u = Neg(t) z = Neg(u)", "also serves Neg u"),
        ("v = Reshape(w, s) z = Reshape(flat, s)", None),
        ("c = Cast<to=1>(whole) v = Mul(c, scale) z = Neg(scale)", None),
    ],
)
def test_what_most_of_a_weight_is_made_of_serves_it_alone(
    text: str, reason: str | None, tmp_path: Path
) -> None:
    searched = search(proto_of(text), tmp_path, {"x": normal(3, 6)})
    if reason is None:
        assert searched.block.key == "y"
    else:
        assert not searched.blocks
        assert reason in searched.reasons["h"]


def test_what_would_be_too_large_is_not_computed(tmp_path: Path) -> None:
    sizes = np.array([10**6, 10**6])
    proto = model_proto(
        "(float[N,6] x) => (float[N,6] y)"
        " { c = ConstantOfShape(s) d = Expand(one, s) y = Relu(x) }",
        {"s": sizes, "one": np.ones((1, 1), np.float32)},
    )
    constants = Constants(saved(proto, tmp_path))
    for name in ("c", "d"):
        assert constants.tensor(name) is None
        assert constants.array(name) is None
    assert constants.tensor("s") is not None


def test_biases_and_bounds_are_read_behind_nodes(tmp_path: Path) -> None:
    proto = model_proto(
        "(float[N,6] x) => (float[N,5] y) { c = Cast<to=1>(b) h = Gemm(x, w, c) l = Sub(one, one)"
        " t = Add(one, one) y = Clip(h, l, t) }",
        {"w": W, "b": normal(5, dtype=np.float16), "one": np.array(1, np.float32)},
    )
    searched = search(proto, tmp_path, {"x": normal(3, 6)})
    block = searched.block
    assert (block.key, block.activation.kind, block.activation.ceiling) == ("y", "clip", 2.0)
    np.testing.assert_array_equal(searched.linear().bias, normal(5, dtype=np.float16))


def sparse(values: np.ndarray, name: str) -> onnx.SparseTensorProto:
    places = np.flatnonzero(values)
    return helper.make_sparse_tensor(
        numpy_helper.from_array(values.reshape(-1)[places], name),
        numpy_helper.from_array(places, ""),
        values.shape,
    )


@pytest.mark.parametrize("as_node", [True, False])
def test_a_sparse_bias_is_read_and_kept(as_node: bool, tmp_path: Path) -> None:
    bias = np.array([0, 1.5, 0, 0, -2], np.float32)
    proto = model_proto(
        "(float[N,6] x) => (float[N,5] y) { h = Gemm(x, w, b) y = Relu(h) z = Add(y, b) }", {"w": W}
    )
    if as_node:
        node = helper.make_node("Constant", [], ["b"], sparse_value=sparse(bias, ""))
        proto.graph.node.insert(0, node)
    else:
        proto.graph.sparse_initializer.append(sparse(bias, "b"))
    searched = search(proto, tmp_path, {"x": normal(3, 6)})
    np.testing.assert_array_equal(searched.linear().bias, bias)
    # Another node reads it still.
    result, feeds = full_rank(searched), {"x": normal(3, 6)}
    assert gap(run(result, feeds)["y"], run(proto, feeds)["y"]) < 1e-5
    assert len(result.graph.sparse_initializer) == (not as_node)


def test_channels_are_cut_out_of_what_is_computed(tmp_path: Path) -> None:
    proto = model_proto(
        "(float[N,3,6,6] x) => (float[N,5,6,6] y) { c = Cast<to=1>(k) b2 = Neg(b)"
        " a = Conv(x, c, b2) r = Relu(a) t = Transpose<perm=[1,0,2,3]>(k2) y = Conv(r, t) }",
        {
            "k": normal(6, 3, 1, 1, dtype=np.float16),
            "b": normal(6),
            "k2": normal(6, 5, 1, 1),
        },
    )
    followed = follow(proto, tmp_path, {"x": normal(2, 3, 6, 6)})
    removed = followed.removal([0, 3])
    result = cut(followed.model, followed.channels, removed)
    onnx.checker.check_model(result, full_check=True)
    base, arrays = zeroed(followed.model, followed.channels, removed)
    exact = Session(runnable(followed.model, base, arrays=arrays), CPU).run(followed.feeds)["y"]
    assert gap(run(result, followed.feeds)["y"], exact) < 1e-5
    assert sorted(node.op_type for node in result.graph.node) == ["Cast", "Conv", "Conv", "Relu"]
    kinds = {tuple(t.dims): t.data_type for t in result.graph.initializer}
    assert kinds == {(4, 3, 1, 1): 10, (4,): 1, (5, 4, 1, 1): 1}
