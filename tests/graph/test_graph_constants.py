"""Which tensors are constants, and what they hold."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import model_proto, normal, saved
from onnx import numpy_helper

from onnx_relusv.graph.constants import Constants
from onnx_relusv.graph.model import read_model

TEXT = (
    "(float[N,6] x, float[5] given) => (y) {"
    " one = Constant<value_float = 1.5>() many = Constant<value_floats = [1.0, 2.0]>()"
    " full = Constant<value = double[2,1] {3, 4}>() whole = Constant<value_int = 3>()"
    ' named = Constant<value_string = "text">() a = Identity(w) b = Identity(a)'
    " c = Identity(one) d = Identity(x) e = Neg(w) f = mine.Identity(w) h = mine.Constant()"
    " y = Relu(x) }"
)


@pytest.fixture
def constants(tmp_path: Path) -> Constants:
    arrays = {"w": normal(6, 5), "given": normal(5)}
    return Constants(saved(model_proto(TEXT, arrays, domains={"mine": 1}), tmp_path))


def test_values(constants: Constants) -> None:
    for name, values in {
        "w": normal(6, 5),
        "one": np.float32(1.5),
        "many": np.float32([1, 2]),
        "full": np.float64([[3], [4]]),
        "a": normal(6, 5),
        "b": normal(6, 5),
        "c": np.float32(1.5),
        "whole": np.int64(3),
        "named": np.array("text", object),
        "e": -normal(6, 5),
    }.items():
        found = constants.array(name)
        assert found is not None
        np.testing.assert_array_equal(found, values)
        assert found.dtype == np.asarray(values).dtype


@pytest.mark.parametrize("name", ["x", "d", "f", "h", "y", "given", "none"])
def test_what_is_no_constant(name: str, constants: Constants) -> None:
    assert constants.tensor(name) is None
    assert constants.array(name) is None
    assert constants.scalar(name) is None


def test_scalars(constants: Constants) -> None:
    assert constants.scalar("one") == constants.scalar("c") == 1.5
    assert constants.scalar("many") is None


def test_the_path_leads_through_identities(constants: Constants) -> None:
    assert list(constants.path("b")) == ["b", "a", "w"]
    assert list(constants.path("f")) == ["f"]


@pytest.mark.parametrize(("ir_version", "constant"), [(3, True), (4, False), (8, False)])
def test_initializers_that_are_inputs(ir_version: int, constant: bool, tmp_path: Path) -> None:
    proto = model_proto("(float[N,6] x) => (y) { y = MatMul(x, w) }", opset=9, ir_version=4)
    proto.ir_version = ir_version
    proto.graph.initializer.append(numpy_helper.from_array(normal(6, 5), "w"))
    proto.graph.input.append(onnx.helper.make_tensor_value_info("w", 1, [6, 5]))
    found = Constants(saved(proto, tmp_path)).array("w")
    assert (found is not None) == constant


def test_external_constants(tmp_path: Path) -> None:
    value = numpy_helper.from_array(normal(7, 2))
    proto = model_proto("(float[N,6] x) => (y) { y = MatMul(x, w) }", {"w": normal(6, 5)})
    proto.graph.node.append(onnx.helper.make_node("Constant", [], ["v"], value=value))
    path = tmp_path / "model.onnx"
    onnx.save(proto, path, save_as_external_data=True, size_threshold=0, convert_attribute=True)
    constants = Constants(read_model(path))
    for name, values in (("w", normal(6, 5)), ("v", normal(7, 2))):
        tensor = constants.tensor(name)
        assert tensor is not None
        assert tensor.data_location == onnx.TensorProto.EXTERNAL
        np.testing.assert_array_equal(constants.array(name), values)
