"""Slips of a careless reader of ONNX: each test shows that the careless numbers are other ones."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from graphs import (
    Searched,
    evaluated,
    factors_of,
    gap,
    model_proto,
    normal,
    normalization,
    positive,
    run,
    search,
)
from onnx import numpy_helper

from onnx_relusv.rewrites.low_rank.surgery import rewrite

# Float32 sums of at most 100 products; the careless numbers are off by a hundredth or more.
ROUNDING, CARELESS = 1e-6, 1e-2
IMAGE = {"x": normal(2, 4, 7, 7)}
KERNEL = {"k": normal(7, 4, 3, 3)}


def image(body: str, folder: Path, opset: int = 17, **arrays: np.ndarray) -> Searched:
    """A search in a model of images; with 7 channels and as many rows and columns behind it."""
    text = f"(float[N,4,7,7] x) => (y) {{ h = Conv<pads=[1,1,1,1]>(x, k) {body} }}"
    proto = model_proto(text, KERNEL | arrays, opset=opset)
    return search(proto, folder, IMAGE)


def values(searched: Searched, name: str) -> np.ndarray:
    return run(searched.model.path, IMAGE, [name])[name]


@pytest.mark.parametrize(
    ("auto_pad", "careless"), [("SAME_UPPER", "SAME_LOWER"), ("SAME_LOWER", "SAME_UPPER")]
)
def test_same_upper_is_not_same_lower(auto_pad: str, careless: str, tmp_path: Path) -> None:
    proto = model_proto(
        f'(float[N,4,7,7] x) => (y) {{ y = Conv<auto_pad="{auto_pad}">(x, k) }}',
        {"k": normal(7, 4, 4, 4)},
    )
    searched = search(proto, tmp_path, IMAGE)
    block, linear, result = searched.block, searched.linear(), values(searched, "y")
    swapped = replace(block, geometry=replace(block.geometry, auto_pad=careless))
    assert gap(result, evaluated(block, linear, IMAGE["x"])) < ROUNDING
    # The shapes are equal, so nothing but the numbers tells.
    assert gap(result, evaluated(swapped, linear, IMAGE["x"])) > CARELESS


@pytest.mark.parametrize("shape", [(7,), (1, 7), (7, 1), (1, 1, 7), (1, 7, 1), (7, 7)])
def test_a_constant_along_rows_or_columns_is_no_bias(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    searched = image("g = Add(h, c) y = Relu(g)", tmp_path, c=normal(*shape))
    block = searched.block
    assert (block.key, block.activation.kind) == ("h", "none")
    result = values(searched, "g")
    before = evaluated(block, searched.linear(), IMAGE["x"])
    constant = normal(*shape).reshape(-1)[:7].astype(np.float64)
    assert gap(result, before + normal(*shape)) < ROUNDING
    assert gap(result, before + constant.reshape(7, 1, 1)) > CARELESS


@pytest.mark.parametrize("shape", [(7,), (1, 7), (1, 1, 7), (7, 1), (1, 7, 1)])
def test_slopes_along_rows_or_columns_are_not_the_channels(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    slopes = normal(*shape)
    searched = image("y = PRelu(h, s)", tmp_path, s=slopes)
    assert searched.block.activation.kind == "none"
    before = values(searched, "h").astype(np.float64)
    careless = np.where(before > 0, before, before * slopes.reshape(7, 1, 1))
    assert gap(values(searched, "y"), careless) > CARELESS


@pytest.mark.parametrize("opset", [7, 8])
def test_a_normalisation_of_every_value_is_not_folded(opset: int, tmp_path: Path) -> None:
    vectors = {
        name: np.broadcast_to(vector.reshape(7, 1, 1), (7, 7, 7)) * positive(7, 7, 7, seed=3)
        for name, vector in normalization(7).items()
    }
    body = "g = BatchNormalization<spatial=0>(h, gamma, beta, mean, variance) y = Relu(g)"
    searched = image(body, tmp_path, opset, **vectors)
    assert (searched.block.key, searched.block.nodes) == ("h", (0,))
    first = {name: vector[:, 0, 0] for name, vector in vectors.items()}
    assert gap(values(searched, "g"), normalised(values(searched, "h"), first)) > CARELESS


def test_a_normalisation_of_the_steps_of_a_sequence_is_not_folded(tmp_path: Path) -> None:
    # Five steps and five features: the lengths say nothing of the axis.
    proto = model_proto(
        "(float[N,5,6] x) => (y) { h = MatMul(x, w)"
        " g = BatchNormalization(h, gamma, beta, mean, variance) y = Relu(g) }",
        {"w": normal(6, 5), **normalization(5)},
    )
    feeds = {"x": normal(2, 5, 6)}
    assert search(proto, tmp_path, feeds).block.key == "h"
    result = run(proto, feeds, ["h", "g"])
    before, vectors = result["h"][..., None], normalization(5)
    assert gap(result["g"], normalised(before, vectors)[..., 0]) < ROUNDING
    careless = normalised(before.swapaxes(1, 2), vectors).swapaxes(1, 2)[..., 0]
    assert gap(result["g"], careless) > CARELESS


def test_spatial_one_is_folded(tmp_path: Path) -> None:
    body = "g = BatchNormalization<spatial=1>(h, gamma, beta, mean, variance) y = Relu(g)"
    searched = image(body, tmp_path, 7, **normalization(7))
    assert (searched.block.key, searched.block.nodes) == ("y", (0, 1))


def normalised(before: np.ndarray, vectors: dict[str, np.ndarray]) -> np.ndarray:
    """A BatchNormalization of constant vectors, as folding reads it."""
    gamma, beta, mean, variance = (
        vectors[name].astype(np.float64).reshape(-1, 1, 1)
        for name in ("gamma", "beta", "mean", "variance")
    )
    return (before - mean) / np.sqrt(variance + 1e-5) * gamma + beta


def test_a_normalisation_in_training_is_not_folded(tmp_path: Path) -> None:
    training = "BatchNormalization<training_mode=1>(h, gamma, beta, mean, variance)"
    body = f"g, new_mean, new_variance = {training} y = Relu(g)"
    searched = image(body, tmp_path, 15, **normalization(7))
    assert (searched.block.key, searched.block.nodes) == ("h", (0,))
    # It normalises by what the batch at hand has, not by its constants.
    careless = normalised(values(searched, "h"), normalization(7))
    assert gap(values(searched, "g"), careless) > CARELESS


@pytest.mark.parametrize("body", ["m = Max(x, x) high = ReduceMax<keepdims=0>(m)", ""])
def test_bounds_that_are_no_constants(body: str, tmp_path: Path) -> None:
    head = "(float[N,4,7,7] x)" if body else "(float[N,4,7,7] x, float high)"
    proto = model_proto(
        f"{head} => (y) {{ {body} h = Conv(x, k) y = Clip(h, low, high) }}",
        KERNEL | {"low": np.float32(0)[...], "unused": np.float32(6)[...]},
        opset=13,
    )
    feeds = IMAGE if body else IMAGE | {"high": np.float32(1)[...]}
    block = search(proto, tmp_path, feeds).block
    assert (block.key, block.activation.kind, block.activation.ceiling) == ("h", "none", None)


def test_bounds_that_the_caller_may_override(tmp_path: Path) -> None:
    text = "(float[N,4,7,7] x, float high) => (y) { h = Conv(x, k) y = Clip(h, low, high) }"
    arrays = KERNEL | {"low": np.float32(0)[...], "high": np.float32(6)[...]}
    proto = model_proto(text, arrays, opset=13)
    assert search(proto, tmp_path, IMAGE).block.activation.kind == "none"
    other = run(proto, IMAGE | {"high": np.float32(1)[...]})["y"]
    assert other.max() == 1  # a reader of the initializer would say 6


def test_bounds_are_attributes_before_opset_11(tmp_path: Path) -> None:
    searched = image("y = Clip<min=0.0, max=1.5>(h)", tmp_path, 9)
    assert searched.block.activation.kind == "clip"
    assert searched.block.activation.ceiling == 1.5
    assert values(searched, "y").max() == 1.5
    # Who reads inputs only sees no bounds, and none at all is not what runs.
    assert values(searched, "h").max() > 1.5


@pytest.mark.parametrize("attributes", ["", "<max=1.5>", "<min=-1.0, max=1.0>"])
def test_attributes_without_a_lower_bound_of_zero(attributes: str, tmp_path: Path) -> None:
    searched = image(f"y = Clip{attributes}(h)", tmp_path, 9)
    assert searched.block.activation.kind == "none"
    assert values(searched, "y").min() < 0


def test_a_tensor_that_a_branch_uses_has_a_second_user(tmp_path: Path) -> None:
    proto = model_proto(
        "(float[N,6] x, bool c) => (float[N,5] y, float[N,5] z) { h = Gemm(x, w) y = Relu(h)"
        " z = If(c) <then_branch = t () => (float[N,5] a) { a = Neg(h) },"
        " else_branch = e () => (float[N,5] b) { b = Neg(y) }> }",
        {"w": normal(6, 5)},
    )
    feeds = {"x": normal(3, 6), "c": np.array(True)}
    searched = search(proto, tmp_path, feeds)
    block = searched.block
    assert (block.key, block.activation.kind) == ("h", "none")
    assert block.consumers == ("Relu", "Neg")


def test_a_tensor_that_only_a_branch_uses_stays_computed(tmp_path: Path) -> None:
    proto = model_proto(
        "(float[N,6] x, bool c) => (float[N,5] z) { h = Gemm(x, w)"
        " z = If(c) <then_branch = t () => (float[N,5] a) { a = Relu(h) },"
        " else_branch = e () => (float[N,5] b) { b = Add(h, v) }> }",
        {"w": normal(6, 5), "v": normal(5)},
    )
    feeds = {"x": normal(3, 6), "c": np.array(False)}
    searched = search(proto, tmp_path, feeds)
    block = searched.block
    assert (block.key, block.nodes, block.activation.kind) == ("h", (0,), "none")
    factors = factors_of(searched, block, "pair", 5)
    smaller = rewrite(searched.model, [block], {"h": factors}, "{}")
    for condition in (True, False):
        feeds["c"] = np.array(condition)
        assert gap(run(smaller, feeds)["z"], run(proto, feeds)["z"]) < ROUNDING


@pytest.mark.parametrize("form", ["channel", "spatial"])
def test_a_bias_belongs_to_the_last_layer(form: str, tmp_path: Path) -> None:
    proto = model_proto(
        "(float[N,4,7,7] x) => (y) { h = Conv<pads=[1,1,1,1]>(x, k, b) y = Relu(h) }",
        KERNEL | {"b": 3 * normal(7)},
    )
    searched = search(proto, tmp_path, IMAGE)
    block = searched.block
    rank = 7 if form == "channel" else 12
    factors = factors_of(searched, block, form, rank)
    smaller = rewrite(searched.model, [block], {"y": factors}, "{}")
    first, second, _ = smaller.graph.node
    assert len(first.input) == 2
    assert len(second.input) == 3
    exact = values(searched, "h")
    assert gap(run(smaller, IMAGE, ["h"])["h"], exact) < 10 * ROUNDING
    # The same bias, sent through the second layer: right inside and wrong at padded borders.
    kernel = numpy_helper.to_array(smaller.graph.initializer[1]).sum(axis=(2, 3))
    inner = np.linalg.lstsq(kernel.astype(np.float64), factors.bias, rcond=None)[0]
    smaller.graph.initializer.append(numpy_helper.from_array(inner.astype(np.float32), "inner"))
    first.input.append("inner")
    del second.input[2]
    careless = run(smaller, IMAGE, ["h"])["h"]
    inside = (..., slice(1, -1), slice(1, -1))
    assert gap(careless[inside], exact[inside]) < 10 * ROUNDING
    # A pointwise second layer has no border.
    assert (gap(careless, exact) > CARELESS) == (form == "spatial")
