"""The spectrum of a block: every measure against its own definition, and how groups combine."""

import math

import numpy as np
import pytest
from examples import LINEAR, RELU, block, clip, conv, gemm, linear_map, moments, prelu

from onnx_relusv.factors import decompose_block
from onnx_relusv.measures import Spectrum
from onnx_relusv.records import Activation, Block, LinearMap, Moments
from onnx_relusv.runtime.session import CPU
from onnx_relusv.spectra.mean_width import mean_width
from onnx_relusv.spectra.measure import measure
from onnx_relusv.spectra.relu_values import bracket


def spectrum_of(
    item: Block, linear: LinearMap, seen: Moments | None = None, *, seed: int = 0
) -> Spectrum:
    return measure(
        item,
        decompose_block(linear, seen),
        in_data_metric=seen is not None,
        seed=seed,
        provider=CPU,
    )


def gemm_spectrum(activation: Activation, *, scale: float = 1.0) -> Spectrum:
    geometry = gemm(12, 8)
    linear = linear_map(geometry, np.random.default_rng(0))
    return spectrum_of(
        block(geometry, activation=activation), LinearMap(scale * linear.weight, linear.bias)
    )


SIGMA = np.linalg.svd(linear_map(gemm(12, 8), np.random.default_rng(0)).weight[0], compute_uv=False)


@pytest.mark.parametrize("activation", [RELU, prelu(0.2), prelu(*np.linspace(0, 1, 8))])
def test_a_relu_block(activation: Activation) -> None:
    found = gemm_spectrum(activation)
    assert np.allclose(found.sigma, SIGMA, rtol=1e-6)
    lower, upper = bracket(SIGMA, activation)
    assert np.allclose(found.lower, lower, rtol=1e-6)
    assert np.allclose(found.upper, upper, rtol=1e-6)
    # s_0 is estimated, the others are not.
    assert found.lower[0] <= found.estimate[0] <= found.upper[0]
    assert np.isnan(found.estimate[1:]).all()
    assert found.mean_width == pytest.approx(mean_width(SIGMA), rel=1e-6)
    assert found.relu_mean_width_upper == found.mean_width
    # 32 draws of a length whose own spread is about a third or half of it.
    assert 0 < found.relu_mean_width_error < 0.2 * found.relu_mean_width
    assert found.relu_mean_width <= found.mean_width + 4 * found.relu_mean_width_error
    assert (found.seed, found.provider, found.iterations) == (0, CPU, 30)
    assert not found.in_data_metric


def test_the_lower_width_needs_one_slope() -> None:
    width = mean_width(SIGMA)
    assert gemm_spectrum(RELU).relu_mean_width_lower == pytest.approx(width / 2, rel=1e-6)
    of_prelu = gemm_spectrum(prelu(0.5))
    assert of_prelu.relu_mean_width_lower == pytest.approx(0.75 * width, rel=1e-6)
    assert math.isnan(gemm_spectrum(prelu(*np.linspace(0, 1, 8))).relu_mean_width_lower)
    assert math.isnan(gemm_spectrum(prelu(-0.5)).relu_mean_width_lower)


def test_the_upper_width_needs_slopes_up_to_one() -> None:
    assert gemm_spectrum(prelu(-1.0)).relu_mean_width_upper == gemm_spectrum(RELU).mean_width
    assert math.isnan(gemm_spectrum(prelu(1.5)).relu_mean_width_upper)


def test_without_an_activation_all_is_exact() -> None:
    found = gemm_spectrum(LINEAR)
    for values in (found.lower, found.upper, found.estimate):
        assert np.array_equal(values, found.sigma)
    for value in (
        found.relu_mean_width,
        found.relu_mean_width_lower,
        found.relu_mean_width_upper,
    ):
        assert value == found.mean_width
    assert found.relu_mean_width_error == 0


def test_a_clip_is_a_relu_below_its_ceiling() -> None:
    relu, high, low = (
        gemm_spectrum(kind) for kind in (RELU, clip(1.01 * SIGMA[0]), clip(0.99 * SIGMA[0]))
    )
    assert high.estimate[0] == relu.estimate[0]
    assert high.relu_mean_width == relu.relu_mean_width
    # Above it nothing is estimated, and the width has an upper end only.
    assert np.isnan(low.estimate).all()
    assert math.isnan(low.relu_mean_width)
    assert math.isnan(low.relu_mean_width_error)
    assert low.relu_mean_width_upper == low.mean_width
    assert math.isnan(low.relu_mean_width_lower)
    assert low.lower[0] == pytest.approx(0.99 * SIGMA[0] * math.sqrt(0.5), rel=1e-6)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_measures_scale_with_the_map(scale: float) -> None:
    once, scaled = gemm_spectrum(RELU), gemm_spectrum(RELU, scale=scale)
    for name in ("sigma", "lower", "upper", "estimate", "mean_width", "relu_mean_width"):
        # The ascent's weights round to float32 in other places, which its steps amplify.
        assert np.allclose(
            getattr(scaled, name), scale * getattr(once, name), rtol=1e-4, equal_nan=True
        )


@pytest.mark.parametrize("activation", [RELU, LINEAR, clip(1), prelu(0.1)])
def test_the_zero_map(activation: Activation) -> None:
    geometry = gemm(5, 4)
    zero = LinearMap(np.zeros((1, 4, 5)), np.ones(4))
    found = spectrum_of(block(geometry, activation=activation), zero)
    assert not found.sigma.any()
    assert not found.lower.any()
    assert not found.upper.any()
    assert found.estimate[0] == 0
    assert (found.mean_width, found.relu_mean_width, found.relu_mean_width_error) == (0, 0, 0)
    assert found.stable_rank == 0


def test_the_data_metric() -> None:
    geometry = gemm(12, 8)
    rng = np.random.default_rng(0)
    linear, seen = linear_map(geometry, rng), moments(geometry, rng)
    found = spectrum_of(block(geometry), linear, seen)
    root = np.linalg.cholesky(seen.covariance[0])
    sigma = np.linalg.svd(linear.weight[0] @ root, compute_uv=False)
    assert found.in_data_metric
    assert np.allclose(found.sigma, sigma, rtol=1e-6)
    assert found.mean_width == pytest.approx(mean_width(sigma), rel=1e-6)
    # The same map, given as W C^(1/2) without a metric.
    plain = spectrum_of(block(geometry), LinearMap((linear.weight[0] @ root)[None], linear.bias))
    assert found.estimate[0] == pytest.approx(plain.estimate[0], rel=1e-3)
    assert found.stable_rank == pytest.approx(np.sum(sigma**2) / sigma[0] ** 2, rel=1e-6)


def grouped(activation: Activation, scales: tuple[float, float]) -> tuple[Spectrum, list[Spectrum]]:
    """A Conv of two groups, and each group as a block by itself."""
    geometry = conv(4, 6, (3, 3), groups=2)
    linear = linear_map(geometry, np.random.default_rng(0))
    weight = linear.weight * np.array(scales)[:, None, None]
    whole = spectrum_of(
        block(geometry, (5, 5), activation=activation), LinearMap(weight, linear.bias)
    )
    alone = []
    for group in range(2):
        slopes = activation.slopes
        own = slopes if len(slopes) == 1 else slopes[3 * group : 3 * group + 3]
        part = Activation(kind=activation.kind, slopes=own, ceiling=activation.ceiling)
        alone.append(
            spectrum_of(
                block(conv(2, 3, (3, 3)), (5, 5), activation=part),
                LinearMap(weight[group : group + 1], linear.bias[:3]),
            )
        )
    return whole, alone


@pytest.mark.parametrize("scales", [(1.0, 2.0), (2.0, 1.0), (1.0, 1.0)])
@pytest.mark.parametrize("activation", [RELU, prelu(0.1, 0.2, 0.3, 0.9, 0.8, 0.7)])
def test_groups_give_the_largest(activation: Activation, scales: tuple[float, float]) -> None:
    whole, alone = grouped(activation, scales)
    for name in ("sigma", "lower", "upper", "estimate"):
        largest = np.maximum(getattr(alone[0], name), getattr(alone[1], name))
        assert np.array_equal(getattr(whole, name), largest, equal_nan=True)
    widest = max(alone, key=lambda one: one.mean_width)
    for name in ("mean_width", "relu_mean_width", "relu_mean_width_error"):
        assert getattr(whole, name) == getattr(widest, name)


def test_a_dead_group_hides_nothing() -> None:
    whole, alone = grouped(RELU, (0.0, 1.0))
    assert np.array_equal(whole.sigma, alone[1].sigma)
    assert whole.estimate[0] == alone[1].estimate[0] > 0
    assert whole.relu_mean_width == alone[1].relu_mean_width


def test_a_seed_repeats_the_measures() -> None:
    geometry = gemm(30, 20)
    linear = linear_map(geometry, np.random.default_rng(0))
    first, again, other = (spectrum_of(block(geometry), linear, seed=seed) for seed in (1, 1, 2))
    assert first.estimate[0] == again.estimate[0]
    assert first.relu_mean_width == again.relu_mean_width
    assert first.relu_mean_width != other.relu_mean_width
    assert other.seed == 2
