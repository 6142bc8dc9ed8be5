"""A right file with 8-bit integers passes; a wrong one fails, with what is wrong."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from integer_networks import network, samples
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from onnx_relusv import MeasureOptions, PlanOptions, compress
from onnx_relusv.checking.integers import integer_checks, operand_problems
from onnx_relusv.core.errors import ValidationError
from onnx_relusv.core.plans import Factors
from onnx_relusv.graph.model import Model, read_model
from onnx_relusv.rewrites.int8.activations import dequantized_weights, in_floats
from onnx_relusv.runtime.session import CPU
from onnx_relusv.samples.feeds import Feeds
from onnx_relusv.samples.samples import open_samples


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("checked")
    model = network(made)
    compress(
        model,
        made / "int8.onnx",
        samples=samples(made, model),
        planning=PlanOptions(precision="int8"),
        measuring=MeasureOptions(provider="cpu"),
    )
    right = read_model(made / "int8.onnx")
    onnx.save(in_floats(right), made / "floats.onnx")
    return made


def planned(right: Model) -> dict[str, Factors]:
    """Factors that have the file's own weights."""
    return {
        name: Factors(
            form="dense",
            rank=1,
            matrices=(values.reshape(1, len(values), -1).astype(np.float64),),
            bias=np.zeros(len(values)),
            scales=(np.ones((1, len(values))),),
        )
        for name, values in dequantized_weights(right).items()
    }


def drawn(folder: Path, right: Model) -> Feeds:
    return next(open_samples(folder / "s.npz", right.inputs).batches(64)).feeds


def checked(folder: Path, change: Callable[[ModelProto], None], path: Path) -> None:
    right, proto = read_model(folder / "int8.onnx"), onnx.load(folder / "int8.onnx")
    change(proto)
    onnx.save(proto, path)
    integer_checks(
        read_model(path), folder / "floats.onnx", planned(right), drawn(folder, right), CPU, "u8s8"
    )


def test_a_right_file_passes(folder: Path, tmp_path: Path) -> None:
    right = read_model(folder / "int8.onnx")
    found = integer_checks(
        right, folder / "floats.onnx", planned(right), drawn(folder, right), CPU, "u8s8"
    )
    assert [check.name for check in found] == ["integers", "integer kernels"]
    assert found[0].detail.startswith("6 weights")
    checked(folder, lambda proto: None, tmp_path / "same.onnx")


def initializer(proto: ModelProto, name: str) -> TensorProto:
    return next(tensor for tensor in proto.graph.initializer if tensor.name == name)


def changed(proto: ModelProto, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    tensor = initializer(proto, name)
    values = change(numpy_helper.to_array(tensor).copy())
    tensor.CopyFrom(numpy_helper.from_array(values, name))


def of_weight(proto: ModelProto, number: int = 0) -> NodeProto:
    stored = {t.name for t in proto.graph.initializer if t.data_type == TensorProto.INT8}
    nodes = [n for n in proto.graph.node if n.op_type == "DequantizeLinear"]
    return [n for n in nodes if n.input[0] in stored][number]


def quantizing(proto: ModelProto, number: int = 0) -> NodeProto:
    return [n for n in proto.graph.node if n.op_type == "QuantizeLinear"][number]


def one_integer_off(proto: ModelProto) -> None:
    def change(values: np.ndarray) -> np.ndarray:
        values.reshape(-1)[5] ^= 1
        return values

    changed(proto, of_weight(proto).input[0], change)


def one_scale_off(proto: ModelProto) -> None:
    changed(proto, of_weight(proto).input[1], lambda s: np.nextafter(s, 9, dtype=s.dtype))


def negative_scale(proto: ModelProto) -> None:
    changed(proto, of_weight(proto).input[1], lambda s: -s)


def infinite_scale(proto: ModelProto) -> None:
    changed(proto, quantizing(proto).input[1], lambda s: np.float32(np.inf) + 0 * s)


def scale_of_doubles(proto: ModelProto) -> None:
    node = quantizing(proto)
    changed(proto, node.input[1], lambda s: s.astype(np.float64))


def wrong_axis(proto: ModelProto) -> None:
    # A square Gemm of 40 and 32 would show; a Conv of 32 and 32 channels would not.
    node = of_weight(proto, 0)
    node.attribute[0].i = 1


def zero_point_of_weights(proto: ModelProto) -> None:
    node = next(
        n
        for n in proto.graph.node
        if n.op_type == "DequantizeLinear"
        and "axis" in [a.name for a in n.attribute]
        and len(n.input) == 3
    )
    changed(proto, node.input[2], lambda z: z + np.int8(1))


def signed_zero_point(proto: ModelProto) -> None:
    names = {node.input[2] for node in proto.graph.node if node.op_type == "QuantizeLinear"}
    for name in names:
        changed(proto, name, lambda z: (z.astype(np.int16) // 2).astype(np.int8))


def neighbours_too_large(proto: ModelProto) -> None:
    def change(values: np.ndarray) -> np.ndarray:
        # A channel and the next one, at the first value of the kernel.
        values[0, :2, 0, 0] = 64, 65
        return values

    changed(proto, of_weight(proto, 1).input[0], change)


def neighbours_of_a_gemm_too_large(proto: ModelProto) -> None:
    def change(values: np.ndarray) -> np.ndarray:
        along = np.argmin(np.array(values.shape) == 6)
        np.moveaxis(values, along, 0)[:2, 0] = -64, -65
        return values

    changed(proto, of_weight(proto, -1).input[0], change)


def other_scale_behind(proto: ModelProto) -> None:
    first, second = quantizing(proto, 0), quantizing(proto, 1)
    reader = next(n for n in proto.graph.node if first.output[0] in n.input)
    reader.input[1] = second.input[1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (one_integer_off, "none of the planned weights"),
        (one_scale_off, "none of the planned weights"),
        (neighbours_too_large, "would cut sums off: two neighbours of .* reach 32895"),
        (neighbours_of_a_gemm_too_large, "would cut sums off"),
        (negative_scale, "no positive float32"),
        (infinite_scale, "no positive float32"),
        (scale_of_doubles, "onnx.checker refuses the result"),
        (wrong_axis, "scales on axis 1"),
        (zero_point_of_weights, "a zero point that is not 0"),
        (signed_zero_point, "no zero point of type uint8"),
        (other_scale_behind, "not made of integers by what they were made with"),
    ],
)
def test_a_wrong_file_fails(
    change: Callable[[ModelProto], None], words: str, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValidationError, match=words):
        checked(folder, change, tmp_path / "wrong.onnx")


def test_symmetric_integers_have_a_zero_point_of_their_type_that_is_0(folder: Path) -> None:
    proto = onnx.load(folder / "int8.onnx")
    assert "no zero point of type int8" in next(operand_problems(proto.graph, "s8s8"))
    signed_zero_point(proto)
    assert "is not symmetric" in next(operand_problems(proto.graph, "s8s8"))
    for name in {node.input[2] for node in proto.graph.node if node.op_type == "QuantizeLinear"}:
        changed(proto, name, lambda z: 0 * z)
    assert list(operand_problems(proto.graph, "s8s8")) == []
    assert "no zero point of type uint8" in next(operand_problems(proto.graph, "u8s8"))
    assert "where weights alone are to be" in next(operand_problems(proto.graph, "weights"))


def test_a_planned_weight_that_is_missing_is_missed(folder: Path) -> None:
    right = read_model(folder / "int8.onnx")
    more = planned(right)
    more["another"] = next(iter(planned(right).values())).with_matrices([np.ones((1, 2, 2))])
    with pytest.raises(ValidationError, match="a planned weight of integers is not in the file"):
        integer_checks(right, folder / "floats.onnx", more, drawn(folder, right), CPU, "u8s8")


def test_ranges_that_make_another_network_are_no_matter_of_kernels(
    folder: Path, tmp_path: Path
) -> None:
    """What a scale loses is judged by how the file answers, not here: kernels keep to it."""

    def coarse(proto: ModelProto) -> None:
        changed(proto, quantizing(proto, 1).input[1], lambda s: 8 * s)

    checked(folder, coarse, tmp_path / "coarse.onnx")


def test_integers_that_are_not_added_in_16_bits_may_be_as_large_as_they_like(
    folder: Path, tmp_path: Path
) -> None:
    """Two values of a kernel of one channel are no neighbours where there are further channels."""

    def change(values: np.ndarray) -> np.ndarray:
        values[0, 0, 0] = 127, 0, 127
        values[0, 1, 0] = 0
        return values

    def apart(proto: ModelProto) -> None:
        changed(proto, of_weight(proto, 1).input[0], change)

    with pytest.raises(ValidationError, match="none of the planned weights"):
        checked(folder, apart, tmp_path / "apart.onnx")
