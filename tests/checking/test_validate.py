"""Every point of the validation fails on a file that is wrong in just that respect."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import change_initializer, factors_of, normal, run, search
from onnx import ModelProto, helper, numpy_helper
from rewrites import IMAGES, Rewritten, compressed_network, rewritten

from onnx_relusv.core.blocks import LinearMap, Moments
from onnx_relusv.core.errors import ValidationError
from onnx_relusv.core.reduction import Change, Fitted
from onnx_relusv.fitting.plan import check_stated_level
from onnx_relusv.graph.checks import checker_problem
from onnx_relusv.rewrites.low_rank.factors import as_stored
from onnx_relusv.rewrites.low_rank.forms import double_layer
from onnx_relusv.runtime.differences import relative_error


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Rewritten:
    return compressed_network(tmp_path_factory.mktemp("network"))


def initializer(proto: ModelProto, name: str) -> onnx.TensorProto:
    return next(tensor for tensor in proto.graph.initializer if tensor.name == name)


def producer(proto: ModelProto, name: str) -> onnx.NodeProto:
    return next(node for node in proto.graph.node if name in node.output)


def between(proto: ModelProto, name: str, *texts: str) -> None:
    """Puts nodes behind a tensor, from `raw` to the tensor's name."""
    index = next(i for i, node in enumerate(proto.graph.node) if name in node.output)
    proto.graph.node[index].output[0] = "raw"
    for text in reversed(texts):
        proto.graph.node.insert(index + 1, onnx.parser.parse_node(text))


def nonsense(proto: ModelProto) -> None:
    producer(proto, "c").attribute.add(name="nonsense", i=1, type=onnx.AttributeProto.INT)


def a_contradicting_shape(proto: ModelProto) -> None:
    proto.graph.value_info.append(helper.make_tensor_value_info("h", 1, ["N", 41]))


def a_short_bias(proto: ModelProto) -> None:
    change_initializer(proto, "e/bias", lambda bias: bias[:-1])


def a_type_without_a_kernel(proto: ModelProto) -> None:
    between(
        proto,
        "h",
        "half = Cast<to = 16>(raw)",
        "bounded = Tanh(half)",
        "h = Cast<to = 1>(bounded)",
    )


def chance(proto: ModelProto) -> None:
    between(proto, "h", "noise = RandomNormalLike(raw)", "h = Add(raw, noise)")


def what_only_optimisation_heals(proto: ModelProto) -> None:
    """A bias of ten million that a normalisation takes away again: fused, nothing is lost."""
    large = {"one": np.ones(16), "none": np.zeros(16), "many": np.full(16, 1e7)}
    for name, values in large.items():
        proto.graph.initializer.append(numpy_helper.from_array(np.float32(values), name))
    change_initializer(proto, "e/bias", lambda bias: bias + np.float32(1e7))
    text = "d = BatchNormalization<epsilon = 0.0>(raw, one, none, many, one)"
    between(proto, "d", text)


def another_output_name(proto: ModelProto) -> None:
    producer(proto, "y").output[0] = "z"
    proto.graph.output[0].name = "z"


def another_axis_name(proto: ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"


def lost_metadata(proto: ModelProto) -> None:
    del proto.metadata_props[0]


def a_newer_operator_set(proto: ModelProto) -> None:
    proto.opset_import[0].version = 18


def a_wrong_number(proto: ModelProto) -> None:
    def change(weight: np.ndarray) -> np.ndarray:
        weight.flat[np.abs(weight).argmax()] *= 1.01
        return weight

    change_initializer(proto, "i/second_weight", change)


def a_wrong_bias(proto: ModelProto) -> None:
    change_initializer(proto, "i/bias", lambda bias: bias + np.float32(1e-3))


def swapped_kernel_columns(proto: ModelProto) -> None:
    change_initializer(proto, "c/second_weight", lambda weight: weight[..., ::-1].copy())


def the_other_padding(proto: ModelProto) -> None:
    for attribute in producer(proto, "n").attribute:
        if attribute.name == "pads":
            attribute.ints[:] = [0, 2, 0, 0]


def a_bias_on_the_first_layer(proto: ModelProto) -> None:
    """Its way through the second layer gives the bias, but for where that one is padded."""
    first, second = producer(proto, "c/inner"), producer(proto, "n")
    kernel = numpy_helper.to_array(initializer(proto, "c/second_weight"))[:, :, 0, :].sum(axis=2)
    bias = numpy_helper.to_array(initializer(proto, "c/bias"))
    inner = np.linalg.lstsq(kernel.astype(np.float64), bias, rcond=None)[0]
    lost = bias - kernel @ inner
    proto.graph.initializer.append(numpy_helper.from_array(np.float32(inner), "inner_bias"))
    first.input.append("inner_bias")
    # What three inner channels cannot carry stays where it belongs.
    change_initializer(proto, second.input[2], lambda _: np.float32(lost))


def ballast(proto: ModelProto) -> None:
    proto.graph.initializer.append(numpy_helper.from_array(normal(5000), "ballast"))


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (nonsense, "onnx.checker refuses the result: .*nonsense"),
        (a_contradicting_shape, "onnx.checker refuses the result"),
        (a_short_bias, r"operands of a wrong length: Conv d: e/bias has shape \(15,\)"),
        (a_type_without_a_kernel, "does not run as the original does: onnxruntime cannot open"),
        (chance, "two runs of the result on the same input differ"),
        (what_only_optimisation_heals, "when onnxruntime optimises the result"),
        (another_output_name, "does not look like the original: .*outputs differ"),
        (another_axis_name, "does not look like the original: .*inputs differ"),
        (lost_metadata, "does not look like the original: .*metadata entries are lost"),
        (a_newer_operator_set, "does not look like the original: .*operator sets differ"),
        (a_wrong_number, "i differs from the reference by .*; rounding explains"),
        (a_wrong_bias, "i differs from the reference"),
        (swapped_kernel_columns, "c differs from the reference"),
        (the_other_padding, "c differs from the reference"),
        (a_bias_on_the_first_layer, "c differs from the reference"),
        (ballast, r"the result has \d+ bytes, the original \d+"),
    ],
)
def test_a_file_that_is_wrong_in_one_respect(
    network: Rewritten, tamper: Callable[[ModelProto], None], message: str, tmp_path: Path
) -> None:
    proto = ModelProto()
    proto.CopyFrom(network.proto)
    tamper(proto)
    with pytest.raises(ValidationError, match=message) as caught:
        network.validated(tmp_path, proto)
    assert caught.value.exit_code == 5
    assert list(tmp_path.iterdir()) == []


def test_the_checker_alone_would_let_most_of_it_pass(network: Rewritten, tmp_path: Path) -> None:
    refused = set()
    for tamper in (a_short_bias, chance, another_output_name, a_wrong_number, ballast):
        proto = ModelProto()
        proto.CopyFrom(network.proto)
        tamper(proto)
        onnx.save(proto, tmp_path / "tampered.onnx")
        if checker_problem(tmp_path / "tampered.onnx") is not None:
            refused.add(tamper)
    assert not refused


def test_inside_a_bias_on_the_first_layer_is_right(network: Rewritten) -> None:
    """So that only a look at the borders tells."""
    proto = ModelProto()
    proto.CopyFrom(network.proto)
    a_bias_on_the_first_layer(proto)
    right, wrong = (run(p, IMAGES, ["c"])["c"] for p in (network.proto, proto))
    inside = (..., slice(1, -1), slice(1, -1))
    assert relative_error(wrong[inside], right[inside]) < 1e-5
    assert relative_error(wrong, right) > 1e-2


def test_an_unchanged_file_is_not_smaller(network: Rewritten, tmp_path: Path) -> None:
    claim = replace(network.claim, dense={}, levels={})
    with pytest.raises(ValidationError, match="the result has"):
        network.validated(tmp_path, network.searched.model.proto, claim=claim)


@pytest.mark.parametrize("form", ["channel", "spatial", "tucker"])
@pytest.mark.parametrize("in_data_metric", [False, True])
def test_a_level_that_is_worse_than_stated(
    network: Rewritten, form: str, in_data_metric: bool
) -> None:
    searched = network.searched
    block = searched.blocks[1]
    moments = random_moments(block.geometry.columns) if in_data_metric else None
    linear = searched.linear(block)
    factors = double_layer(form, block.geometry, linear, moments, 3)
    fitted, change = Fitted(factors, linear, moments), Change(block, form, 3)
    dense = as_stored(block, factors)
    check_stated_level(change, fitted, dense)
    # A rank less reaches less, and so does a kernel whose rows are out of place.
    other = double_layer(form, block.geometry, linear, moments, 2)
    moved = LinearMap(np.roll(dense.weight, 1, axis=1), dense.bias)
    for wrong in (as_stored(block, other), moved):
        with pytest.raises(ValidationError, match=r"block e: .* but 0\.\d+ was stated"):
            check_stated_level(change, fitted, wrong)


def test_a_tucker_passes_and_a_wrong_core_does_not(network: Rewritten, tmp_path: Path) -> None:
    three = rewritten(network.searched, rank=6, chosen={"c": "spatial", "e": "tucker"})
    assert len(three.proto.graph.node) == len(network.proto.graph.node) + 1
    three.validated(tmp_path)
    proto = ModelProto()
    proto.CopyFrom(three.proto)
    change_initializer(proto, "e/core_weight", lambda weight: weight[..., ::-1].copy())
    with pytest.raises(ValidationError, match="e differs from the reference"):
        three.validated(tmp_path, proto)


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_factors_beyond_the_range_of_their_type(network: Rewritten, value: float) -> None:
    searched = network.searched
    block = searched.blocks[1]
    linear, factors = searched.linear(block), factors_of(searched, block, "channel", 3)
    dense = as_stored(block, factors)
    weight, bias = np.array(dense.weight), np.array(dense.bias)
    weight[0, 0, 0] = bias[0] = value
    fitted, change = Fitted(factors, linear, None), Change(block, "channel", 3)
    for wrong in (LinearMap(weight, dense.bias), LinearMap(dense.weight, bias)):
        with pytest.raises(
            ValidationError, match="block e: its factors leave the range of float32"
        ):
            check_stated_level(change, fitted, wrong)


def random_moments(columns: int) -> Moments:
    """Moments of a few hundred random rows."""
    rows = normal(400, columns, dtype=np.float64) * np.linspace(0.2, 2, columns)
    return Moments(
        mean=rows.mean(axis=0)[None],
        covariance=np.cov(rows, rowvar=False)[None],
        rows=400,
        samples=400,
        shrinkage=np.zeros(1),
    )


def test_a_problem_that_the_original_has_too_is_no_reason(
    network: Rewritten, tmp_path: Path
) -> None:
    proto = ModelProto()
    proto.CopyFrom(network.searched.model.proto)
    proto.graph.value_info.append(helper.make_tensor_value_info("g", 1, ["N", 17]))
    searched = search(proto, tmp_path, IMAGES)
    (tmp_path / "out").mkdir()
    wrong = rewritten(searched)
    assert checker_problem(searched.model.path) is not None
    verdict = wrong.validated(tmp_path / "out")
    assert "fails as the original does" in verdict.checks[0].detail
    # Another problem besides is one that the original lacks.
    worse = ModelProto()
    worse.CopyFrom(wrong.proto)
    nonsense(worse)
    with pytest.raises(ValidationError, match="nonsense"):
        wrong.validated(tmp_path / "out", worse)
