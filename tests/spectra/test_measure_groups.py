"""How the measures of groups combine, and that seeds and providers change what they should."""

from dataclasses import fields

import numpy as np
import pytest
from examples import RELU, block, clip, conv, gemm, linear_map, moments, prelu, spectrum_of

from onnx_relusv.core.blocks import Activation, LinearMap
from onnx_relusv.core.measures import Spectrum
from onnx_relusv.runtime.session import CPU, CUDA


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


@pytest.mark.parametrize("activation", [RELU, clip(2.0), prelu(0.1, 0.2, 0.3, 0.9, 0.8, 0.7)])
def test_groups_give_the_largest(activation: Activation) -> None:
    for scales in ((1.0, 2.0), (2.0, 1.0), (1.0, 1.0)):
        whole, alone = grouped(activation, scales)
        for name in ("sigma", "lower", "upper", "estimate"):
            largest = np.maximum(getattr(alone[0], name), getattr(alone[1], name))
            assert np.array_equal(getattr(whole, name), largest, equal_nan=True)
        assert whole.ranks == alone[0].ranks
        assert np.array_equal(whole.converged, alone[0].converged & alone[1].converged)
        assert whole.operator_norm == max(one.operator_norm for one in alone)
        widest = max(alone, key=lambda one: one.mean_width)
        for name in (
            "mean_width",
            "relu_mean_width",
            "relu_mean_width_error",
            "relu_mean_width_lower",
            "relu_mean_width_upper",
        ):
            assert getattr(whole, name) == getattr(widest, name)


def test_a_dead_group_hides_nothing() -> None:
    whole, alone = grouped(RELU, (0.0, 1.0))
    for name in ("sigma", "lower", "upper", "estimate"):
        assert np.array_equal(getattr(whole, name), getattr(alone[1], name))
    assert whole.estimate[0] > 0
    assert whole.relu_mean_width == alone[1].relu_mean_width
    assert whole.operator_norm == alone[1].operator_norm


def test_another_order_of_the_groups_is_the_same_block() -> None:
    # But for what each group draws: the untrained values of the first come first.
    one, _ = grouped(RELU, (1.0, 2.0))
    geometry = conv(4, 6, (3, 3), groups=2)
    linear = linear_map(geometry, np.random.default_rng(0))
    weight = (linear.weight * np.array([1.0, 2.0])[:, None, None])[::-1]
    other = spectrum_of(block(geometry, (5, 5)), LinearMap(weight, linear.bias))
    for name in ("sigma", "lower", "upper", "estimate", "mean_width", "operator_norm"):
        assert np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True)
    assert not np.array_equal(one.untrained, other.untrained)


def test_a_seed_repeats_all_measures() -> None:
    geometry = gemm(30, 20)
    linear = linear_map(geometry, np.random.default_rng(0))
    first, again, other = (spectrum_of(block(geometry), linear, seed=seed) for seed in (1, 1, 2))
    for field in fields(Spectrum):
        one, two = getattr(first, field.name), getattr(again, field.name)
        if isinstance(one, np.ndarray | float):
            assert np.array_equal(one, two, equal_nan=True)
        else:
            assert one == two
    assert (first.seed, other.seed) == (1, 2)
    assert first.relu_mean_width != other.relu_mean_width
    assert not np.array_equal(first.untrained, other.untrained)
    # Nothing is drawn for these.
    for name in ("sigma", "upper", "mean_width"):
        assert np.array_equal(getattr(first, name), getattr(other, name))


@pytest.mark.gpu
@pytest.mark.parametrize("activation", [RELU, clip(2.0), prelu(*np.linspace(0, 0.9, 24))])
@pytest.mark.parametrize("in_metric", [False, True])
def test_cuda_and_the_cpu_measure_alike(in_metric: bool, activation: Activation) -> None:
    geometry = conv(6, 24, (3, 3), pads=(1, 1, 1, 1))
    rng = np.random.default_rng(0)
    linear = linear_map(geometry, rng)
    seen = moments(geometry, rng) if in_metric else None
    item = block(geometry, (8, 8), activation=activation)
    one, other = (spectrum_of(item, linear, seen, provider=provider) for provider in (CPU, CUDA))
    assert (one.provider, other.provider) == (CPU, CUDA)
    # These do not come from the ascents, and run on the CPU either way.
    for name in ("sigma", "untrained", "operator_norm", "mean_width"):
        assert np.array_equal(getattr(one, name), getattr(other, name))
    # Float32 sums in another order, amplified by 30 steps; a start may end in another place.
    for name in ("lower", "upper", "estimate", "relu_mean_width"):
        assert np.allclose(getattr(one, name), getattr(other, name), rtol=1e-2, equal_nan=True)
