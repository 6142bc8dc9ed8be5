"""The spectrum of a block: every measure against its own definition."""

import math
from itertools import product

import numpy as np
import pytest
from convolutions import largest_of_patches, padded_matrix
from examples import (
    LINEAR,
    RELU,
    block,
    clip,
    conv,
    gemm,
    linear_map,
    matmul,
    moments,
    prelu,
    spectrum_of,
)

from onnx_relusv.core.blocks import Activation, Geometry, LinearMap
from onnx_relusv.core.measures import Spectrum
from onnx_relusv.rewrites.low_rank.factors import decompose_block
from onnx_relusv.runtime.session import CPU
from onnx_relusv.spectra.bounds import bracket, exact_largest
from onnx_relusv.spectra.mean_widths import width_of
from onnx_relusv.spectra.measure import ITERATIONS, STARTS
from onnx_relusv.spectra.relu_values import rank_ladder

# What is promised of singular values, and so of all bounds.
PROMISE = 1e-6


def gemm_map(in_features: int = 12, out_features: int = 8, *, scale: float = 1.0) -> LinearMap:
    linear = linear_map(gemm(in_features, out_features), np.random.default_rng(0))
    return LinearMap(scale * linear.weight, linear.bias)


def gemm_spectrum(activation: Activation, *, scale: float = 1.0) -> Spectrum:
    return spectrum_of(block(gemm(12, 8), activation=activation), gemm_map(scale=scale))


SIGMA = np.linalg.svd(gemm_map().weight[0], compute_uv=False)
SLOPES = prelu(*np.linspace(0, 0.9, 8))
ACTIVATIONS = [RELU, prelu(0.2), SLOPES, prelu(-0.5), prelu(1.5), clip(1.0), clip(100.0), LINEAR]


def test_bounds_are_the_bracket_s_or_better() -> None:
    for activation in ACTIVATIONS:
        found = gemm_spectrum(activation)
        assert np.allclose(found.sigma, SIGMA, rtol=PROMISE)
        lower, upper = bracket(SIGMA, activation)
        assert np.all(found.lower >= lower * (1 - PROMISE))
        assert np.all(found.upper <= upper * (1 + PROMISE))
        assert np.all(found.lower <= found.upper * (1 + PROMISE))
        # No rank is cheaper than a smaller one.
        assert np.all(np.diff(found.lower) <= 0)
        assert np.all(np.diff(found.upper) <= 0)


def test_bounds_of_a_relu_are_better_where_that_is_cheap() -> None:
    found = gemm_spectrum(RELU)
    lower, upper = bracket(SIGMA, RELU)
    assert np.all(found.lower[:3] > 1.01 * lower[:3])
    assert found.upper[0] < 0.99 * upper[0]
    # Between the two there is the exact value; the ascent finds it in so small a layer.
    exact = exact_largest(gemm_map().weight[0])
    assert found.lower[0] <= exact * (1 + PROMISE)
    assert found.upper[0] >= exact * (1 - PROMISE)
    assert found.estimate[0] == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize("activation", [RELU, clip(1.0), SLOPES])
def test_estimates_at_the_ladder_and_nowhere_else(activation: Activation) -> None:
    for shape in ((12, 8), (40, 30), (5, 1)):
        if len(activation.slopes) > 1:
            activation = prelu(*np.linspace(0, 0.9, shape[1]))
        geometry = gemm(*shape)
        found = spectrum_of(block(geometry, activation=activation), gemm_map(*shape))
        assert found.ranks == tuple(rank_ladder(geometry.largest_rank))
        assert found.converged.shape == (len(found.ranks),)
        assert found.converged.dtype == np.bool_
        chosen = list(found.ranks)
        others = np.setdiff1d(np.arange(geometry.largest_rank), chosen)
        assert (chosen[0], chosen[-1]) == (0, geometry.largest_rank - 1)
        assert len(others) >= geometry.largest_rank - 12
        assert np.isnan(found.estimate[others]).all()
        assert np.all(found.lower[chosen] <= found.estimate[chosen])
        assert np.all(found.estimate[chosen] <= found.upper[chosen])


def test_the_record_says_how_it_was_made() -> None:
    found = gemm_spectrum(RELU)
    assert (found.iterations, found.starts) == (ITERATIONS, STARTS)
    assert (found.seed, found.provider, found.in_data_metric) == (0, CPU, False)
    assert not found.sigma.flags.writeable


def test_widths() -> None:
    for activation, lower, upper in (
        (RELU, 0.5, 1),
        (prelu(0.5), 0.75, 1),
        (SLOPES, 0.5, 1),
        (prelu(-0.5), 0.25, 1),
        (prelu(-1.0), 0, 1),
        (prelu(1.5), 1.25, 1.5),
        (prelu(-1.5), 0, 1.5),
        (clip(0.5), 0, 1),
        (LINEAR, 1, 1),
    ):
        found, width = gemm_spectrum(activation), width_of(SIGMA)
        assert found.mean_width == pytest.approx(width, rel=PROMISE)
        assert found.relu_mean_width_lower == pytest.approx(lower * width, rel=PROMISE)
        assert found.relu_mean_width_upper == pytest.approx(upper * width, rel=PROMISE)
        # 32 draws: four standard errors.
        slack = 4 * found.relu_mean_width_error
        assert found.relu_mean_width <= found.relu_mean_width_upper + slack
        # A length whose own spread is about a third or half of it.
        assert 0 <= found.relu_mean_width_error < 0.2 * found.relu_mean_width
        if activation.kind != "clip":
            assert found.relu_mean_width >= found.relu_mean_width_lower - slack


def test_without_an_activation_all_is_exact() -> None:
    found = gemm_spectrum(LINEAR)
    for values in (found.lower, found.upper, found.estimate):
        assert np.array_equal(values, found.sigma)
    assert found.converged.all()
    assert found.relu_mean_width == pytest.approx(found.mean_width, rel=1e-12)
    assert found.relu_mean_width_error == 0


def test_a_clip_is_a_relu_below_its_ceiling() -> None:
    relu, high, low = (gemm_spectrum(kind) for kind in (RELU, clip(1.01 * SIGMA[0]), clip(0.5)))
    # Nothing reaches the ceiling; its graph has other steps, so the two agree as far as they climb.
    assert high.estimate[0] == pytest.approx(relu.estimate[0], rel=1e-2)
    assert high.relu_mean_width == pytest.approx(relu.relu_mean_width, rel=1e-2)
    assert low.estimate[0] < 0.9 * relu.estimate[0]
    # 8 rows of 0.5 at most.
    assert low.estimate[0] <= 0.5 * math.sqrt(8) * (1 + PROMISE)


def test_measures_scale_with_the_map() -> None:
    for scale in (1e-12, 1e12):
        once, scaled = gemm_spectrum(RELU), gemm_spectrum(RELU, scale=scale)
        for name in ("sigma", "lower", "upper", "untrained", "mean_width"):
            assert np.allclose(getattr(scaled, name), scale * getattr(once, name), rtol=PROMISE)
        for name in ("estimate", "relu_mean_width", "relu_mean_width_error"):
            # The ascent's weights round to float32 in other places, which its steps amplify.
            assert np.allclose(getattr(scaled, name), scale * getattr(once, name), rtol=1e-3)


@pytest.mark.parametrize("geometry", [gemm(5, 4), conv(3, 4, (3, 3))])
def test_the_zero_map(geometry: Geometry) -> None:
    for activation in (RELU, LINEAR, clip(1), prelu(0.1)):
        shape = (geometry.groups, geometry.rows, geometry.columns)
        zero = LinearMap(np.zeros(shape), np.ones(4))
        lengths = (5, 5) if geometry.kind == "conv" else ()
        found = spectrum_of(block(geometry, lengths, activation=activation), zero)
        for values in (found.sigma, found.lower, found.upper, found.untrained, found.estimate):
            assert np.array_equal(values, np.zeros(4))
        assert (found.mean_width, found.relu_mean_width, found.relu_mean_width_error) == (0, 0, 0)
        assert found.stable_rank == 0
        assert found.converged.all()
        assert (
            math.isnan(found.operator_norm) if geometry.kind == "gemm" else not found.operator_norm
        )


def test_the_data_metric() -> None:
    geometry = gemm(12, 8)
    rng = np.random.default_rng(0)
    linear, seen = linear_map(geometry, rng), moments(geometry, rng)
    found = spectrum_of(block(geometry), linear, seen)
    root = np.linalg.cholesky(seen.covariance[0])
    sigma = np.linalg.svd(linear.weight[0] @ root, compute_uv=False)
    assert found.in_data_metric
    assert np.allclose(found.sigma, sigma, rtol=PROMISE)
    assert found.mean_width == pytest.approx(width_of(sigma), rel=PROMISE)
    # The same map, given as W C^(1/2) without a metric.
    plain = spectrum_of(block(geometry), LinearMap((linear.weight[0] @ root)[None], linear.bias))
    assert found.estimate[0] == pytest.approx(plain.estimate[0], rel=1e-3)
    assert np.allclose(found.lower, plain.lower, rtol=1e-3)
    assert np.allclose(found.upper, plain.upper, rtol=1e-3)
    assert found.stable_rank == pytest.approx(np.sum(sigma**2) / sigma[0] ** 2, rel=PROMISE)


@pytest.mark.parametrize("in_metric", [False, True])
@pytest.mark.parametrize("geometry", [gemm(12, 8), gemm(8, 12), conv(4, 6, (3, 3), groups=2)])
def test_the_untrained_layer_has_the_same_frobenius_norm(
    geometry: Geometry, in_metric: bool
) -> None:
    rng = np.random.default_rng(0)
    linear = linear_map(geometry, rng)
    seen = moments(geometry, rng) if in_metric else None
    lengths = (5, 5) if geometry.kind == "conv" else ()
    found = spectrum_of(block(geometry, lengths), linear, seen)
    norms = [np.linalg.norm(part.sigma) for part in decompose_block(linear, seen)]
    assert found.untrained.shape == found.sigma.shape
    assert np.all(np.diff(found.untrained) <= 0)
    total = np.linalg.norm(found.untrained)
    if geometry.groups == 1:
        assert total == pytest.approx(norms[0], rel=1e-12)
    # Of several groups the largest of every value.
    assert max(norms) * (1 - 1e-12) <= total <= np.linalg.norm(norms)


def test_the_operator_norm_of_a_conv() -> None:
    for geometry, in_metric in product(
        (
            conv(3, 4, (3, 3), pads=(1, 1, 1, 1)),
            conv(4, 6, (3, 2), groups=2, strides=(2, 1)),
            conv(3, 4, (1, 1)),
        ),
        (False, True),
    ):
        rng = np.random.default_rng(0)
        linear = linear_map(geometry, rng)
        seen = moments(geometry, rng) if in_metric else None
        found = spectrum_of(block(geometry, (6, 5)), linear, seen)
        # Never in the metric.
        channels = geometry.in_channels // geometry.groups
        kernel = linear.weight.reshape(geometry.out_channels, channels, *geometry.kernel)
        exact = np.linalg.norm(padded_matrix(kernel, geometry, (6, 5)), 2)
        most = largest_of_patches(kernel, geometry.groups)
        # onnxruntime's float32 sums; a percent that power steps may miss.
        assert 0.99 * exact <= found.operator_norm <= math.sqrt(math.prod(geometry.kernel)) * most
        assert found.operator_norm >= 0.99 * most


def test_other_blocks_have_no_operator_norm() -> None:
    for geometry in (gemm(12, 8), matmul(12, 8)):
        assert math.isnan(spectrum_of(block(geometry), gemm_map()).operator_norm)
