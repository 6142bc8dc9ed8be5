"""The bracket of all s_k: its table, its sharp ends, and attempts to break it."""

import math

import numpy as np
import pytest
from examples import LINEAR, RELU, clip, prelu
from hypothesis import given
from hypothesis import strategies as st
from relu_maps import (
    any_of_rank,
    blind,
    circle,
    directions,
    exact_s0,
    gaps,
    integer_weights,
    met_from_below,
    phi,
    slack,
    truncated,
)

from onnx_relusv.core.blocks import Activation, Floats
from onnx_relusv.spectra.bounds import bracket

ROOT = math.sqrt(0.5)
SIGMA = np.array([3.0, 2.0, 0.5])
# Below zero by 1 in length; outside of [0, 1] by (0.3, 0.4), 0.5 in length.
BELOW, OUTSIDE = np.array([-0.6, 5, -0.8]), np.array([-0.3, 0.5, 1.4])

# Activation, bias, whether L's is free, lower ends; docs/theory.md, (3).
TABLE = {
    "none": (LINEAR, None, False, [3, 2, 0.5]),
    "none, bias": (LINEAR, BELOW, False, [3, 2, 0.5]),
    "none, free": (LINEAR, BELOW, True, [3, 2, 0.5]),
    "relu": (RELU, None, False, [3 * ROOT, 2 * ROOT, 0.5 * ROOT]),
    "leaky": (prelu(0.5), None, False, SIGMA * math.sqrt(0.625)),
    "leaky down": (prelu(-0.5), None, False, SIGMA * math.sqrt(0.625)),
    "steep": (prelu(3.0), None, False, SIGMA * math.sqrt(5)),
    "prelu": (prelu(0.5, -0.2, 3), None, False, SIGMA * math.sqrt(0.52)),
    "clip": (clip(1.0), None, False, [ROOT, ROOT, 0.5 * ROOT]),
    "relu, bias": (RELU, BELOW, False, [2 * ROOT, ROOT, 0]),
    "relu, positive bias": (RELU, -BELOW.clip(max=0), False, SIGMA * ROOT),
    "relu, free": (RELU, BELOW, True, [1, 0.5, 0]),
    "relu, free, no bias": (RELU, None, True, SIGMA / 2),
    "leaky, bias": (prelu(0.5), BELOW, False, [2 * math.sqrt(0.625), 1, 0.25]),
    "leaky, free": (prelu(0.5), BELOW, True, [1.5, 1, 0.25]),
    "steep, bias": (prelu(2.0), BELOW, False, SIGMA),
    "steep, free": (prelu(2.0), BELOW, True, SIGMA),
    "leaky down, bias": (prelu(-0.5), BELOW, False, [0, 0, 0]),
    "leaky down, free": (prelu(0.5, -0.5, 1), None, True, [0, 0, 0]),
    "clip, bias": (clip(1.0), OUTSIDE, False, [0.5 * ROOT, 0.5 * ROOT, 0]),
    "high clip, bias": (clip(9.0), BELOW, False, [2 * ROOT, ROOT, 0]),
    "clip, free": (clip(1.0), OUTSIDE, True, [0.5, 0.5, 0]),
    "clip, free, no bias": (clip(1.0), None, True, [0.5, 0.5, 0.25]),
}


def test_the_table() -> None:
    for name, (activation, bias, free, expected) in TABLE.items():
        lower, upper = bracket(SIGMA, activation, bias=bias, free_bias=free)
        assert lower == pytest.approx(np.array(expected), rel=1e-14, abs=1e-15), name
        assert upper == pytest.approx(SIGMA * max(1, np.abs(activation.slopes).max()), rel=1e-14), (
            name
        )


def test_nothing_is_claimed_from_below_for_nonnegative_inputs() -> None:
    for activation in (LINEAR, RELU, prelu(-2.0), clip(1.0)):
        lower, upper = bracket(SIGMA, activation, nonnegative=True)
        assert not lower.any()
        assert np.array_equal(upper, SIGMA * max(1, np.abs(activation.slopes).max()))


def both_ends(W: Floats, activation: Activation = RELU, **changes: object) -> tuple[float, float]:
    """The bracket of the last s_k."""
    sigma = np.linalg.svd(W, compute_uv=False)
    lower, upper = bracket(sigma, activation, **changes)  # type: ignore[arg-type]
    return float(lower[-1]), float(upper[-1])


def test_the_lower_end_is_attained() -> None:
    # Every row of the identity, and its negative: s_0, hence s_k, is no more than the lower end.
    for slope in (0.0, 0.1, -0.4, 1.0):
        for k in (0, 1, 2):
            W = np.vstack([np.eye(k + 1), -np.eye(k + 1)])
            assert both_ends(W, prelu(slope))[0] == pytest.approx(
                exact_s0(W, abs(slope)), rel=1e-14
            )


def test_the_upper_end_is_attained() -> None:
    one = np.ones((1, 1))
    assert both_ends(one)[1] == exact_s0(one) == 1
    assert both_ends(one, prelu(-3.0))[1] == pytest.approx(exact_s0(one, 3.0), rel=1e-14)


@given(st.floats(1, 30), st.integers(0, 10**6), st.booleans())
def test_the_upper_end_s_constant_is_sharp_for_k_1(M: float, seed: int, nearby: bool) -> None:
    W = np.diag([M, 1.0])
    L = any_of_rank(W, 1, seed, nearby=nearby)
    assert gaps(W, L, blind(W, L, 1)).max() >= M / math.sqrt(1 + M**2) - 1e-12
    assert both_ends(W)[1] == pytest.approx(1, rel=1e-14)


def test_a_negative_bias_can_silence_a_layer() -> None:
    W, b = np.ones((1, 1)), -np.ones(1)
    x = np.linspace(-1, 1, 101)[None]
    assert gaps(W, 0 * W, x, bias=b).max() == 0
    assert both_ends(W, bias=b)[0] == 0
    # The bracket without a bias would be wrong.
    assert both_ends(W)[0] == pytest.approx(ROOT)


def test_a_free_bias_halves_what_one_row_needs() -> None:
    W, x = np.ones((1, 1)), np.linspace(-1, 1, 101)[None]
    best = min(gaps(W, 0 * W, x, other_bias=np.array([c])).max() for c in np.linspace(-1, 1, 201))
    assert best == pytest.approx(0.5, abs=1e-12)
    assert both_ends(W, free_bias=True)[0] == best
    assert both_ends(W, bias=np.zeros(1))[0] > best + 0.2


def test_a_clip_is_never_farther_than_half_its_range_from_its_middle() -> None:
    for M in (1.0, 10.0, 1000.0):
        W, b, c = np.array([[M]]), np.array([0.5]), 1.0
        met = gaps(W, 0 * W, np.linspace(-1, 1, 101)[None], clip(c), b).max()
        assert met == pytest.approx(c / 2)
        lower, _ = both_ends(W, clip(c), bias=b)
        # c in place of c / 2, as without a bias, would be wrong.
        assert lower <= met < both_ends(W, clip(c))[0]


def test_a_relu_may_silence_every_nonnegative_input() -> None:
    W = -np.eye(3)
    x = np.abs(directions(3, 300, 0))
    assert gaps(W, 0 * W, x).max() == 0
    assert both_ends(W, nonnegative=True)[0] == 0
    assert both_ends(W)[0] > 0.7


slopes = st.floats(-2, 2).map(lambda slope: round(slope, 2))
activations = st.one_of(
    st.just(RELU),
    st.just(LINEAR),
    st.floats(0.1, 4).map(clip),
    slopes.map(prelu),
)
positive_activations = st.one_of(
    st.just(RELU), st.floats(0.1, 4).map(clip), slopes.map(abs).map(prelu)
)


def own_slopes(activation: Activation, out: int, seed: int) -> Activation:
    """For every other seed a slope of its own for every row, no larger than the activation's."""
    if activation.kind != "leaky_relu" or seed % 2:
        return activation
    shares = np.random.default_rng(seed).uniform(0, 1, out)
    return Activation(kind="prelu", slopes=shares * activation.slopes)


def singular(W: Floats, k: int) -> tuple[Floats, int]:
    sigma = np.linalg.svd(W, compute_uv=False)
    return sigma, min(k, len(sigma) - 1)


@given(integer_weights, activations, st.integers(0, 4), st.integers(0, 10**6), st.booleans())
def test_no_map_of_rank_k_gets_below_the_lower_end(
    W: Floats, activation: Activation, k: int, seed: int, nearby: bool
) -> None:
    sigma, k = singular(W, k)
    activation = own_slopes(activation, len(W), seed)
    L = any_of_rank(W, k, seed, nearby=nearby)
    lower, _ = bracket(sigma, activation)
    assert met_from_below(W, L, k, activation) >= lower[k] - slack(sigma)


@given(integer_weights, activations, st.integers(0, 4), st.integers(0, 10**6), st.booleans())
def test_nor_with_a_bias_that_it_keeps(
    W: Floats, activation: Activation, k: int, seed: int, nearby: bool
) -> None:
    sigma, k = singular(W, k)
    activation = own_slopes(activation, len(W), seed)
    b = np.random.default_rng(seed).integers(-2, 4, len(W)).astype(float) / 2
    L = any_of_rank(W, k, seed, nearby=nearby)
    lower, _ = bracket(sigma, activation, bias=b)
    assert met_from_below(W, L, k, activation, b) >= lower[k] - slack(sigma)


def middle(W: Floats, L: Floats, k: int, activation: Activation, bias: Floats) -> Floats:
    """The b' whose answer lies half way between the layer's at the two inputs L does not see."""
    y = phi(W @ blind(W, L, k) + bias[:, None], activation).mean(axis=1)
    own = np.broadcast_to(activation.slopes, y.shape)
    return np.where(y > 0, y, y / np.where(own, own, 1))


@given(
    integer_weights, positive_activations, st.integers(0, 4), st.integers(0, 10**6), st.booleans()
)
def test_nor_with_a_bias_of_its_own(
    W: Floats, activation: Activation, k: int, seed: int, nearby: bool
) -> None:
    sigma, k = singular(W, k)
    activation = own_slopes(activation, len(W), seed)
    rng = np.random.default_rng(seed)
    b = rng.integers(-2, 4, len(W)).astype(float) / 2
    L = any_of_rank(W, k, seed, nearby=nearby)
    lower, _ = bracket(sigma, activation, bias=b, free_bias=True)
    for other in (b, middle(W, L, k, activation, b), b + rng.standard_normal(len(W))):
        assert met_from_below(W, L, k, activation, b, other) >= lower[k] - slack(sigma)


@given(integer_weights, activations, st.integers(0, 4), st.integers(0, 10**6), st.booleans())
def test_the_truncated_svd_stays_below_the_upper_end(
    W: Floats, activation: Activation, k: int, seed: int, with_bias: bool
) -> None:
    sigma, k = singular(W, k)
    activation = own_slopes(activation, len(W), seed)
    b = np.random.default_rng(seed).standard_normal(len(W)) if with_bias else None
    right = np.linalg.svd(W)[2].T
    x = np.hstack([right, -right, directions(W.shape[1], 200, seed)])
    met = gaps(W, truncated(W, k), x, activation, b).max()
    _, upper = bracket(sigma, activation, bias=b)
    assert met <= upper[k] + slack(sigma)


def test_lower_ends_that_are_too_high_are_caught() -> None:
    # No root of two; the bias forgotten; a kept bias' share for a free one; c for c / 2.
    two, high, zero = np.array([[1.0], [-1.0]]), np.array([[10.0]]), np.zeros((1, 1))
    assert met_from_below(two, 0 * two, 0, RELU) < math.sqrt(2) - 0.1
    assert met_from_below(high, zero, 0, RELU, np.array([-9.0])) < 10 * ROOT - 1
    half = middle(high, zero, 0, RELU, np.zeros(1))
    assert met_from_below(high, zero, 0, RELU, np.zeros(1), half) < 10 * ROOT - 1
    assert met_from_below(high, zero, 0, clip(1.0), np.array([0.5])) < ROOT - 0.1


def test_an_upper_end_that_is_too_low_is_caught() -> None:
    W = np.random.default_rng(0).standard_normal((6, 2))
    sigma, _ = singular(W, 0)
    assert gaps(W, truncated(W, 1), circle()).max() > 0.75 * sigma[1]
    assert gaps(W, 0 * W, circle(), prelu(2.0)).max() > 1.2 * sigma[0]
