"""Bounds behind activations that are no ReLU: exact cases, attempts to break them, wrong ones."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from relu_maps import (
    any_of_rank,
    blind,
    directions,
    gaps,
    integer_weights,
    layer,
    met_from_below,
    slack,
    truncated,
)

from onnx_relusv.core.blocks import Floats
from onnx_relusv.runtime.session import CPU
from onnx_relusv.spectra.activated import activated_mean_width
from onnx_relusv.spectra.activation_functions import (
    ACTIVATIONS,
    ActivationFunction,
    clip_function,
    elu_function,
    row_factors,
    singular_value_bounds,
)
from onnx_relusv.spectra.ascent import climb_gap
from onnx_relusv.spectra.layers import Effort
from onnx_relusv.spectra.mean_widths import relu_mean_width, width_of
from onnx_relusv.spectra.relu_values import best_approximation, relu_singular_values

FUNCTIONS = [
    *(found for found in ACTIVATIONS.values() if isinstance(found, ActivationFunction)),
    elu_function(0.4),
    elu_function(3.0, 0.5),
    clip_function(-1.5, 0.5),
]
SILU, TANH, ELU, SOFTPLUS = (
    function
    for name in ("silu", "tanh", "elu", "softplus")
    for function in FUNCTIONS[:12]
    if function.name == name
)
EFFORT = Effort(iterations=10, starts=4, seed=0, provider=CPU)
ONE, BOTH = np.ones((1, 1)), np.array([[1.0], [-1.0]])

functions = st.sampled_from(FUNCTIONS)
radii = st.sampled_from([1e-3, 0.2, 1.0, 4.0, 30.0])
# None; whole and half numbers, many of which are 0; or any.
biases = st.sampled_from(["none", "positive", "halves", "any"])


def bias_of(kind: str, out: int, seed: int) -> Floats:
    rng = np.random.default_rng([seed, 1])
    if kind == "halves":
        return rng.integers(-2, 3, out) / 2
    b = rng.standard_normal(out) if kind in ("positive", "any") else np.zeros(out)
    return np.abs(b) if kind == "positive" else b


def bounds(
    W: Floats, function: ActivationFunction, bias: Floats | None = None, **changes: bool
) -> tuple[Floats, Floats]:
    b = np.zeros(len(W)) if bias is None else bias
    found = layer(W, function, b).reduced
    return singular_value_bounds(found, function, b, **changes)


def blind_to_factors(
    W: Floats,
    L: Floats,
    k: int,
    function: ActivationFunction,
    b: Floats,
    *,
    free_bias: bool = False,
) -> Floats:
    """The inputs that the proof of the bound with a factor a row speaks of."""
    factors = row_factors(function, b, np.linalg.norm(W, axis=1), free_bias=free_bias)
    return blind(factors[:, None] * W, L, k)


def exact(function: ActivationFunction, W: Floats, bias: Floats | None = None) -> float:
    """s_0 of a layer with a single input, to 1e-8 or so."""
    x = np.linspace(-1, 1, 20_001)[None]
    return float(gaps(W, 0 * W, x, function, bias).max())


@given(integer_weights, functions, radii, biases, st.integers(0, 4), st.integers(0, 10**6))
def test_no_map_of_rank_k_gets_below_the_lower_end(
    W: Floats, function: ActivationFunction, radius: float, kind: str, k: int, seed: int
) -> None:
    W, k, b = radius * W, min(k, min(W.shape) - 1), bias_of(kind, len(W), seed)
    L = any_of_rank(W, k, seed, nearby=bool(seed % 2))
    met = max(
        met_from_below(W, L, k, function, b),
        gaps(W, L, blind_to_factors(W, L, k, function, b), function, b).max(),
    )
    lower, _ = bounds(W, function, b)
    assert met >= lower[k] - slack(np.linalg.svd(W, compute_uv=False))


@given(integer_weights, functions, radii, biases, st.integers(0, 4), st.integers(0, 10**6))
def test_nor_with_a_bias_of_its_own(
    W: Floats, function: ActivationFunction, radius: float, kind: str, k: int, seed: int
) -> None:
    W, k, b = radius * W, min(k, min(W.shape) - 1), bias_of(kind, len(W), seed)
    L = any_of_rank(W, k, seed, nearby=bool(seed % 2))
    lower, _ = bounds(W, function, b, free_bias=True)
    met = 0.0
    for x in (blind(W, L, k), blind_to_factors(W, L, k, function, b, free_bias=True)):
        answers = function(W @ x + b[:, None])
        # Whatever one answer L has for both inputs, here it is half way between the layer's.
        met = max(met, np.linalg.norm(answers[:, 0] - answers[:, 1]) / 2)
    assert met >= lower[k] - slack(np.linalg.svd(W, compute_uv=False))


@given(integer_weights, functions, radii, biases, st.integers(0, 4), st.integers(0, 10**6))
def test_some_map_of_rank_k_stays_below_the_upper_end(
    W: Floats, function: ActivationFunction, radius: float, kind: str, k: int, seed: int
) -> None:
    W, k, b = radius * W, min(k, min(W.shape) - 1), bias_of(kind, len(W), seed)
    reach = np.linalg.norm(W, axis=1)
    steep = np.maximum(function.steepest(b - reach, b + reach), 1e-300)[:, None]
    # Those that the proofs speak of, of this rank and of less.
    maps = [truncated(W, rank) for rank in range(k + 1)]
    maps += [truncated(steep * W, rank) / steep for rank in range(k + 1)]
    right = np.linalg.svd(W)[2].T
    x = np.hstack([right, -right, directions(W.shape[1], 200, seed)])
    met = min(gaps(W, L, x, function, b).max() for L in maps)
    assert met <= bounds(W, function, b)[1][k] + slack(np.linalg.svd(W, compute_uv=False))


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)
def test_nor_does_an_ascent_get_above_it(function: ActivationFunction) -> None:
    rng = np.random.default_rng(0)
    for radius, k in ((0.3, 1), (3.0, 1), (3.0, 3)):
        W = radius * rng.standard_normal((7, 2)) @ rng.standard_normal((2, 5))
        W += 0.3 * radius * rng.standard_normal((7, 5))
        b = rng.standard_normal(7)
        made = layer(W, function, b)
        cut = made.reduced.copy()
        cut[:, k:] = 0
        _, values, points = climb_gap(made, cut, directions(5, 8, 1), EFFORT)
        assert np.linalg.norm(points, axis=0).max() <= 1 + 1e-12
        sigma = np.linalg.norm(made.reduced, axis=0)
        # The truncated map's gap has this bound, whatever others have.
        assert values.max() <= function.lipschitz * sigma[k] * (1 + 1e-9)
        # And no start ends below where it began.
        begun = gaps(made.reduced, cut, directions(5, 8, 1), function, b)
        assert np.all(values >= begun * (1 - 1e-5))
        lower, upper = bounds(W, function, b)
        assert np.all(lower <= upper)


def test_exact_cases() -> None:
    # A row and its negative, without a bias: what is farthest is one of the ends.
    for function in FUNCTIONS:
        for radius in (0.01, 0.5, 2.0, 20.0):
            for W in (radius * ONE, radius * BOTH):
                lower, upper = bounds(W, function)
                found = exact(function, W)
                assert lower[0] <= found * (1 + 1e-9), function.name
                assert found <= upper[0] * (1 + 1e-9), function.name
                # A constant of one's own is half way.
                free, _ = bounds(W, function, free_bias=True)
                ends = function(W @ np.array([[-1.0, 1.0]]))
                halved = np.linalg.norm(ends[:, 0] - ends[:, 1]) / 2
                assert free[0] <= halved * (1 + 1e-9), function.name
                assert free[0] <= lower[0] * (1 + 1e-9), function.name


def test_bounds_that_are_attained() -> None:
    # Tanh of a row, from below and from above; and of SiLU's half with a bias of one's own.
    for radius in (0.1, 1.0, 10.0):
        lower, upper = bounds(radius * ONE, TANH)
        assert lower[0] == pytest.approx(math.tanh(radius), rel=1e-8)
        assert upper[0] == pytest.approx(math.tanh(radius), rel=1e-8)
        free, _ = bounds(radius * ONE, SILU, free_bias=True)
        assert free[0] == pytest.approx(radius / 2, rel=1e-8)
        # x times its gate, at the ball's end.
        assert bounds(radius * ONE, SILU)[1][0] == pytest.approx(
            exact(SILU, radius * ONE), rel=1e-8
        )
        # Elu of a row and its negative.
        below = math.hypot(radius, 1 - math.exp(-radius))
        assert bounds(radius * BOTH, ELU)[0][0] == pytest.approx(below, rel=1e-8)
    # Softplus, from zero, on a small ball.
    assert bounds(1e-3 * ONE, SOFTPLUS)[0][0] == pytest.approx(5e-4, rel=1e-3)


def test_far_out_the_gated_ones_are_a_relu() -> None:
    for function in FUNCTIONS:
        if function.gated:
            lower, _ = bounds(1e6 * BOTH, function)
            assert lower[0] == pytest.approx(1e6, rel=1e-5)
            negative = bounds(1e6 * BOTH, function, np.array([-1.0, -2.0]))[0]
            assert negative[0] == pytest.approx(1e6, rel=1e-5)


def test_nothing_is_claimed_from_below_for_nonnegative_inputs() -> None:
    W = np.random.default_rng(0).standard_normal((4, 3))
    for function in FUNCTIONS:
        lower, upper = bounds(W, function, nonnegative=True)
        assert not lower.any()
        assert np.array_equal(upper, bounds(W, function)[1])


def test_constants_that_are_slightly_wrong_are_caught() -> None:
    # 1.09 for SiLU's slope, where the slope is 1.0998; also where only the part on the ball is.
    near, turn = 1e-3 * ONE, np.array([SILU.turning[1]])
    assert exact(SILU, near, turn) <= bounds(near, SILU, turn)[1][0]
    assert exact(SILU, near, turn) > bounds(near, replace(SILU, lipschitz=1.09), turn)[1][0]
    # A slope that does not turn where it does: the ends of the ball alone would be looked at.
    straight = replace(SILU, turning=(), lipschitz=2.0)
    assert straight.steepest(turn - 4, turn + 4)[0] < 1.07 < SILU.steepest(turn - 4, turn + 4)[0]
    # 0.55 in place of a half.
    small, wide = 0.1 * ONE, 4 * ONE
    steep = replace(SILU, lower_factor=0.55)
    assert bounds(small, steep, free_bias=True)[0][0] > 0.05 * 1.05 > exact(SILU, small) * 0.99
    assert bounds(small, steep)[0][0] > exact(SILU, small)
    # A factor for Tanh, which on a small ball would hold.
    half = replace(TANH, lower_factor=0.5)
    assert bounds(small, half)[0][0] <= exact(TANH, small)
    assert bounds(wide, half)[0][0] > exact(TANH, wide)
    # A dip that is forgotten; with it the bound is near.
    found, flat = exact(SILU, BOTH), replace(SILU, off_relu=0.0)
    assert 0.98 * found < bounds(BOTH, SILU)[0][0] <= found < bounds(BOTH, flat)[0][0]
    # A claim that Tanh halves: what a bias takes away would be too little.
    b = np.array([3.0])
    assert bounds(ONE, TANH, b)[0][0] <= exact(TANH, ONE, b)
    assert bounds(ONE, replace(half, halves=True), b)[0][0] > exact(TANH, ONE, b)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)
def test_singular_values_with_estimates(function: ActivationFunction) -> None:
    W = np.random.default_rng(3).standard_normal((6, 5))
    b = 0.3 * np.random.default_rng(4).standard_normal(6)
    for bias in (None, b):
        found = relu_singular_values(
            W, bias, activation=function, radius=2.0, iterations=30, starts=4, provider="cpu"
        )
        assert np.all(found.lower <= found.estimate)
        assert np.all(found.estimate <= found.upper)
        # What the ascent reached at L = 0 is a bound; of saturated rows it finds one corner.
        met = gaps(W, 0 * W, 2 * directions(5, 2000, 0), function, bias).max()
        assert found.lower[0] >= met * (0.97 if function.lower_factor else 0.85)
    again = relu_singular_values(
        2 * W, b, activation=function, iterations=30, starts=4, provider="cpu"
    )
    assert np.array_equal(again.estimate, found.estimate)


def test_radius_matters_where_nothing_is_homogeneous() -> None:
    W = np.random.default_rng(5).standard_normal((5, 4))
    options = {"iterations": 10, "starts": 2, "provider": "cpu"}
    for name in ("relu", "silu"):
        near, far = (
            relu_singular_values(W, activation=name, radius=radius, **options)  # type: ignore[arg-type]
            for radius in (0.1, 10.0)
        )
        alike = np.allclose(100 * near.upper, far.upper, rtol=1e-6)
        assert alike == (name == "relu")


def test_small_answers_beside_a_large_one_at_zero_keep_their_digits() -> None:
    # Sigmoid's answers are 1/2, but for 1e-6, of which float32 has no digit.
    W = 1e-6 * np.random.default_rng(6).standard_normal((5, 4))
    found = relu_singular_values(W, activation="sigmoid", starts=4, provider="cpu")
    assert found.estimate == pytest.approx(found.sigma / 4, rel=1e-4)


def test_a_better_map_than_the_truncated_one() -> None:
    # The averaging map does better there, far out as for a ReLU.
    W = 30 * np.diag([1.1, 1.0])
    found = best_approximation(W, 1, activation="gelu", steps=20, iterations=20, provider="cpu")
    assert 0 < found.value < found.truncated
    L = found.left @ found.right
    assert gaps(W, L, directions(2, 500, 0), FUNCTIONS[2]).max() <= found.value * (1 + 1e-6)


def test_a_mean_width_in_closed_form() -> None:
    # Of an interval of answers: its length over the root of 2 pi.
    for radius in (0.5, 3.0):
        x = np.linspace(-radius, radius, 20_001)
        for function in FUNCTIONS:
            width = np.ptp(function(x)) / math.sqrt(2 * math.pi)
            found = relu_mean_width(
                ONE, activation=function, radius=radius, draws=400, provider="cpu"
            )
            assert found.lower <= width * (1 + 1e-7), function.name
            assert width <= found.upper * (1 + 1e-7), function.name
            assert abs(found.value - width) <= 4 * found.standard_error + 0.01 * width
            assert 0 < found.standard_error < 0.1 * width, function.name
            # Twice the width, as of a set with its mirror image, would be seen.
            assert abs(found.value - 2 * width) > 4 * found.standard_error


@given(integer_weights, functions, radii, biases, st.integers(0, 10**6))
def test_mean_widths_lie_between_their_bounds(
    W: Floats, function: ActivationFunction, radius: float, kind: str, seed: int
) -> None:
    b = bias_of(kind, len(W), seed)
    found = relu_mean_width(
        W, b, activation=function, radius=radius, draws=60, iterations=20, provider="cpu"
    )
    slack = 5 * found.standard_error + 1e-9
    assert found.lower <= found.upper * (1 + 1e-9)
    # Approached from below; five standard errors of 60 draws.
    assert found.lower <= 1.02 * found.value + slack
    assert found.value <= found.upper + slack


def test_a_width_that_is_too_large_from_below_is_caught() -> None:
    # 0.55 w in place of w / 2, which a row of SiLU on a small ball attains nearly.
    found = relu_mean_width(ONE, activation=SILU, radius=0.01, draws=2000, provider="cpu")
    linear = 0.01 * math.sqrt(2 / math.pi)
    assert found.lower == pytest.approx(linear / 2, rel=1e-5)
    assert found.value + 4 * found.standard_error < 0.55 * linear


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)
def test_single_inputs_have_the_operator_of_their_derivative(function: ActivationFunction) -> None:
    rng = np.random.default_rng(8)
    W, b, x = 3 * rng.standard_normal((6, 4)), rng.standard_normal(6), rng.standard_normal((9, 4))
    y = x @ W.T + b
    sigma = np.linalg.svd(function.derivative(y)[:, :, None] * W, compute_uv=False)
    widths = [width_of(one) for one in sigma]
    found = activated_mean_width(W, b, x, activation=function, exact=True, provider="cpu")
    # The derivative is rounded to float32.
    assert np.allclose(found.value, widths, rtol=1e-6)
    assert np.all(found.lower <= widths)
    assert np.all(widths <= found.upper)
    assert np.allclose(found.upper, np.linalg.norm(sigma, axis=1), rtol=1e-5)
    assert np.all(found.largest <= sigma[:, 0] * (1 + 1e-6))
    # A move of less than the margin meets no kink.
    margin = np.full(9, np.inf)
    for kink in function.kinks:
        margin = np.minimum(margin, (np.abs(y - kink) / np.linalg.norm(W, axis=1)).min(axis=1))
    assert np.allclose(found.margin, margin)
    # The mask of a Relu would be another operator.
    masked = activated_mean_width(W, b, x, exact=True, provider="cpu")
    assert not np.allclose(found.value, masked.value, rtol=1e-3)
