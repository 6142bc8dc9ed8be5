"""Certified bounds better than the bracket's, against fine grids and enumeration."""

import math

import numpy as np
import pytest
from examples import RELU, clip, prelu
from hypothesis import given, settings
from hypothesis import strategies as st
from relu_maps import (
    any_of_rank,
    blind,
    circle,
    directions,
    exact_s0,
    gaps,
    integer_weights,
    phi,
    sphere,
    truncated,
)

from onnx_relusv.core.blocks import Activation, Floats
from onnx_relusv.spectra.bounds import (
    largest_upper_bound,
    least_on_subspace,
    truncation_upper_bound,
)

SLOPES = {
    "relu": np.zeros(1),
    "leaky": np.array([0.3]),
    "steep": np.array([-1.7]),
    "prelu": np.array([0.5, -0.2, 0.0, 2.0, 0.9, -1.0]),
}


def reduced(W: Floats) -> Floats:
    """U diag(sigma): W in the coordinates of its right singular vectors."""
    u, s, _ = np.linalg.svd(W, full_matrices=False)
    return np.asarray(u * s)


def larger_sides(A: Floats, x: Floats, slopes: Floats) -> Floats:
    """max(|phi(Ax)|, |phi(-Ax)|) for every column x."""
    activation = Activation(kind="prelu", slopes=slopes)
    one, other = (np.linalg.norm(phi(sign * A @ x, activation), axis=0) for sign in (1, -1))
    return np.asarray(np.maximum(one, other))


@pytest.mark.parametrize("name", SLOPES)
def test_the_least_value_on_a_circle_and_on_a_sphere(name: str) -> None:
    for k in (1, 2):
        slopes = SLOPES[name]
        grid = circle() if k == 1 else sphere()
        spacing = math.pi / 20_000 if k == 1 else 3 / math.sqrt(20_000)
        for seed in range(4):
            A = reduced(np.random.default_rng(seed).standard_normal((6, 7)))[:, : k + 1]
            sigma = np.linalg.norm(A, axis=0)
            least = larger_sides(A, grid, slopes).min()
            found = least_on_subspace(A, slopes)
            # It stops at a thousandth of sigma_(k+1), and the grid misses what lies between.
            missed = spacing * max(1, np.abs(slopes).max()) * sigma[0]
            assert least - missed - 1.01e-3 * sigma[-1] <= found <= least


def test_it_beats_the_bracket_on_most_matrices() -> None:
    shares = []
    for seed in range(10):
        A = reduced(np.random.default_rng(seed).standard_normal((12, 12)))[:, :2]
        shares.append(least_on_subspace(A, np.zeros(1)) / np.linalg.norm(A[:, 1]))
    assert min(shares) > math.sqrt(0.5)
    assert np.median(shares) > 1.03 * math.sqrt(0.5)


def test_it_meets_the_bracket_where_that_is_attained() -> None:
    for k, missing in ((1, 1.5e-3), (2, 1e-2)):
        A = np.vstack([np.eye(k + 1), -np.eye(k + 1)])
        # All values are 1: every cell is refined until a thousandth of sigma is left, or, on a
        # sphere, until there are too many.
        assert 1 - missing <= least_on_subspace(A, np.zeros(1)) <= 1


def test_the_least_of_a_layer_of_lower_rank_is_0() -> None:
    for k in (1, 2):
        A = reduced(np.ones((4, 3)))[:, : k + 1]
        assert least_on_subspace(A, np.zeros(1)) == 0


@settings(max_examples=30)
@given(
    integer_weights,
    st.sampled_from([RELU, prelu(0.3), prelu(-1.5)]),
    st.integers(1, 2),
    st.integers(0, 10**6),
    st.booleans(),
)
def test_no_map_of_rank_k_gets_below_the_least_value(
    W: Floats, activation: Activation, k: int, seed: int, nearby: bool
) -> None:
    k = min(k, min(W.shape) - 1)
    if k:
        L = any_of_rank(W, k, seed, nearby=nearby)
        met = gaps(W, L, blind(W, L, k), activation).max()
        least = least_on_subspace(reduced(W)[:, : k + 1], activation.slopes)
        assert met >= least - 1e-9 * (1 + np.abs(W).max())


def test_a_grid_in_place_of_cells_is_no_bound() -> None:
    # Shows that the comparison with a grid can fail: too few points miss the least value.
    A = reduced(np.random.default_rng(1).standard_normal((6, 7)))[:, :2]
    fine, coarse = (larger_sides(A, circle(n), np.zeros(1)).min() for n in (20_001, 11))
    assert coarse > fine + 0.1
    assert least_on_subspace(A, np.zeros(1)) <= fine < coarse


@given(integer_weights)
def test_duality_s_bound_lies_between_s0_and_sigma_1(W: Floats) -> None:
    bound = largest_upper_bound(W @ W.T, 20)
    sigma = np.linalg.norm(W, 2)
    assert exact_s0(W) <= bound * (1 + 1e-9)
    assert bound <= sigma * (1 + 2e-9) + 1e-12


def test_duality_s_bound_is_better_than_sigma_1() -> None:
    shares = []
    for seed in range(10):
        W = np.random.default_rng(seed).standard_normal((12, 12))
        bound, s0 = largest_upper_bound(W @ W.T, 20), exact_s0(W)
        assert s0 <= bound <= np.linalg.norm(W, 2)
        shares.append(bound / s0)
    # Most of them end within a few percent of s_0, while sigma_1 is 15 % above it.
    assert np.median(shares) < 1.05
    assert max(shares) < 1.12


def test_more_steps_of_duality_are_never_worse_and_none_gives_sigma_1() -> None:
    W = np.random.default_rng(3).standard_normal((9, 15))
    bounds = [largest_upper_bound(W @ W.T, steps) for steps in (0, 1, 2, 5, 20, 80)]
    assert bounds[0] == pytest.approx(np.linalg.norm(W, 2), rel=2e-9)
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[-1] < 0.95 * bounds[0]


def test_duality_without_anything_to_gain() -> None:
    assert largest_upper_bound(np.zeros((3, 3)), 5) == 0
    assert largest_upper_bound(np.ones((3, 3)), 5) == pytest.approx(math.sqrt(3), rel=2e-9)


def test_an_addition_with_negative_entries_is_caught() -> None:
    # G + N bounds nothing if N may be negative: shows that the tests above can fail.
    W = np.ones((3, 1))
    wrong = math.sqrt(np.linalg.eigvalsh(W @ W.T - 0.5)[-1])
    assert exact_s0(W) > wrong + 0.1


def truncation_bound(W: Floats, k: int, steps: int = 20) -> float:
    sigma = np.linalg.svd(W, compute_uv=False)
    D = W - truncated(W, k)
    S = largest_upper_bound(D @ D.T, steps)
    return truncation_upper_bound(float(sigma[k]), float(sigma[0]), S)


def test_the_gap_at_the_truncated_svd_stays_below_its_bound() -> None:
    for activation in (RELU, clip(0.8)):
        better = 0
        for seed in range(20):
            for size, k, grid in ((2, 1, circle()), (3, 1, sphere()), (3, 2, sphere())):
                W = np.random.default_rng(seed).standard_normal((5, size))
                bound = truncation_bound(W, k)
                assert gaps(W, truncated(W, k), grid, activation).max() <= bound
                sigma = np.linalg.svd(W, compute_uv=False)
                assert bound <= sigma[k]
                better += bound < 0.99 * sigma[k]
        assert better > 20


@given(integer_weights, st.integers(1, 4), st.integers(0, 10**6))
def test_and_in_more_dimensions(W: Floats, k: int, seed: int) -> None:
    k = min(k, min(W.shape) - 1)
    if k:
        L = truncated(W, k)
        right = np.linalg.svd(W)[2].T
        near = right[:, [k]] + 0.5 * directions(W.shape[1], 200, seed)
        x = np.hstack([right, -right, near / np.linalg.norm(near, axis=0)])
        x = np.hstack([x, directions(W.shape[1], 200, seed)])
        assert gaps(W, L, x).max() <= truncation_bound(W, k) + 1e-9 * (1 + np.abs(W).max())


def test_the_truncation_s_bound_by_hand() -> None:
    # s = 1 and S^2 = 1/2 beside sigma_1 = 1 and 2.
    assert truncation_upper_bound(1, 1, math.sqrt(0.5)) == pytest.approx(1 / math.sqrt(1.5))
    assert truncation_upper_bound(1, 2, math.sqrt(0.5)) == pytest.approx(1 / math.sqrt(1.125))


def test_where_the_truncation_s_bound_is_sigma() -> None:
    for sigma_next, sigma_1, S in ((1.0, 2.0, 1.0), (1.0, 2.0, 1.5), (0.0, 0.0, 0.0)):
        assert truncation_upper_bound(sigma_next, sigma_1, S) == sigma_next


def test_s0_of_what_is_cut_does_not_bound_the_gap() -> None:
    # The tempting shortcut: ReLU's gap is more than ReLU of the difference.
    W = np.random.default_rng(0).standard_normal((5, 2))
    L = truncated(W, 1)
    met = gaps(W, L, circle()).max()
    assert exact_s0(W - L) < 0.9 * met
    assert met <= truncation_bound(W, 1)
