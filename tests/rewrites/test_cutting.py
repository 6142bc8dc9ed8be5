"""Cutting: constants that several share, wherever they are stored, and what else a file holds."""

from pathlib import Path

import external_models
import numpy as np
import onnx
import pytest
from channel_graphs import Followed, check_cut, distance, follow, images
from graphs import bytes_of, model_proto, normal, normalization
from onnx import ModelProto, helper, numpy_helper

from onnx_relusv.rewrites.prune.cutting import cut, staying, zeroed

X = {"x": normal(3, 3, 6, 6)}
# Two Convs with equal biases, which an exporter stores once: one is read through an Identity.
SHARED = (
    "(float[N,3,6,6] x) => (float[N,5,6,6] y) { i = Identity(b) a = Conv(x, k1, b) r = Relu(a)"
    " c = Conv(r, k2, i) s = Relu(c) y = Conv(s, k3) }"
)
ARRAYS = {
    "k1": normal(6, 3, 1, 1),
    "k2": normal(6, 6, 1, 1),
    "k3": normal(5, 6, 1, 1),
    "b": normal(6),
}


def constants(proto: ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


def reads(proto: ModelProto, output: str, slot: int) -> str:
    return next(node for node in proto.graph.node if node.output[0] == output).input[slot]


def test_a_bias_shared_through_an_identity_is_cut_for_each(tmp_path: Path) -> None:
    followed = follow(model_proto(SHARED, ARRAYS), tmp_path, X)
    assert followed.groups.keys() == {"a", "c"}
    removed = np.zeros(12, np.bool_)
    removed[[0, 1, 9]] = True
    result = check_cut(followed, removed, tmp_path)
    found = constants(result)
    assert np.array_equal(found[reads(result, "a", 2)], ARRAYS["b"][2:])
    assert np.array_equal(found[reads(result, "c", 2)], np.delete(ARRAYS["b"], 3))
    # Nobody reads the old one any more, nor the Identity.
    assert "b" not in found
    assert "Identity" not in {node.op_type for node in result.graph.node}


def test_what_only_one_loses_the_other_keeps(tmp_path: Path) -> None:
    followed = follow(model_proto(SHARED, ARRAYS), tmp_path, X)
    for losing, keeping, slot in (("a", "c", "i"), ("c", "a", "b")):
        removed = np.zeros(12, np.bool_)
        removed[followed.groups[losing].units[0]] = True
        result = check_cut(followed, removed, tmp_path)
        assert reads(result, keeping, 2) == slot
        assert np.array_equal(constants(result)["b"], ARRAYS["b"])


def test_vectors_that_are_cut_alike_stay_one(tmp_path: Path) -> None:
    vectors = normalization(6)
    followed = images(
        "a = Conv(x, k1, beta) n = BatchNormalization(a, gamma, beta, beta, variance) h = Relu(n)"
        " y = Conv(h, k3)",
        tmp_path,
        **{name: ARRAYS[name] for name in ("k1", "k3")},
        **{name: vectors[name] for name in ("gamma", "beta", "variance")},
    )
    result = check_cut(followed, followed.half, tmp_path)
    names = {reads(result, "a", 2), reads(result, "n", 2), reads(result, "n", 3)}
    assert len(names) == 1
    assert len(result.graph.initializer) == len(followed.model.proto.graph.initializer)


def stored_as_nodes(proto: ModelProto) -> ModelProto:
    """The same model with Constant nodes for initializers."""
    result = ModelProto()
    result.CopyFrom(proto)
    del result.graph.initializer[:]
    del result.graph.node[:]
    for tensor in proto.graph.initializer:
        result.graph.node.append(helper.make_node("Constant", [], [tensor.name], value=tensor))
    result.graph.node.extend(proto.graph.node)
    return result


def test_constant_nodes_are_cut_and_go(tmp_path: Path) -> None:
    followed = follow(stored_as_nodes(model_proto(SHARED, ARRAYS)), tmp_path, X)
    result = check_cut(followed, followed.half, tmp_path)
    assert "Constant" not in {node.op_type for node in result.graph.node}
    plain = follow(model_proto(SHARED, ARRAYS), tmp_path, X)
    same = constants(cut(plain.model, plain.channels, plain.half)).values()
    assert sorted(map(np.sum, constants(result).values())) == sorted(map(np.sum, same))


def test_old_files_list_new_initializers_as_inputs(tmp_path: Path) -> None:
    followed = follow(model_proto(SHARED, ARRAYS, opset=8, ir_version=3), tmp_path, X)
    result = check_cut(followed, followed.half, tmp_path)
    assert {value.name for value in result.graph.input} == {"x", *constants(result)}


def test_external_data_is_cut(tmp_path: Path) -> None:
    proto = model_proto(SHARED, ARRAYS)
    plain = follow(proto, tmp_path, X)
    exact = cut(plain.model, plain.channels, plain.half)
    for tensor in proto.graph.initializer:
        offset = 0 if tensor.name == "b" else 4096
        external_models.put_outside(tensor, tmp_path / f"{tensor.name}.data", offset)
    followed = follow(proto, tmp_path, X)
    result = cut(followed.model, followed.channels, followed.half)
    assert bytes_of(result.graph.initializer) == bytes_of(exact.graph.initializer)
    assert distance(followed, followed.half, result) < 1e-5


def test_weights_keep_their_type(tmp_path: Path) -> None:
    arrays = {name: values.astype(np.float16) for name, values in ARRAYS.items()}
    feeds = {"x": X["x"].astype(np.float16)}
    followed = follow(model_proto(SHARED.replace("float[", "float16["), arrays), tmp_path, feeds)
    result = cut(followed.model, followed.channels, followed.half)
    assert {values.dtype for values in constants(result).values()} == {np.dtype(np.float16)}
    # A few roundings to eleven bits.
    assert distance(followed, followed.half, result) < 4 * 2**-11


def test_nothing_removed_is_the_file_itself(tmp_path: Path) -> None:
    followed = follow(model_proto(SHARED, ARRAYS), tmp_path, X)
    none = np.zeros(followed.channels.count, np.bool_)
    before = followed.model.proto.SerializeToString(deterministic=True)
    result = cut(followed.model, followed.channels, none)
    assert result.SerializeToString(deterministic=True) == before
    same, arrays = zeroed(followed.model, followed.channels, none)
    assert (same.SerializeToString(deterministic=True), arrays) == (before, {})


def test_one_unit_of_a_group_at_least_stays(tmp_path: Path) -> None:
    followed = follow(model_proto(SHARED, ARRAYS), tmp_path, X)
    removed = np.zeros(12, np.bool_)
    removed[list(followed.groups["c"].units)] = True
    with pytest.raises(ValueError, match="nothing would be left of c"):
        cut(followed.model, followed.channels, removed)


def test_the_rest_of_a_file_stays(tmp_path: Path) -> None:
    proto = model_proto(SHARED, ARRAYS)
    helper.set_model_props(proto, {"author": "somebody"})
    proto.doc_string = "what it is for"
    proto.graph.node[1].doc_string = "the first"
    followed = follow(onnx.shape_inference.infer_shapes(proto), tmp_path, X)
    result = check_cut(followed, followed.half, tmp_path)
    assert result.doc_string == "what it is for"
    assert result.graph.node[0].doc_string == "the first"
    assert {entry.key: entry.value for entry in result.metadata_props} == {"author": "somebody"}
    lengths = {
        info.name: info.type.tensor_type.shape.dim[1].dim_value for info in result.graph.value_info
    }
    assert lengths["a"] == lengths["r"] == lengths["c"] == 3


def zeroed_columns(followed: Followed, removed: np.ndarray) -> dict[str, np.ndarray]:
    """Of every Conv whose weight is zeroed, which of its input channels are."""
    proto, arrays = zeroed(followed.model, followed.channels, removed)
    return {
        node.output[0]: ~arrays[node.input[1]].any(axis=(0, 2, 3))
        for node in proto.graph.node
        if node.op_type == "Conv" and node.input[1] in arrays
    }


def test_only_what_consumers_read_is_zeroed(tmp_path: Path) -> None:
    followed = follow(model_proto(SHARED, ARRAYS), tmp_path, X)
    removed = np.zeros(12, np.bool_)
    removed[[0, 2, 11]] = True
    found = zeroed_columns(followed, removed)
    assert found.keys() == {"c", "y"}
    assert np.flatnonzero(found["c"]).tolist() == [0, 2]
    assert np.flatnonzero(found["y"]).tolist() == [5]
    proto, _ = zeroed(followed.model, followed.channels, removed)
    changed = [
        (node.output[0], slot)
        for node, before in zip(proto.graph.node, followed.model.proto.graph.node, strict=True)
        for slot, name in enumerate(node.input)
        if name != before.input[slot]
    ]
    assert changed == [("c", 1), ("y", 1)]


def test_staying() -> None:
    removed = np.array([True, False])
    assert staying(np.array([0, 1, -1, 0]), removed).tolist() == [False, True, True, False]
