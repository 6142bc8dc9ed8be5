"""Brackets and estimates of ReLU singular values against enumeration."""

import math
from itertools import pairwise

import numpy as np
import pytest
from enumeration import exact_s0, phi
from examples import LINEAR, RELU, clip, prelu
from hypothesis import given
from hypothesis import strategies as st

from onnx_relusv.records import Activation, Floats
from onnx_relusv.runtime.session import CPU
from onnx_relusv.spectra.relu_values import bracket, estimate
from onnx_relusv.spectra.singular import decompose

# Float32 sums of a dozen products, squared, added and rooted: a few units of 6e-8.
FLOAT32 = 1e-6


def estimated(
    W: Floats, activation: Activation, ranks: tuple[int, ...] = (0,), **changes: int
) -> Floats:
    settings = {"iterations": 30, "starts": 32, "seed": 0} | changes
    return estimate(decompose(W).reduced, activation, ranks, provider=CPU, **settings)


def matrices(count: int = 30, seed: int = 0) -> list[Floats]:
    rng = np.random.default_rng(seed)
    shapes = [(rng.integers(1, 11), rng.integers(1, 16)) for _ in range(count - 2)]
    return [rng.standard_normal(shape) for shape in [*shapes, (12, 5), (12, 12)]]


def test_the_ascent_finds_s0() -> None:
    for W in matrices():
        assert estimated(W, RELU)[0] == pytest.approx(exact_s0(W), rel=1e-4)


def test_the_ascent_is_never_above_s0() -> None:
    for W in matrices(seed=1):
        for iterations in (1, 5, 30):
            assert estimated(W, RELU, iterations=iterations)[0] <= exact_s0(W) * (1 + FLOAT32)


@pytest.mark.parametrize("slopes", [(0.1,), (0.9,), (-0.5,), (3.0,), "each its own"])
def test_the_ascent_finds_s0_of_other_activations(slopes: tuple[float, ...] | str) -> None:
    rng = np.random.default_rng(2)
    for _ in range(8):
        W = rng.standard_normal((5, rng.integers(2, 8)))
        own = tuple(rng.uniform(-1.5, 1.5, 5)) if isinstance(slopes, str) else slopes
        found = estimated(W, prelu(*own))[0]
        # The parts of phi below zero enter with their squares: only |a| matters for k = 0.
        assert found == pytest.approx(exact_s0(W, np.abs(own)), rel=1e-4)


def test_enumeration_without_the_condition_is_sigma_1_and_wrong() -> None:
    below = 0
    for W in matrices(seed=3):
        sigma = np.linalg.norm(W, 2)
        assert exact_s0(W, any_eigenvector=True) == pytest.approx(sigma, rel=1e-12)
        below += exact_s0(W) < 0.999 * sigma
    assert below > 20


def test_enumeration_by_hand() -> None:
    assert exact_s0(np.array([[1.0]])) == pytest.approx(1)
    assert exact_s0(np.array([[1.0], [-1.0]])) == pytest.approx(1)
    assert exact_s0(np.array([[1.0], [-2.0]])) == pytest.approx(2)
    assert exact_s0(np.eye(3)) == pytest.approx(1)
    assert exact_s0(np.ones((3, 1))) == pytest.approx(math.sqrt(3))
    assert exact_s0(np.array([[1.0], [-2.0]]), 0.5) == pytest.approx(math.sqrt(0.25 + 4))
    assert exact_s0(np.array([[1.0], [-2.0]]), 1.0) == pytest.approx(math.sqrt(5))


def test_both_ends_of_the_bracket_are_attained() -> None:
    one, two = np.array([[1.0]]), np.array([[1.0], [-1.0]])
    lower, upper = bracket(decompose(one).sigma, RELU)
    assert upper[0] == pytest.approx(exact_s0(one), rel=1e-14)
    assert lower[0] == pytest.approx(math.sqrt(0.5), rel=1e-14)
    lower, upper = bracket(decompose(two).sigma, RELU)
    assert lower[0] == pytest.approx(exact_s0(two), rel=1e-14)
    for slope in (0.1, 1.0, -0.4):
        lower, _ = bracket(decompose(two).sigma, prelu(slope))
        assert lower[0] == pytest.approx(exact_s0(two, abs(slope)), rel=1e-14)
    _, upper = bracket(decompose(one).sigma, prelu(3.0))
    assert upper[0] == pytest.approx(exact_s0(one, 3.0), rel=1e-14)


def test_without_an_activation_s_k_is_sigma() -> None:
    sigma = np.array([3.0, 2.0, 0.0])
    for end in bracket(sigma, LINEAR):
        assert np.array_equal(end, sigma)
    W = np.random.default_rng(0).standard_normal((6, 4))
    sigma = np.linalg.svd(W, compute_uv=False)
    found = estimated(W, prelu(1.0), (0, 1, 2, 3))
    assert np.allclose(found, sigma, rtol=1e-4)


def test_a_clip_s_bracket() -> None:
    sigma = np.array([3.0, 2.0, 0.5])
    lower, upper = bracket(sigma, clip(2.5))
    assert np.allclose(lower, np.array([2.5, 2.0, 0.5]) * math.sqrt(0.5), rtol=1e-14)
    assert np.array_equal(upper, sigma)


activations = st.one_of(
    st.just(RELU),
    st.just(LINEAR),
    st.floats(0.1, 4).map(clip),
    st.floats(-2, 2).map(prelu),
    st.lists(st.floats(-2, 2), min_size=4, max_size=4).map(lambda slopes: prelu(*slopes)),
)
# Small whole numbers give many ties, zeros and repeated rows, where bounds are tight.
weights = st.integers(1, 5).flatmap(
    lambda columns: st.lists(
        st.lists(st.integers(-3, 3), min_size=columns, max_size=columns), min_size=4, max_size=4
    ).map(lambda rows: np.array(rows, float))
)


@given(weights, activations)
def test_s0_lies_in_the_bracket(W: Floats, activation: Activation) -> None:
    sigma = decompose(W).sigma
    lower, upper = bracket(sigma, activation)
    # Relative rounding of a float64 singular value.
    slack = 1e-9 * (1 + upper[0])
    if activation.ceiling is None:
        s0 = exact_s0(W, np.abs(activation.slopes))
        assert lower[0] - slack <= s0 <= upper[0] + slack
    else:
        # No enumeration for a Clip: met values from below, its Relu's s_0 from above.
        v = np.linalg.svd(W)[2][0]
        met = max(np.linalg.norm(phi(W @ (sign * v), activation)) for sign in (1, -1))
        assert lower[0] - slack <= met
        s0 = min(exact_s0(W), activation.ceiling * 2)  # four rows
        assert met <= s0 + slack
        assert s0 <= upper[0] + slack


@given(weights, activations, st.integers(0, 3), st.integers(0, 10**6), st.booleans())
def test_no_map_of_rank_k_gets_below_the_lower_end(
    W: Floats, activation: Activation, k: int, seed: int, nearby: bool
) -> None:
    sigma = decompose(W).sigma
    k = min(k, len(sigma) - 1)
    rng = np.random.default_rng(seed)
    u, s, vt = np.linalg.svd(W, full_matrices=False)
    L = rng.standard_normal((4, k)) @ rng.standard_normal((k, W.shape[1]))
    if nearby:
        L = (u[:, :k] * s[:k] + 0.3 * rng.standard_normal((4, k))) @ vt[:k]
    x = rng.standard_normal((W.shape[1], 300))
    # A direction in the first k + 1 right singular vectors that L does not see.
    blind = np.linalg.svd(L @ vt[: k + 1].T)[2][-1] @ vt[: k + 1]
    x = np.concatenate([x, blind[:, None], -blind[:, None]], axis=1)
    x /= np.linalg.norm(x, axis=0)
    gaps = np.linalg.norm(phi(W @ x, activation) - phi(L @ x, activation), axis=0)
    lower, _ = bracket(sigma, activation)
    assert gaps.max() >= lower[k] - 1e-7 * (1 + sigma[0])


@given(weights, activations, st.integers(0, 3), st.integers(0, 10**6))
def test_the_truncated_svd_stays_below_the_upper_end(
    W: Floats, activation: Activation, k: int, seed: int
) -> None:
    sigma = decompose(W).sigma
    k = min(k, len(sigma) - 1)
    u, s, vt = np.linalg.svd(W, full_matrices=False)
    L = (u[:, :k] * s[:k]) @ vt[:k]
    x = np.random.default_rng(seed).standard_normal((W.shape[1], 300))
    x = np.concatenate([x, vt.T, -vt.T], axis=1)
    x /= np.linalg.norm(x, axis=0)
    gaps = np.linalg.norm(phi(W @ x, activation) - phi(L @ x, activation), axis=0)
    _, upper = bracket(sigma, activation)
    assert gaps.max() <= upper[k] + 1e-7 * (1 + sigma[0])


def test_a_bracket_that_is_too_narrow_is_caught() -> None:
    # Shows that the tests above can fail: Relu's lower end without its root of two.
    W = np.array([[1.0], [-1.0]])
    assert exact_s0(W) < decompose(W).sigma[0] - 0.1


@pytest.mark.parametrize("activation", [RELU, prelu(0.2), prelu(0.5, 0.1, 0.0, 0.9, 0.3)])
def test_the_inner_maximum_for_k_above_0_on_a_circle(activation: Activation) -> None:
    angle = np.linspace(0, 2 * np.pi, 20_001)
    x = np.stack([np.cos(angle), np.sin(angle)])
    for seed in range(10):
        W = np.random.default_rng(seed).standard_normal((5, 2))
        reduced = decompose(W).reduced
        L = reduced * np.array([1, 0])
        gaps = np.linalg.norm(phi(reduced @ x, activation) - phi(L @ x, activation), axis=0)
        found = estimated(W, activation, (0, 1))[1]
        # Between two of 20 000 directions the gap changes by less than 2e-4 of |W|.
        assert found <= gaps.max() + 2e-4 * np.linalg.norm(W)
        # Not convex for k = 1, so that the long steps may jump over the largest maximum.
        assert found >= 0.9 * gaps.max()


def test_estimates_for_several_k() -> None:
    W = np.random.default_rng(5).standard_normal((20, 12))
    sigma = decompose(W).sigma
    ranks = (0, 1, 4, 11)
    found = estimated(W, RELU, ranks)
    assert found.shape == (4,)
    u, s, vt = np.linalg.svd(W, full_matrices=False)
    for value, k in zip(found, ranks, strict=True):
        assert value <= sigma[k] * (1 + FLOAT32)
        # One of the starts is the direction that is cut first.
        L = (u[:, :k] * s[:k]) @ vt[:k]
        at_start = min(
            np.linalg.norm(np.maximum(W @ x, 0) - np.maximum(L @ x, 0)) for x in (vt[k], -vt[k])
        )
        assert value >= at_start * (1 - FLOAT32)
    assert np.allclose(estimated(W, RELU, (0,)), found[0], rtol=1e-3)


def test_a_seed_repeats_the_estimate_and_more_steps_never_lower_it() -> None:
    W = np.random.default_rng(6).standard_normal((30, 20))
    steps = [estimated(W, RELU, (0, 3), iterations=count, starts=4) for count in (1, 5, 30)]
    assert np.array_equal(steps[2], estimated(W, RELU, (0, 3), iterations=30, starts=4))
    for before, after in pairwise(steps):
        assert np.all(after >= before * (1 - FLOAT32))
    other = estimated(W, RELU, (0, 3), iterations=5, starts=4, seed=1)
    assert not np.array_equal(other, steps[1])


SCALES = [1e-30, 1e-15, 1e-3, 1e3, 1e15, 1e30]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("activation", [RELU, prelu(0.3)])
def test_estimates_scale_with_the_map(activation: Activation, scale: float) -> None:
    for seed in range(3):
        W = np.random.default_rng(seed).standard_normal((6, 5))
        once, scaled = (
            estimated(factor * W, activation, (0, 2), iterations=5, starts=4)
            for factor in (1, scale)
        )
        # The scaled weights round differently to float32, and five steps amplify that.
        assert np.allclose(scaled, scale * once, rtol=1e-4)


def test_the_zero_map() -> None:
    assert estimated(np.zeros((3, 2)), RELU)[0] == 0
