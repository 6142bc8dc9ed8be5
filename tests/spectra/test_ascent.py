"""What ascents find: values that are met at feasible inputs, and whether to believe them."""

from itertools import product

import numpy as np
import pytest
from examples import LINEAR, RELU, clip, prelu
from relu_maps import circle, exact_s0, gaps, layer, phi, truncated, unit_columns

from onnx_relusv.core.blocks import Activation, Floats
from onnx_relusv.runtime.session import CPU
from onnx_relusv.spectra.ascent import (
    climb,
    climb_gap,
    climb_largest,
    climb_truncations,
    climb_width,
    polished,
    starting_points,
)
from onnx_relusv.spectra.layers import Effort, Layer

# Float32 sums of a dozen products, squared, added and rooted: a few units of 6e-8.
FLOAT32 = 1e-6

ACTIVATIONS = [RELU, prelu(0.2), prelu(0.5, 0.1, 0.0, -0.9, 1.3), clip(0.7)]


def effort(iterations: int = 50, starts: int = 16, seed: int = 0) -> Effort:
    return Effort(iterations=iterations, starts=starts, seed=seed, provider=CPU)


def gaussian(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape)


def test_the_largest_gap_of_rank_0_is_s0() -> None:
    for slopes in ((0.0,), (0.1,), (0.9,), (-0.5,), (3.0,), None):
        rng = np.random.default_rng(2)
        for _ in range(8):
            W = rng.standard_normal((5, rng.integers(2, 8)))
            own = tuple(rng.uniform(-1.5, 1.5, 5)) if slopes is None else slopes
            found, converged = climb_largest(layer(W, prelu(*own)), effort())
            # The parts of phi below zero enter with their squares: only |a| matters for k = 0.
            assert found == pytest.approx(exact_s0(W, np.abs(own)), rel=1e-9)
            assert converged


def test_a_weak_ascent_stays_below_s0() -> None:
    for seed in range(20):
        W = gaussian(seed, 9, 12)
        for iterations in (1, 5, 30):
            found, _ = climb_largest(layer(W), effort(iterations, 1))
            # Computed in float64 at a point that is feasible but for float64's rounding.
            assert found <= exact_s0(W) * (1 + 1e-12)


def test_one_step_from_one_start_is_not_believed() -> None:
    item = layer(gaussian(0, 20, 15))
    weak = climb(item, [0, 1, 5], effort(1, 1))
    assert not weak.converged.any()
    assert not climb_largest(item, effort(1, 1))[1]
    assert climb_largest(item, effort())[1]
    # A single start may settle, but no second one agrees with it.
    single = climb_truncations(item, [1, 5], effort(200, 1))
    assert single.settled.all()
    assert not single.converged.any()


def every_gap(W: Floats, k: int, activation: Activation, bias: Floats | None, x: Floats) -> Floats:
    return gaps(W, truncated(W, k), x, activation, bias)


RADII = np.linspace(0, 1, 101)


def ball(*, nonnegative: bool) -> Floats:
    """A fine circle, and coarser ones inside of it."""
    grid = np.hstack([circle(), *(radius * circle(1001) for radius in RADII)])
    return grid[:, (grid >= 0).all(axis=0)] if nonnegative else grid


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_inner_maximum_of_rank_1_on_a_circle(activation: Activation) -> None:
    for nonnegative, with_bias in product((False, True), (False, True)):
        grid = ball(nonnegative=nonnegative)
        # A ceiling leaves plateaus on which nothing climbs: it takes more, and finds less.
        clipped = activation.ceiling is not None
        trying, share = (effort(200, 64), 0.95) if clipped else (effort(), 0.99)
        for seed in range(5):
            W = gaussian(seed, 5, 2)
            bias = gaussian(seed + 100, 5) if with_bias else None
            largest = every_gap(W, 1, activation, bias, grid).max()
            item = layer(W, activation, bias, nonnegative=nonnegative)
            found = climb_truncations(item, [1], trying)
            # The grid's directions are 2e-4 apart on the sphere, and a hundredth inside.
            assert found.best[0] <= largest + 3e-3 * np.linalg.norm(W)
            assert found.best[0] >= share * largest


def test_a_clip_and_a_bias_of_rank_0_inside_of_the_ball() -> None:
    for seed in range(6):
        W, b = gaussian(seed, 5, 2), gaussian(seed + 100, 5)
        for activation in (RELU, prelu(-0.4), clip(0.5)):
            largest = gaps(W, 0 * W, ball(nonnegative=False), activation, b).max()
            found, _ = climb_largest(layer(W, activation, b), effort())
            assert 0.995 * largest <= found <= largest + 3e-3 * np.linalg.norm(W)


def test_several_ranks_are_no_worse_than_their_starts() -> None:
    W, ranks = gaussian(5, 20, 12), [0, 1, 4, 11]
    sigma = np.linalg.svd(W, compute_uv=False)
    right = np.linalg.svd(W)[2]
    found = climb(layer(W), ranks, effort())
    for value, k in zip(found.best, ranks, strict=True):
        assert value <= sigma[k] * (1 + FLOAT32)
        x = np.stack([right[k], -right[k]], axis=1)
        assert value >= every_gap(W, k, RELU, None, x).max() * (1 - FLOAT32)


def test_without_an_activation_nothing_is_climbed() -> None:
    W = gaussian(0, 6, 4)
    found = climb(layer(W, LINEAR), [0, 3], effort(1, 1))
    assert found.best == pytest.approx(np.linalg.svd(W, compute_uv=False)[[0, 3]], rel=1e-12)
    assert found.converged.all()
    assert climb(layer(0 * W), [0, 1], effort()).best.tolist() == [0, 0]


@pytest.mark.parametrize("nonnegative", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_the_gap_to_a_map_is_met_at_the_points_given(nonnegative: bool, bias: bool) -> None:
    W, L = gaussian(0, 6, 4), truncated(gaussian(1, 6, 4), 2)
    b = gaussian(2, 6) if bias else None
    item = layer(W, RELU, b, nonnegative=nonnegative)
    # Columns of `turn` are the ascent's coordinates in those of the inputs.
    turn = np.linalg.lstsq(item.reduced, W, rcond=None)[0].T
    right = turn if item.rotation is None else np.eye(4)
    x = starting_points(item, [2], effort())
    found, values, points = climb_gap(item, L @ turn, x, effort())
    assert np.linalg.norm(points, axis=0).max() <= 1 + 1e-12
    if nonnegative:
        assert points.min() >= 0
    assert values == pytest.approx(gaps(W, L, right @ points, RELU, b), rel=1e-9)
    assert found.best[0] == pytest.approx(values.max(), rel=1e-5)
    assert (values >= gaps(W, L, right @ x, RELU, b) * (1 - 1e-5)).all()


def test_each_supremum_of_the_width_is_met_from_below() -> None:
    for bias in (False, True):
        W, g = gaussian(0, 6, 2), gaussian(3, 6, 50)
        b = gaussian(4, 6) if bias else np.zeros(6)
        item = layer(W, RELU, b)
        images = phi(item.reduced @ ball(nonnegative=False) + b[:, None], RELU)
        suprema = (g.T @ images).max(axis=1)
        found = climb_width(item, g, effort(starts=4))
        tolerance = 3e-3 * np.linalg.norm(W) * np.linalg.norm(g, axis=0)
        assert (found.best <= suprema + tolerance).all()
        assert found.best.mean() >= 0.98 * suprema.mean()
        assert found.settled.mean() > 0.9
        assert not climb_width(item, g, effort(1, 2)).settled.any()


def test_polishing_gains_the_last_digits_and_never_loses() -> None:
    for columns in (5, 80):
        item: Layer = layer(gaussian(columns, 12, columns))
        s0 = exact_s0(item.reduced)
        x = starting_points(item, [0], effort(starts=16))
        rough = np.linalg.norm(item.answers(x), axis=0)
        zeros = np.zeros(12)
        fine = [polished(item.reduced, zeros, x[:, i], rough[i]) for i in range(16)]
        assert (np.array(fine) >= rough).all()
        assert max(fine) == pytest.approx(s0, rel=1e-12)
        # What is known to be met elsewhere is not given up.
        assert polished(item.reduced, zeros, x[:, 0], 2 * s0) == 2 * s0


def test_starting_points_are_feasible_and_repeat() -> None:
    for nonnegative in (False, True):
        item = layer(gaussian(0, 9, 7), nonnegative=nonnegative)
        x = starting_points(item, [0, 3], effort(starts=5))
        assert x.shape == (7, 10)
        assert x == pytest.approx(unit_columns(x), abs=1e-12)
        assert not nonnegative or x.min() >= 0
        assert np.array_equal(x, starting_points(item, [0, 3], effort(starts=5)))
        assert not np.array_equal(x, starting_points(item, [0, 3], effort(starts=5, seed=1)))
