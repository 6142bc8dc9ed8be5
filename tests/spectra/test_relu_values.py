"""ReLU singular values of plain arrays: exact answers, what is always so, and what repeats."""

import math
from itertools import pairwise

import numpy as np
import pytest
from examples import LINEAR, RELU, clip, prelu
from hypothesis import given, settings
from hypothesis import strategies as st
from relu_maps import any_of_rank, circle, exact_s0, gaps, integer_weights

from onnx_relusv.core.blocks import Activation, Floats
from onnx_relusv.core.measures import ReluSingularValues
from onnx_relusv.runtime.session import CPU
from onnx_relusv.spectra.bounds import bracket, exact_largest
from onnx_relusv.spectra.relu_values import rank_ladder, relu_singular_values


def measured(weight: Floats, bias: Floats | None = None, **changes: object) -> ReluSingularValues:
    return relu_singular_values(weight, bias, **{"provider": "cpu"} | changes)  # type: ignore[arg-type]


def gaussian(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape)


def test_s0_of_small_matrices_is_found_exactly() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        W = rng.standard_normal(rng.integers(1, 13, 2))
        found = measured(W, ranks=[0], certificate_steps=0)
        assert found.estimate[0] == pytest.approx(exact_largest(W), rel=1e-6)
        assert found.converged.all()


def test_s0_of_other_activations() -> None:
    for slopes in ((0.1,), (0.9,), (-0.5,), (3.0,), None):
        rng = np.random.default_rng(2)
        for _ in range(6):
            W = rng.standard_normal((5, rng.integers(2, 8)))
            own = tuple(rng.uniform(-1.5, 1.5, 5)) if slopes is None else slopes
            found = measured(W, activation=prelu(*own), ranks=[0])
            # The parts of phi below zero enter with their squares: only |a| matters for k = 0.
            assert found.estimate[0] == pytest.approx(exact_s0(W, np.abs(own)), rel=1e-6)


activations = st.sampled_from(
    [RELU, LINEAR, prelu(0.25), prelu(-1.5), prelu(3.0), clip(0.5), clip(4.0)]
)


@settings(max_examples=80)
@given(
    integer_weights,
    activations,
    st.sampled_from([None, 0, 1]),
    st.booleans(),
    st.booleans(),
    st.integers(0, 10**6),
)
def test_the_estimate_lies_in_the_bracket(
    W: Floats,
    activation: Activation,
    bias_seed: int | None,
    free_bias: bool,
    nonnegative: bool,
    seed: int,
) -> None:
    bias = None if bias_seed is None else gaussian(bias_seed, len(W))
    r = min(W.shape)
    ranks = [r - 1, 0][: 1 + (r > 1)]
    found = measured(
        W,
        bias,
        activation=activation,
        domain="nonnegative" if nonnegative else "ball",
        free_bias=free_bias,
        ranks=ranks,
        iterations=5,
        starts=3,
        certificate_steps=3,
        seed=seed,
    )
    assert found.ranks == tuple(ranks)
    assert (found.lower >= 0).all()
    # Singular values that are 0 are so but for rounding.
    assert (found.lower <= found.upper + 1e-12 * found.sigma[0]).all()
    assert (np.diff(found.lower) <= 0).all()
    assert (np.diff(found.upper) <= 1e-12 * found.sigma[0]).all()
    chosen = found.estimate[ranks]
    assert (chosen >= found.lower[ranks] - 1e-12 * found.sigma[0]).all()
    assert (chosen <= found.upper[ranks]).all()
    assert np.isnan(np.delete(found.estimate, ranks)).all()
    # Never worse than the bracket that comes without any work.
    lower, upper = bracket(
        found.sigma, activation, bias=bias, free_bias=free_bias, nonnegative=nonnegative
    )
    assert (found.lower >= lower).all()
    assert (found.upper <= upper).all()


@given(integer_weights, st.sampled_from([RELU, prelu(0.25), prelu(-1.5)]))
def test_s0_lies_in_the_bracket(W: Floats, activation: Activation) -> None:
    found = measured(W, activation=activation, ranks=[0], iterations=5, starts=2)
    s0 = exact_s0(W, np.abs(activation.slopes))
    assert found.lower[0] <= s0 * (1 + 1e-9) + 1e-12
    assert s0 <= found.upper[0] * (1 + 1e-9) + 1e-12


def test_no_map_of_rank_1_gets_below_the_lower_bound() -> None:
    for seed in range(5):
        W = gaussian(seed, 6, 2)
        found = measured(W)
        # Better than the plain bracket at both k, by what proves it.
        assert (found.lower > 1.01 * math.sqrt(0.5) * found.sigma).all()
        for nearby in (False, True):
            for other in range(10):
                L = any_of_rank(W, 1, other, nearby=nearby)
                assert gaps(W, L, circle(2001)).max() >= found.lower[1] * (1 - 1e-9)


def test_every_bound_is_better_where_more_is_done() -> None:
    W = gaussian(0, 12, 12)
    cheap, dear = (measured(W, certificate_steps=steps) for steps in (0, 20))
    assert np.array_equal(cheap.upper, np.minimum(cheap.sigma, cheap.upper[0]))
    assert dear.upper[0] < 0.97 * cheap.upper[0]
    assert (dear.upper[1:4] < cheap.upper[1:4]).all()
    assert np.array_equal(measured(W).upper, dear.upper)
    # Eigendecompositions of more rows are dear, so they have to be asked for.
    tall = gaussian(0, 513, 2)
    assert np.array_equal(measured(tall).upper, measured(tall).sigma)
    assert measured(tall, certificate_steps=2).upper[0] <= measured(tall).sigma[0]


def test_steps_over_l_lower_the_estimate() -> None:
    W = np.diag([1.05, 1.0])
    plain, better = (measured(W, approximation_steps=steps, seed=2) for steps in (0, 20))
    assert plain.estimate[1] == pytest.approx(1, rel=1e-3)
    assert better.estimate[1] < 0.9
    assert better.lower[1] <= better.estimate[1] <= better.upper[1]
    assert better.estimate[0] == plain.estimate[0]


def test_a_seed_repeats_every_number() -> None:
    W = gaussian(6, 20, 15)
    first, again, other = (measured(W, iterations=10, starts=8, seed=seed) for seed in (0, 0, 1))
    for name in ("sigma", "lower", "estimate", "upper", "converged"):
        assert np.array_equal(getattr(first, name), getattr(again, name), equal_nan=True)
    assert not np.array_equal(first.estimate, other.estimate, equal_nan=True)


def test_a_weak_setting_says_that_it_has_not_converged() -> None:
    W = gaussian(0, 20, 15)
    weak = measured(W, iterations=1, starts=1)
    assert not weak.converged.any()
    strong = measured(W, ranks=[0])
    assert strong.converged.all()
    assert weak.estimate[0] <= strong.estimate[0]
    # What was met is the proof, less a float64 sum's rounding.
    assert strong.lower[0] == pytest.approx(strong.estimate[0], rel=2e-12)


def test_the_record() -> None:
    found = measured(gaussian(0, 20, 15), iterations=7, starts=2, seed=3)
    assert (found.iterations, found.starts, found.seed, found.provider) == (7, 2, 3, CPU)
    assert found.ranks == tuple(rank_ladder(15))
    assert found.sigma == pytest.approx(
        np.linalg.svd(gaussian(0, 20, 15), compute_uv=False), rel=1e-9
    )
    assert found.converged.shape == (len(found.ranks),)
    for name in ("sigma", "lower", "estimate", "upper"):
        assert getattr(found, name).shape == (15,)
        assert not getattr(found, name).flags.writeable


def test_a_layer_of_zeros() -> None:
    found = measured(np.zeros((3, 2)), np.ones(3))
    for name in ("sigma", "lower", "estimate", "upper"):
        assert getattr(found, name).tolist() == [0, 0]


def test_all_numbers_scale_with_the_weight() -> None:
    for activation in (RELU, prelu(0.3)):
        for scale in (1e-90, 1e-30, 1e-3, 1e3, 1e30, 1e90):
            W = gaussian(0, 6, 5)
            once, scaled = (
                measured(factor * W, activation=activation, iterations=5, starts=4)
                for factor in (1, scale)
            )
            for name in ("sigma", "lower", "upper"):
                # The lower bound of s_0 is met by an ascent in float32.
                assert getattr(scaled, name) == pytest.approx(scale * getattr(once, name), rel=1e-6)
            # The scaled weights round differently to float32, and five steps amplify that.
            assert scaled.estimate == pytest.approx(scale * once.estimate, rel=1e-4)


def test_the_ladder_of_ranks() -> None:
    for count in (1, 2, 11, 12, 13, 20, 64, 1000, 4096):
        ladder = rank_ladder(count)
        assert ladder[0] == 0
        assert ladder[-1] == count - 1
        assert len(ladder) <= 12
        assert all(before < after for before, after in pairwise(ladder))
        if count <= 12:
            assert ladder == list(range(count))
