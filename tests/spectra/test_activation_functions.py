"""Activations against onnxruntime's own operators, and what is claimed of each, held against it."""

import math
from itertools import pairwise

import numpy as np
import onnx
import onnxruntime
import pytest

from onnx_relusv.core.blocks import Activation, Floats
from onnx_relusv.core.errors import UsageError
from onnx_relusv.runtime.kernels.formulas import GraphOperations
from onnx_relusv.runtime.kernels.parts import Graph
from onnx_relusv.spectra.activation_functions import (
    ACTIVATIONS,
    RELU,
    ActivationFunction,
    clip_function,
    elu_function,
    hard_sigmoid_function,
    named,
)
from onnx_relusv.spectra.layers import activated

FUNCTIONS = {
    name: found for name, found in ACTIVATIONS.items() if isinstance(found, ActivationFunction)
} | {
    "a flat elu": elu_function(0.4),
    "a steep elu": elu_function(3.0, 0.5),
    "an uneven clip": clip_function(-1.5, 0.5),
    "a hard sigmoid": hard_sigmoid_function(1 / 6, 0.5),
}
# By opset: the operator that onnxruntime has for each.
OPERATORS = {
    "silu": ("y = Mul(x, s)", 17),
    "quick_gelu": ("y = com.microsoft.QuickGelu<alpha: float = 1.702>(x)", 17),
    "gelu": ("y = Gelu(x)", 20),
    "gelu_tanh": ('y = Gelu<approximate: string = "tanh">(x)', 20),
    "hard_swish": ("y = HardSwish(x)", 14),
    "mish": ("y = Mish(x)", 18),
    "softplus": ("y = Softplus(x)", 17),
    "tanh": ("y = Tanh(x)", 17),
    "sigmoid": ("y = Sigmoid(x)", 17),
    "hard_sigmoid": ("y = HardSigmoid(x)", 17),
    "elu": ("y = Elu(x)", 17),
    "selu": ("y = Selu(x)", 17),
    "relu": ("y = Relu(x)", 17),
    "relu6": ("y = Clip(x, zero, six)", 17),
    "leaky_relu": ("y = LeakyRelu(x)", 17),
    "a flat elu": ("y = Elu<alpha: float = 0.4>(x)", 17),
    "a hard sigmoid": ("y = HardSigmoid<alpha: float = 0.16666667, beta: float = 0.5>(x)", 17),
}
# Kinks of all but the uneven ones lie on it, and float32 holds it.
GRID = np.arange(-48, 49) / 4
FINE = np.linspace(-30, 30, 240_001)


def by_onnxruntime(name: str, x: Floats) -> Floats:
    """The operator's answers, float32."""
    operator, opset = OPERATORS[name]
    text = f"""<ir_version: 8, opset_import: ["": {opset}, "com.microsoft": 1]>
    g (float[n] x) => (float[n] y) <float zero = {{0}}, float six = {{6}}>
    {{ s = Sigmoid(x) {operator} }}"""
    model = onnx.parser.parse_model(text)
    if "com.microsoft" not in operator:
        del model.opset_import[1]
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(["y"], {"x": x.astype(np.float32)})[0], np.float64)


def test_every_activation_has_its_operator() -> None:
    assert set(ACTIVATIONS) <= set(OPERATORS)


@pytest.mark.parametrize("name", OPERATORS)
def test_values_are_those_of_onnxruntime(name: str) -> None:
    found = ACTIVATIONS.get(name) or FUNCTIONS[name]
    # Float32 exponentials and error functions are off by a few roundings of 1, and of the answer.
    rounding = 8 * 2.0**-24 * np.maximum(1, np.abs(GRID))
    expected = by_onnxruntime(name, GRID)
    assert np.all(np.abs(activated(GRID[None], found)[0] - expected) <= rounding)
    # A constant that is off in its fourth digit would be seen.
    assert np.any(np.abs(activated(1.0002 * GRID[None], found)[0] - expected) > rounding)


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) & set(OPERATORS)))
def test_derivatives_add_up_to_the_differences_of_onnxruntime(name: str) -> None:
    # Twelve points of Gauss between neighbours, where all is smooth: exact beyond float32.
    points, weights = np.polynomial.legendre.leggauss(12)
    width = np.diff(GRID)[:, None]
    inner = GRID[:-1, None] + width * (points + 1) / 2
    areas = (FUNCTIONS[name].derivative(inner) * weights * width / 2).sum(axis=1)
    differences = np.diff(by_onnxruntime(name, GRID))
    assert np.all(np.abs(areas - differences) <= 16 * 2.0**-24 * np.maximum(1, np.abs(GRID[1:])))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_graphs_compute_what_arrays_do(name: str) -> None:
    function = FUNCTIONS[name]
    graph = Graph("formula")
    value, derivative = function.formula(graph.input("t", 1), GraphOperations(graph))
    graph.output("value", value, 1)
    graph.output("derivative", derivative, 1)
    # Beside the kinks, where both sides of a jump would do.
    t = np.append(GRID + 0.01, [-1e12, -1e9, 1e9, 1e12]).astype(np.float32)
    found = graph.opened("CPUExecutionProvider").run({"t": t})
    assert np.allclose(found["value"], function(t), rtol=1e-6, atol=1e-6)
    # What float32 gates are off by, times the slope of what goes into them.
    assert np.allclose(found["derivative"], function.derivative(t), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_slopes_are_monotone_between_the_points_where_they_turn(name: str) -> None:
    function = FUNCTIONS[name]
    ends = [-np.inf, *function.turning, np.inf]
    for low, high in pairwise(ends):
        piece = FINE[(low < FINE) & (high > FINE)]
        steps = np.diff(function.derivative(piece))
        assert np.all(steps >= -1e-15) or np.all(steps <= 1e-15)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_slope_exceeds_the_lipschitz_constant_and_one_comes_close(name: str) -> None:
    function = FUNCTIONS[name]
    beside = [point + side for point in function.turning for side in (-1e-9, 0, 1e-9)]
    slopes = np.abs(function.derivative(np.append(FINE, beside)))
    # To the last digit of both.
    assert slopes.max() <= function.lipschitz * (1 + 4e-16)
    # Slopes that are reached at infinity come within exp(-30).
    assert slopes.max() >= function.lipschitz * (1 - 1e-8)


def test_the_constants() -> None:
    # In closed form, to the digits that are quoted.
    turn = FUNCTIONS["silu"].turning[1]
    assert turn * math.tanh(turn / 2) == pytest.approx(2, rel=1e-14)
    quoted = {"silu": 1.09984, "quick_gelu": 1.09984, "gelu": 1.12890, "gelu_tanh": 1.12899}
    quoted |= {"hard_swish": 1.5, "mish": 1.08850, "selu": 1.75810, "softplus": 1, "sigmoid": 0.25}
    for name, constant in quoted.items():
        assert FUNCTIONS[name].lipschitz == pytest.approx(constant, abs=5e-6), name
    # 1.09 for SiLU would be too little.
    assert FUNCTIONS["silu"].derivative(turn) > 1.09


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_claims_of_each(name: str) -> None:
    function, t = FUNCTIONS[name], FINE[FINE > 0]
    odd = np.abs(function(t) - function(-t))
    slack = 1e-13 * (1 + t)
    assert np.all(odd >= 2 * function.lower_factor * t - slack)
    # No larger factor holds, near 0 or far away.
    if not function.rising or function.lower_factor:
        limit = np.append(odd / t, abs(function(1e9) - function(-1e9)) / 1e9)
        assert limit.min() <= 2 * function.lower_factor + 1e-6
    if function.halves:
        assert np.all(np.abs(odd - t) <= slack)
        assert np.all(function.derivative(t) >= 0.5)
    if function.gated:
        gates = function(FINE[FINE != 0]) / FINE[FINE != 0]
        assert np.all(np.diff(gates) >= -1e-15)
        assert np.all((gates >= 0) & (gates <= 1))
    if function.halves or function.gated:
        beside = function(FINE) - np.maximum(FINE, 0)
        assert np.ptp(beside) <= function.off_relu
        assert np.ptp(beside) >= function.off_relu - 1e-7
    if function.rising:
        slopes = function.derivative(FINE)
        assert np.all(slopes >= 0)
        top = slopes.argmax()
        assert np.all(np.diff(slopes[: top + 1]) >= -1e-15)
        assert np.all(np.diff(slopes[top:]) <= 1e-15)
    assert not function.homogeneous
    assert function.at_zero == function(np.zeros(1))[0]
    assert not any(point not in function.turning for point in function.kinks)


def test_what_is_homogeneous() -> None:
    assert [name for name, found in ACTIVATIONS.items() if found.homogeneous] == [
        "relu",
        "leaky_relu",
    ]


def test_slopes_within_an_interval() -> None:
    rng = np.random.default_rng(0)
    for name, function in FUNCTIONS.items():
        low = rng.uniform(-5, 5, 200)
        high = low + rng.exponential(1, 200)
        steepest, flattest = function.steepest(low, high), function.flattest(low, high)
        within = function.derivative(np.linspace(low, high, 400))
        assert np.all(np.abs(within).max(axis=0) <= steepest), name
        assert np.all(within.min(axis=0) >= flattest), name
        # And no more than what a grid misses, but for jumps that fall between its points.
        if not function.kinks:
            assert np.abs(within).max(axis=0) == pytest.approx(steepest, abs=1e-4), name
            assert within.min(axis=0) == pytest.approx(flattest, abs=1e-4), name


def test_far_arguments_give_finite_answers() -> None:
    far = np.array([-1e120, -1e60, 1e60, 1e120])
    for name, function in FUNCTIONS.items():
        assert np.isfinite(function(far)).all(), name
        assert np.isfinite(function.derivative(far)).all(), name


def test_names_and_parameters() -> None:
    assert named("silu") is ACTIVATIONS["silu"]
    assert named(RELU) is RELU
    assert isinstance(named("relu6"), Activation)
    with pytest.raises(UsageError, match="activation 'silly': use one of relu, "):
        named("silly")
    for wrong in (
        lambda: elu_function(-1.0),
        lambda: elu_function(scale=0.0),
        lambda: hard_sigmoid_function(slope=-0.2),
        lambda: hard_sigmoid_function(offset=math.nan),
        lambda: clip_function(1.0, 1.0),
        lambda: clip_function(0.0, math.inf),
    ):
        with pytest.raises(UsageError, match="use "):
            wrong()
