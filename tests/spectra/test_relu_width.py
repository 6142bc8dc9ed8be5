"""The mean width behind an activation against closed forms and its bounds."""

import math

import numpy as np
import pytest
from examples import LINEAR, RELU, clip, prelu
from relu_maps import circle, phi

from onnx_relusv.core.blocks import Floats
from onnx_relusv.core.errors import UsageError
from onnx_relusv.core.measures import Width
from onnx_relusv.runtime.session import CPU
from onnx_relusv.spectra.mean_widths import mean_width, relu_mean_width


def width(W: Floats, bias: Floats | None = None, **changes: object) -> Width:
    return relu_mean_width(W, bias, **{"provider": "cpu"} | changes)  # type: ignore[arg-type]


def gaussian(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape)


def mean_length(size: int) -> float:
    """Of a standard normal vector."""
    return math.sqrt(2) * math.gamma((size + 1) / 2) / math.gamma(size / 2)


CLOSED_FORMS = {
    # max(g, 0), which is half the linear layer's E |g|: the lower bound is attained.
    "one row": (np.array([[1.0]]), RELU, 1 / math.sqrt(2 * math.pi)),
    # max(g1, g2, 0): half the mean range of three numbers, which is half the sum of their gaps.
    "two rows": (
        np.array([[1.0], [-1.0]]),
        RELU,
        math.sqrt(2 / math.pi) * (2 + math.sqrt(2)) / 4,
    ),
    # |max(g, 0)|: a vector of as many normal numbers as are positive.
    "identity": (np.eye(5), RELU, sum(math.comb(5, k) / 32 * mean_length(k) for k in range(1, 6))),
    # max(g, 0) again, with the ceiling as the largest answer.
    "clip": (np.array([[2.0]]), clip(1.0), 1 / math.sqrt(2 * math.pi)),
    # Linear.
    "slope one": (np.diag([2.0, 1.0]), prelu(1.0), mean_width(np.diag([2.0, 1.0])).value),
}


def test_closed_forms() -> None:
    for name, (W, activation, exact) in CLOSED_FORMS.items():
        found = width(W, activation=activation, draws=2000)
        # Four standard errors of sampling, and 1 % for ascents that stop early.
        assert found.value <= exact + 4 * found.standard_error, name
        assert found.value >= 0.99 * exact - 4 * found.standard_error, name
        assert 0 < found.standard_error < 0.04 * exact, name
        assert found.lower <= exact * (1 + 1e-9), name
        assert exact <= found.upper * (1 + 1e-9), name


def test_a_closed_form_of_something_else_is_caught() -> None:
    # E |g| in place of E max(g, 0).
    found = width(np.ones((1, 1)), draws=2000)
    assert found.value < math.sqrt(2 / math.pi) - 20 * found.standard_error


def test_it_lies_between_its_bounds() -> None:
    for slope in (-1.0, -0.3, 0.0, 0.1, 0.7, 1.0, 1.5):
        for seed in range(3):
            W = gaussian(seed, 15, 8) @ gaussian(seed + 50, 8, 12)
            linear = mean_width(W).value
            found = width(W, activation=prelu(slope), draws=200)
            assert found.lower == pytest.approx((1 + slope) / 2 * linear, rel=1e-6, abs=1e-12)
            assert found.upper == pytest.approx(max(1, slope) * linear, rel=1e-6)
            # Met from below, so the left side shows that it comes close.
            assert found.lower <= found.value + 4 * found.standard_error
            assert found.value <= found.upper + 4 * found.standard_error


def test_the_bounds_follow_the_steepest_and_the_flattest_slope() -> None:
    W = gaussian(0, 3, 4)
    linear = mean_width(W).value
    found = width(W, activation=prelu(-0.5, 0.2, -2.0), draws=2)
    assert (found.lower, found.upper) == pytest.approx((0, 2 * linear), rel=1e-6)
    found = width(W, activation=prelu(-0.5, 0.2, 0.9), draws=2)
    assert (found.lower, found.upper) == pytest.approx((linear / 4, linear), rel=1e-6)


def test_nothing_is_claimed_from_below_with_a_bias() -> None:
    for activation in (RELU, prelu(0.3)):
        W, b = gaussian(0, 6, 4), gaussian(1, 6)
        found = width(W, b, activation=activation, draws=200)
        assert found.lower == 0
        assert found.upper == pytest.approx(mean_width(W).value, rel=1e-6)
        assert found.value <= found.upper + 4 * found.standard_error


def test_nothing_is_claimed_from_below_with_a_ceiling() -> None:
    W = 1e6 * np.ones((1, 1))
    found = width(W, activation=clip(1.0), draws=200)
    assert found.lower == 0
    # Half the linear width would be wrong.
    assert found.value + 4 * found.standard_error < 1e-3 * mean_width(W).value / 2


def test_a_bias_can_silence_a_layer() -> None:
    found = width(np.ones((1, 1)), -np.ones(1))
    assert (found.value, found.lower, found.standard_error) == (0, 0, 0)
    assert found.upper == pytest.approx(math.sqrt(2 / math.pi))


def test_a_large_bias_leaves_a_linear_layer() -> None:
    W, b = gaussian(0, 6, 4), np.full(6, 100.0)
    found = width(W, b, draws=2000)
    # The mean over draws of <g, b> is 0 but for sampling, and its error is 100 sqrt(6 / 2000).
    assert found.value == pytest.approx(mean_width(W).value, abs=4 * found.standard_error)
    # A deviation of 2000 normal draws is itself off by 1 / sqrt(2 * 2000); four times that.
    off = 4 / math.sqrt(2 * 2000)
    assert found.standard_error == pytest.approx(100 * math.sqrt(6 / 2000), rel=off)


def test_the_suprema_are_met_from_below() -> None:
    # On a circle, by a fine grid; the same draws of g as inside.
    W = gaussian(0, 6, 2)
    images = phi(W @ circle(5001), RELU)
    g = np.random.default_rng([3, 2]).standard_normal((6, 50))
    # The unit ball's supremum is never negative: x = 0 is in it.
    suprema = np.maximum((g.T @ images).max(axis=1), 0)
    found = width(W, draws=50, seed=3)
    # The grid is off by less than 1e-5 of the supremum's scale.
    assert found.value <= suprema.mean() * (1 + 1e-4)
    assert found.value >= 0.97 * suprema.mean()


def test_without_an_activation_it_is_the_linear_width() -> None:
    W = gaussian(0, 6, 4)
    found = width(W, np.ones(6), activation=LINEAR)
    assert found.value == found.lower == found.upper == pytest.approx(mean_width(W).value)
    assert found.standard_error == 0
    assert found.converged


def test_a_metric_is_a_weight_times_its_root() -> None:
    W, A = gaussian(0, 5, 4), gaussian(1, 4, 4)
    metric = A @ A.T + 0.1 * np.eye(4)
    root = np.linalg.cholesky(metric)
    one, other = width(W, metric=metric, draws=200), width(W @ root, draws=200)
    assert one.value == pytest.approx(other.value, rel=0.02)
    assert (one.lower, one.upper) == pytest.approx((other.lower, other.upper), rel=1e-6)


def test_a_seed_repeats_it() -> None:
    W = gaussian(0, 9, 7)
    assert width(W, draws=20) == width(W, draws=20)
    assert width(W, draws=20) != width(W, draws=20, seed=1)


def test_it_scales_with_the_weight() -> None:
    for scale in (1e-90, 1e-30, 1e-3, 1e3, 1e30, 1e90):
        W = gaussian(0, 6, 5)
        once, scaled = (width(factor * W, draws=8, iterations=5) for factor in (1, scale))
        # The scaled weights round differently to float32, and five steps amplify that.
        assert scaled.value == pytest.approx(scale * once.value, rel=1e-4)
        assert scaled.standard_error == pytest.approx(scale * once.standard_error, rel=1e-3)
        assert (scaled.lower, scaled.upper) == pytest.approx(
            (scale * once.lower, scale * once.upper), rel=1e-9
        )


def test_a_layer_of_zeros() -> None:
    found = width(np.zeros((3, 2)), np.ones(3))
    assert (found.value, found.lower, found.upper, found.standard_error) == (0, 0, 0, 0)


def test_the_record_says_whether_ascents_had_settled() -> None:
    W = gaussian(0, 12, 9)
    found = width(W, draws=16, iterations=300, starts=4, seed=5)
    assert (found.iterations, found.seed, found.provider) == (300, 5, CPU)
    assert found.converged
    assert not width(W, draws=16, iterations=1, starts=1).converged


def test_what_is_refused() -> None:
    for changes, text in (
        ({"W": np.ones(3)}, r"it has to be \(out, in\)"),
        ({"bias": np.ones(2)}, "bias has shape"),
        ({"metric": -np.eye(2)}, "metric is not positive definite"),
        ({"activation": prelu(0.1, 0.2)}, "2 slopes for 3 rows"),
        ({"draws": 1}, "draws 1: use 2 or more"),
        ({"iterations": 0}, "iterations 0"),
        ({"starts": 0}, "starts 0"),
        ({"seed": -1}, "seed -1"),
    ):
        with pytest.raises(UsageError, match=text):
            width(**{"W": np.ones((3, 2))} | changes)  # type: ignore[arg-type]
