"""Models in half precision: what is halved, what stays float32, and what both compute."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import model_proto, normal, run, saved
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnx_relusv.core.errors import InputError
from onnx_relusv.graph.checks import signature_differences
from onnx_relusv.rewrites.fp16.conversion import WHOLE, HalfPrecision
from onnx_relusv.rewrites.fp16.ranges import LARGEST, Losses

# Half precision has 11 bits, and a number goes through a few roundings.
ROUNDINGS = 6 * 2.0**-11


def half_of(proto: ModelProto, folder: Path, **staying: str) -> HalfPrecision:
    model = saved(proto, folder)
    return HalfPrecision(model.proto, model, staying)


def types(proto: ModelProto) -> dict[str, int]:
    return {tensor.name: tensor.data_type for tensor in proto.graph.initializer}


def checked(half: HalfPrecision, proto: ModelProto, feeds: Mapping[str, np.ndarray]) -> ModelProto:
    """The converted model, found sound, and its outputs near those of the original."""
    found = half.converted()
    onnx.checker.check_model(found, full_check=True)
    assert signature_differences(proto, found) == []
    for name, value in run(proto, feeds).items():
        gap = np.linalg.norm(run(found, feeds)[name] - value)
        assert gap <= ROUNDINGS * np.linalg.norm(value), name
    return found


LAYERS = "(float[N,6] x) => (float[N,4] y) { a = Gemm(x, u, s) b = Relu(a) y = MatMul(b, v) }"
ARRAYS = {"u": normal(6, 40), "s": normal(40), "v": normal(40, 4)}
FEEDS = {"x": normal(5, 6, seed=3)}


def test_all_is_half_but_inputs_and_outputs(tmp_path: Path) -> None:
    proto = model_proto(LAYERS, ARRAYS)
    half = half_of(proto, tmp_path)
    found = checked(half, proto, FEEDS)
    assert half.reasons == {}
    assert set(types(found).values()) == {TensorProto.FLOAT16}
    assert [node.op_type for node in found.graph.node] == ["Cast", "Gemm", "Relu", "MatMul", "Cast"]
    # Tensors keep their names.
    assert set(types(found)) == {"u", "s", "v"}
    assert found.graph.node[2].output[0] == "b"
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in found.graph.initializer}
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(values[name], array.astype(np.float16))


def test_the_nodes_that_are_named_stay_float32(tmp_path: Path) -> None:
    proto = model_proto(LAYERS, ARRAYS)
    half = half_of(proto, tmp_path, a="reaches far")
    found = checked(half, proto, FEEDS)
    assert half.reasons == {"a": "reaches far"}
    gemm = next(node for node in found.graph.node if node.op_type == "Gemm")
    assert gemm.input[0] == "x"
    # Its weight is stored in half precision all the same, and cast where it is read.
    assert types(found)["u"] == TensorProto.FLOAT16
    assert gemm.input[1] != "u"


def test_untouched_nodes_keep_their_constants(tmp_path: Path) -> None:
    model = saved(model_proto(LAYERS, ARRAYS), tmp_path)
    found = HalfPrecision(model.proto, model, {}, {"a"}).converted()
    kinds = types(found)
    assert (kinds["u"], kinds["s"]) == (TensorProto.FLOAT, TensorProto.FLOAT)
    assert kinds["v"] == TensorProto.FLOAT16


@pytest.mark.parametrize(
    ("value", "word"),
    [(1e5, "reaches 1e+05"), (1e-12, "so small"), (1e-5, None), (-np.inf, None), (0.0, None)],
)
def test_constants_that_half_precision_lacks_stay(
    value: float, word: str | None, tmp_path: Path
) -> None:
    text = "(float[N,6] x) => (float[N,6] y) { a = Abs(x) b = Max(a, c) y = Relu(b) }"
    proto = model_proto(text, {"c": np.float32([value])})
    half = half_of(proto, tmp_path)
    found = checked(half, proto, FEEDS)
    assert ("b" in half.reasons) == (word is not None)
    assert word is None or word in half.reasons["b"]
    assert types(found)["c"] == (TensorProto.FLOAT16 if word is None else TensorProto.FLOAT)


def test_variances_count_one_by_one(tmp_path: Path) -> None:
    """One that is lost beside others makes its channel another, whatever the others are."""
    text = (
        "(float[N,2,3] x) => (float[N,2,3] y) { a = Relu(x)"
        " y = BatchNormalization<epsilon=0.0>(a, s, t, m, v) }"
    )
    arrays = {"s": np.float32([1, 1e-4]), "t": np.zeros(2), "m": np.zeros(2)}
    proto = model_proto(text, {**arrays, "v": np.float32([1, 1e-8])})
    assert "y" in half_of(proto, tmp_path).reasons
    proto = model_proto(text, {**arrays, "v": np.float32([1, 1e-2])})
    assert half_of(proto, tmp_path).reasons == {}


def test_what_is_computed_of_whole_numbers_stays(tmp_path: Path) -> None:
    """Half precision has no 4097: a length, or a position, would be another."""
    text = (
        "(float[N,6] x) => (float[N,6] y) { z = Shape<start=0,end=1>(x) f = Cast<to=1>(z)"
        " g = Mul(f, c) h = Sub(g, d) y = Add(x, h) }"
    )
    arrays = {"c": np.float32([4097]), "d": np.float32([4097 * 5])}
    proto = model_proto(text, arrays)
    half = half_of(proto, tmp_path)
    assert {half.reasons[name] for name in "fgh"} == {WHOLE}
    assert "y" not in half.reasons
    checked(half, proto, FEEDS)


def test_pictures_of_whole_numbers_are_halved_from_the_first_conv_on(tmp_path: Path) -> None:
    text = (
        "(uint8[N,3,8,8] x) => (float[N,4] y) { f = Cast<to=1>(x) g = Div(f, c)"
        " h = Conv(g, w) i = Relu(h) j = GlobalAveragePool(i) y = Flatten(j) }"
    )
    proto = model_proto(text, {"c": np.float32([255]), "w": normal(4, 3, 3, 3)})
    half = half_of(proto, tmp_path)
    assert set(half.reasons) == {"f", "g"}
    checked(half, proto, {"x": np.arange(192, dtype=np.uint8).reshape(1, 3, 8, 8)})


def test_weights_stored_in_half_precision_lose_their_casts(tmp_path: Path) -> None:
    text = "(float[N,6] x) => (float[N,4] y) { w = Cast<to=1>(u) a = MatMul(x, w) y = Relu(a) }"
    proto = model_proto(text, {"u": normal(6, 4).astype(np.float16)})
    found = checked(half_of(proto, tmp_path), proto, FEEDS)
    assert found.graph.node[1].input[1] == "u"
    assert len(found.graph.node) == 4


def test_weights_in_constant_nodes_are_halved(tmp_path: Path) -> None:
    proto = model_proto(LAYERS, ARRAYS)
    tensor = proto.graph.initializer.pop(0)
    assert tensor.name == "u"
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["u"], value=tensor))
    found = checked(half_of(proto, tmp_path), proto, FEEDS)
    assert types(found)["u"] == TensorProto.FLOAT16
    assert all(node.op_type != "Constant" for node in found.graph.node)


def test_initializers_that_are_listed_as_inputs(tmp_path: Path) -> None:
    """Before IR version 4 they have to be; since then they are defaults that callers override."""
    proto = model_proto(LAYERS, ARRAYS, opset=8)
    assert proto.ir_version == 3
    found = checked(half_of(proto, tmp_path), proto, FEEDS)
    listed = {value.name: value.type.tensor_type.elem_type for value in found.graph.input}
    assert listed == {"x": 1, "u": 10, "s": 10, "v": 10}
    proto.ir_version = 8
    found = half_of(proto, tmp_path).converted()
    assert set(types(found).values()) == {TensorProto.FLOAT}
    assert list(found.graph.input) == list(proto.graph.input)


def test_bodies_read_float32_under_the_names_that_they_know(tmp_path: Path) -> None:
    then = helper.make_graph(
        [helper.make_node("MatMul", ["b", "v"], ["r"])],
        "then",
        [],
        [helper.make_tensor_value_info("r", 1, None)],
    )
    other = helper.make_graph(
        [helper.make_node("Neg", ["b"], ["n"])],
        "other",
        [],
        [helper.make_tensor_value_info("n", 1, None)],
    )
    text = "(float[N,40] x, bool c) => (float[N,40] y) { b = Relu(x) z = Identity(c) y = Relu(b) }"
    proto = model_proto(text, {"v": normal(40, 40)})
    proto.graph.node[2].input[0] = "d"
    proto.graph.node.insert(
        2, helper.make_node("If", ["z"], ["d"], then_branch=then, else_branch=other)
    )
    half = half_of(proto, tmp_path)
    assert "runs a graph of its own" in half.reasons["d"]
    feeds = {"x": normal(3, 40, seed=3)}
    for condition in (True, False):
        found = checked(half, proto, {**feeds, "c": np.array(condition)})
    # The weight that the body reads is half as large, and cast to its name.
    assert TensorProto.FLOAT16 in types(found).values()
    assert "v" in {name for node in found.graph.node for name in node.output}


def test_operands_that_have_to_be_float32_stay(tmp_path: Path) -> None:
    text = (
        "(float[1,1,4,4] x) => (float[1,1,8,8] y) { a = Relu(x)"
        ' b = Resize<mode="nearest">(a, none, scales) y = Relu(b) }'
    )
    proto = model_proto(text.replace("none", "roi"), {"scales": np.float32([1, 1, 2, 2])})
    proto.graph.node[1].input[1] = ""
    half = half_of(proto, tmp_path)
    found = checked(half, proto, {"x": normal(1, 1, 4, 4)})
    assert half.reasons == {}
    assert types(found)["scales"] == TensorProto.FLOAT


def test_unknown_operators_stay(tmp_path: Path) -> None:
    proto = model_proto(LAYERS, ARRAYS)
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    proto.graph.node[1].CopyFrom(helper.make_node("Gelu", ["a"], ["b"], domain="com.microsoft"))
    half = half_of(proto, tmp_path)
    assert "not known" in half.reasons["b"]
    checked(half, proto, FEEDS)


def test_doubles_stay_as_they_are(tmp_path: Path) -> None:
    text = "(double[N,6] x) => (double[N,4] y) { a = MatMul(x, u) y = Relu(a) }"
    proto = model_proto(text, {"u": normal(6, 4).astype(np.float64)})
    half = half_of(proto, tmp_path)
    assert not half.constants
    assert list(half.converted().graph.node) == list(proto.graph.node)


def test_more_than_can_be_serialised_is_refused(tmp_path: Path) -> None:
    half = half_of(model_proto(LAYERS, ARRAYS), tmp_path)
    numbers = sum(array.size for array in ARRAYS.values())
    half.converted(most=2 * numbers)
    with pytest.raises(InputError, match=f"take {2 * numbers} bytes in half precision"):
        half.converted(most=2 * numbers - 1)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ([1.0, -2.0, 65504.0], None),
        ([65536.0], "reaches 6.55e+04"),
        ([3e-7, 2e-7], "so small"),
        ([1.0, 1e-9], None),
        ([np.nan, np.inf, 1.0], None),
        ([np.nan], None),
        ([], None),
    ],
)
def test_what_half_precision_makes_of_numbers(values: list[float], word: str | None) -> None:
    array = np.float32(values)
    one, other = Losses(LARGEST), Losses(LARGEST)
    one.add_all(array, alone=False)
    other.add(array)
    for losses in (one, other):
        assert losses.problem is None if word is None else word in str(losses.problem)


def test_a_number_that_counts_by_itself() -> None:
    losses = Losses(LARGEST)
    losses.add_all(np.float32([1.0, 1e-9]), alone=True)
    assert "1 of it is lost" in str(losses.problem)


def test_a_bias_may_be_small_and_a_weight_may_not(tmp_path: Path) -> None:
    text = "(float[N,4] x) => (float[N,3] y) { y = Gemm(x, w, b) }"
    arrays = {"w": np.ones((4, 3), np.float32), "b": np.full(3, 1e-7, np.float32)}
    assert half_of(model_proto(text, arrays), tmp_path).reasons == {}
    small = arrays | {"w": np.full((4, 3), 1e-7, np.float32)}
    assert "so small" in half_of(model_proto(text, small), tmp_path).reasons["y"]
    large = arrays | {"b": np.full(3, 7e4, np.float32)}
    assert "reaches 7e+04" in half_of(model_proto(text, large), tmp_path).reasons["y"]
