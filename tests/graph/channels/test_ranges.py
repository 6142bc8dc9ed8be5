"""Certified ranges against runs: random graphs, worst corners, and where nothing is known."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from graphs import model_proto, normal, normalization
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_channels import random_model
from ranged import Ranged, holds, ranged, tightened, within

# The margin of a short sum, of every term, at both ends.
MARGIN = 2e-5
UNIT = (0.0, 1.0)


@settings(
    deadline=None,
    derandomize=True,
    max_examples=80,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    seed=st.integers(0, 10**6),
    ends=st.lists(st.floats(-3, 3, width=32), min_size=2, max_size=2, unique=True),
)
def test_every_tensor_of_a_random_graph_is_within_its_bounds(
    seed: int, ends: list[float], tmp_path: Path
) -> None:
    low, high = sorted(ends)
    found = ranged(random_model(seed), normal(1, 3, 4, 4), (low, high), tmp_path)
    assert "x" in found.ranges
    values = found.values(within((20, 3, 4, 4), (low, high), np.random.default_rng(seed)))
    for name, bounds in found.ranges.items():
        assert holds(bounds, values[name]), name
    # And so what is called dead is zero wherever it is read.
    channels, dead = found.dead()
    for axis in channels.consumed:
        source = found.model.proto.graph.node[axis.node].input[0]
        along = channels.tensors[source]
        gone = (along.units >= 0) & dead[along.units]
        assert not np.any(np.moveaxis(values[source], along.axis, -1)[..., gone])


LAYERS = {
    "Gemm": ("(float[N,8] x) => (float[N,5] y) { y = Gemm(x, w, b) }", normal(8, 5), (8,)),
    "Conv": (
        "(float[N,2,2,2] x) => (float[N,5,1,1] y) { y = Conv(x, w, b) }",
        normal(5, 2, 2, 2),
        (2, 2, 2),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_linear_layer_attains_its_bounds(name: str, tmp_path: Path) -> None:
    text, weight, shape = LAYERS[name]
    declared = (-0.5, 2.0)
    proto = model_proto(text, {"w": weight, "b": normal(5)})
    found = ranged(proto, normal(1, *shape), declared, tmp_path)
    corners = np.array(list(product(declared, repeat=8)), np.float32).reshape(-1, *shape)
    y = found.values(corners)["y"]
    bounds = found.ranges["y"]
    assert holds(bounds, y)
    sizes = 2 * np.abs(weight).sum() + np.abs(normal(5)).sum()
    np.testing.assert_allclose(
        bounds.high.reshape(-1), y.max(axis=0).reshape(-1), atol=MARGIN * sizes
    )
    np.testing.assert_allclose(
        bounds.low.reshape(-1), y.min(axis=0).reshape(-1), atol=MARGIN * sizes
    )
    for share in (1e-3, 0.1):
        assert not holds(tightened(bounds, share), y)


def test_padding_brings_zeros_in(tmp_path: Path) -> None:
    """Inputs from 1 to 2, and a kernel that takes the left from the middle: at the border 2."""
    kernel = np.array([[[-1.0, 1.0]]], np.float32)
    text = "(float[N,1,5] x) => (float[N,1,L] y) {{ y = Conv<pads=[{0},0]>(x, w) }}"
    for pad, top in ((0, 1.0), (1, 2.0)):
        found = ranged(
            model_proto(text.format(pad), {"w": kernel}), normal(1, 1, 5), (1.0, 2.0), tmp_path
        )
        bounds = found.ranges["y"]
        np.testing.assert_allclose(bounds.high.item(), top, atol=1e-4)
        x = np.array([[[2, 2, 1, 2, 1]]], np.float32)
        assert found.values(x)["y"].max() == top


def test_rounding_has_its_margin(tmp_path: Path) -> None:
    """Float32 sums exceed what is exact; the margin takes that in."""
    weight = normal(4000, 64)
    proto = model_proto("(float[N,4000] x) => (float[N,64] y) { y = MatMul(x, w) }", {"w": weight})
    found: Ranged = ranged(proto, normal(1, 4000), (0.0, 0.1), tmp_path)
    worst = np.where(weight.T > 0, 0.1, 0.0).astype(np.float32)
    y = np.diagonal(found.values(worst)["y"])
    exact = np.einsum("ni,in->n", worst.astype(np.float64), weight.astype(np.float64))
    assert np.any(y > exact)
    assert np.all(y <= found.ranges["y"].high)


def test_a_hard_swish_is_never_below_its_least(tmp_path: Path) -> None:
    text = "(float[N,1] x) => (float[N,1] y) { y = HardSwish(x) }"
    found = ranged(model_proto(text), normal(1, 1), (-9.0, 9.0), tmp_path)
    np.testing.assert_allclose(found.ranges["y"].low, [[-0.375]], rtol=1e-4)
    assert holds(found.ranges["y"], found.values(np.float32([[-1.5]]))["y"])


def test_a_mean_over_everything(tmp_path: Path) -> None:
    text = "(float[N,4,6] x) => (float y) { h = Mul(x, c) y = ReduceMean<keepdims=0>(h) }"
    factors = normal(1, 4, 6)
    found = ranged(model_proto(text, {"c": factors}, opset=13), factors, (-1.0, 1.0), tmp_path)
    y, bounds = found.values(np.sign(factors))["y"], found.ranges["y"]
    assert holds(bounds, y)
    np.testing.assert_allclose(y, np.abs(factors).mean(), rtol=1e-6)
    # How many numbers are averaged depends on the batch, so that the margin is that of very many.
    np.testing.assert_allclose(bounds.high, y, rtol=0.1)


NOTHING = {
    "an operator that is not listed": ("{ y = Exp(x) }", {}),
    "whole numbers wrap around": ("{ h = Add(x, c) y = Cast<to=1>(h) }", {"c": np.uint8([7])}),
    "what is cut to whole numbers": ("{ h = Cast<to=6>(x) y = Cast<to=1>(h) }", {}),
    "a weight that is computed": ("{ h = Cos(w) y = MatMul(x, h) }", {"w": normal(6, 5)}),
    "zero may be divided by": ("{ h = Sub(x, c) y = Div(c, h) }", {"c": np.float32([0.5])}),
    "statistics of the batch": (
        "{ y, m, v = BatchNormalization<training_mode=1>(x, gamma, beta, mean, variance) }",
        normalization(6),
    ),
    "numbers that are dropped": (
        "{ y = Dropout(x, r, t) }",
        {"r": np.float32(0.5), "t": np.array(True)},
    ),
    "infinite numbers": ("{ y = Mul(x, c) }", {"c": np.float32([np.inf])}),
}


@pytest.mark.parametrize("name", NOTHING)
def test_of_what_nothing_is_said(name: str, tmp_path: Path) -> None:
    body, arrays = NOTHING[name]
    kind = "uint8" if "wrap" in name else "float"
    proto = model_proto(f"({kind}[N,6] x) => (float[N,?] y) {body}", arrays, opset=15)
    example = np.ones((1, 6), np.uint8 if kind == "uint8" else np.float32)
    found = ranged(proto, example, (0.0, 250.0), tmp_path)
    assert "x" in found.ranges
    assert "y" not in found.ranges


def test_bytes_are_followed_to_their_cast(tmp_path: Path) -> None:
    text = """(uint8[N,6,6,3] x) => (float[N,3,6,6] y)
        { h = Transpose<perm=[0,3,1,2]>(x) i = Cast<to=1>(h) j = Div(i, c) y = Sub(j, m) }"""
    arrays = {"c": np.float32(255), "m": normal(3, 1, 1)}
    example = np.zeros((1, 6, 6, 3), np.uint8)
    found = ranged(model_proto(text, arrays), example, (0.0, 255.0), tmp_path)
    assert found.ranges["h"].whole
    np.testing.assert_allclose(found.ranges["y"].low, -arrays["m"][None], atol=1e-3)
    np.testing.assert_allclose(found.ranges["y"].high, 1 - arrays["m"][None], atol=1e-3)
    ends = np.repeat(np.array([0, 255], np.uint8), 108).reshape(2, 6, 6, 3)
    assert holds(found.ranges["y"], found.values(ends)["y"])


def test_constants_of_any_size(tmp_path: Path) -> None:
    """Of a large one the ends are known, of an empty one nothing."""
    text = "(float[N,1050] x) => (float[M,1050] y) { h = Add(x, c) y = Concat<axis=0>(h, e) }"
    arrays = {"c": normal(1050, 1050), "e": np.zeros((0, 1050), np.float32)}
    found = ranged(model_proto(text, arrays), normal(1, 1050), UNIT, tmp_path)
    ends = found.ranges["h"].low, found.ranges["h"].high
    np.testing.assert_allclose(ends, [arrays["c"].min(), 1 + arrays["c"].max()], rtol=1e-4)
    assert "y" not in found.ranges


def test_half_floats_round_coarsely(tmp_path: Path) -> None:
    text = "(float16[N,200] x) => (float16[N,3] y) { y = MatMul(x, w) }"
    weight = normal(200, 3, scale=0.1)
    proto = model_proto(text, {"w": weight.astype(np.float16)})
    found = ranged(proto, np.zeros((1, 200), np.float16), (0.0, 1.0), tmp_path)
    worst = np.where(weight.T > 0, 1, 0).astype(np.float16)
    y = np.diagonal(found.values(worst)["y"]).astype(np.float64)
    stored = weight.astype(np.float16).astype(np.float64)
    exact, high = np.maximum(stored, 0).sum(axis=0), found.ranges["y"].high
    assert np.all(y <= high)
    # 200 terms of a type with 11 digits may be a tenth off.
    assert np.all(exact * 1.05 < high)
