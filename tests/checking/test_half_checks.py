"""A right file in half precision passes; a wrong one fails, with what is wrong."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import model_proto, normal
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnx_relusv.checking.halves import half_checks
from onnx_relusv.core.errors import ValidationError
from onnx_relusv.graph.model import read_model
from onnx_relusv.rewrites.fp16.conversion import in_half
from onnx_relusv.runtime.session import CPU

TEXT = (
    "(float[N,6] x) => (float[N,4] y) { a = Gemm(x, u, s) b = Relu(a) c = Gemm(b, v, t)"
    " d = Exp(c) e = Sub(c, f) y = Add(d, e) }"
)
ARRAYS = {
    "u": normal(6, 40, scale=0.3),
    "s": normal(40),
    "v": normal(40, 4, scale=0.3),
    "t": normal(4),
    "f": np.float32([1e-9]),
}
FEEDS = {"x": normal(8, 6, seed=3)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("checked")
    onnx.save(model_proto(TEXT, ARRAYS), made / "floats.onnx")
    model = read_model(made / "floats.onnx")
    onnx.save(in_half(model.proto, model, {"d": "reaches far"}), made / "half.onnx")
    return made


def checked(folder: Path, change: Callable[[ModelProto], None], path: Path) -> str:
    proto = onnx.load(folder / "half.onnx")
    change(proto)
    onnx.save(proto, path)
    reasons = {"d": "reaches far", "e": "reaches far"}
    first, second = half_checks(path, folder / "floats.onnx", reasons, FEEDS, CPU)
    return f"{first.detail}; {second.detail}"


def test_a_right_file_passes(folder: Path, tmp_path: Path) -> None:
    said = checked(folder, lambda proto: None, tmp_path / "right.onnx")
    assert "4 constants rounded once" in said
    assert "2 stay float32 (2: reaches far)" in said
    assert "finite, 3 times the same" in said


def node_of(proto: ModelProto, operator: str) -> int:
    return next(i for i, node in enumerate(proto.graph.node) if node.op_type == operator)


def another_weight(proto: ModelProto) -> None:
    tensor = next(one for one in proto.graph.initializer if one.name == "u")
    values = numpy_helper.to_array(tensor).copy()
    values[0, 0] += np.float16(0.01)
    tensor.CopyFrom(numpy_helper.from_array(values, "u"))


def another_float(proto: ModelProto) -> None:
    tensor = next(one for one in proto.graph.initializer if one.data_type == TensorProto.FLOAT)
    tensor.CopyFrom(numpy_helper.from_array(np.float32([1.1e-9]), tensor.name))


def another_operator(proto: ModelProto) -> None:
    proto.graph.node[node_of(proto, "Relu")].op_type = "Abs"


def another_setting(proto: ModelProto) -> None:
    proto.graph.node[node_of(proto, "Gemm")].attribute.append(helper.make_attribute("alpha", 2.0))


def another_operand(proto: ModelProto) -> None:
    add = proto.graph.node[node_of(proto, "Add")]
    add.input[0] = add.input[1]


def unsorted(proto: ModelProto) -> None:
    cast = proto.graph.node.pop(node_of(proto, "Cast"))
    proto.graph.node.append(cast)


def half_outputs(proto: ModelProto) -> None:
    proto.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    last = proto.graph.node[-1]
    if last.op_type == "Cast":
        last.attribute[0].i = TensorProto.FLOAT16


def without_a_cast(proto: ModelProto) -> None:
    index = node_of(proto, "Cast")
    cast = proto.graph.node.pop(index)
    for node in proto.graph.node:
        node.input[:] = [cast.input[0] if name == cast.output[0] else name for name in node.input]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (another_weight, "not computed by the same nodes of the same constants"),
        (another_float, "that stays float32 has other numbers"),
        (another_operator, "not computed by the same nodes"),
        (another_setting, "not computed by the same nodes"),
        (another_operand, "not computed by the same nodes"),
        (unsorted, "topologically sorted"),
        (half_outputs, "the outputs differ"),
        (without_a_cast, "onnx.checker refuses the result in half precision"),
    ],
)
def test_a_wrong_file_fails(
    change: Callable[[ModelProto], None], word: str, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValidationError, match=word):
        checked(folder, change, tmp_path / "wrong.onnx")


def test_a_file_that_overflows_fails(tmp_path: Path) -> None:
    """Exp of 12 is finite in float32, and is not in half precision."""
    onnx.save(
        model_proto("(float[N] x) => (float[N] y) { a = Exp(x) y = Log(a) }"),
        tmp_path / "floats.onnx",
    )
    model = read_model(tmp_path / "floats.onnx")
    onnx.save(in_half(model.proto, model, {}), tmp_path / "half.onnx")
    files = tmp_path / "half.onnx", tmp_path / "floats.onnx"
    half_checks(*files, {}, {"x": np.float32([1, 2])}, CPU)
    with pytest.raises(ValidationError, match="not finite in half precision"):
        half_checks(*files, {}, {"x": np.float32([1, 12])}, CPU)
