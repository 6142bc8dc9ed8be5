"""Moments of rectified Gaussians against numerical integration of the activation itself."""

from itertools import pairwise

import numpy as np
import pytest
from examples import LINEAR, RELU, clip, prelu
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from onnx_relusv.core.blocks import Activation
from onnx_relusv.spectra.mean_widths import activated_gaussian

ACTIVATIONS = {"relu": RELU, "leaky": prelu(0.1), "clip": clip(1.5), "steep": prelu(-2.0)}


def applied(x: float, activation: Activation) -> float:
    """The activation on one number."""
    ceiling = np.inf if activation.ceiling is None else activation.ceiling
    return min(x, ceiling) if x > 0 else float(activation.slopes[0]) * x


def integrated(mean: float, deviation: float, activation: Activation) -> tuple[float, float]:
    """Mean and variance by adaptive quadrature between the points where the slope changes."""
    far = 12 * deviation
    points = [mean - far, *(p for p in (0.0, 1.5) if abs(p - mean) < far), mean + far]
    first, second = (
        sum(
            quad(
                lambda x, power=power: (
                    applied(x, activation) ** power * norm.pdf(x, mean, deviation)
                ),
                *ends,
                epsabs=1e-13,
            )[0]
            for ends in pairwise(points)
        )
        for power in (1, 2)
    )
    return first, second - first**2


def test_the_closed_form_is_the_integral() -> None:
    for activation in ACTIVATIONS.values():
        for mean in (-2.0, -0.3, 0.0, 0.7, 1.5, 4.0):
            for deviation in (0.2, 1.0, 3.0):
                found = activated_gaussian(np.array([mean]), np.array([deviation**2]), activation)
                exact = integrated(mean, deviation, activation)
                # What the quadrature reaches, for second moments of up to 25.
                np.testing.assert_allclose(np.ravel(found), exact, rtol=1e-8, atol=1e-10)


def test_the_tempting_shortcut_is_wrong() -> None:
    # Rectifying the mean, and halving the variance, is not what a Relu does.
    mean, variance = activated_gaussian(np.zeros(1), np.ones(1), RELU)
    assert mean[0] == pytest.approx(1 / np.sqrt(2 * np.pi), rel=1e-12)
    assert variance[0] == pytest.approx(0.5 - 1 / (2 * np.pi), rel=1e-12)


def test_constants_go_through_the_activation() -> None:
    mean, variance = activated_gaussian(np.array([-1.0, 0.5, 3.0]), np.zeros(3), clip(1.5))
    np.testing.assert_array_equal(mean, [0.0, 0.5, 1.5])
    np.testing.assert_array_equal(variance, np.zeros(3))


def test_slopes_may_differ_by_channel_and_a_linear_block_changes_nothing() -> None:
    means, variances = np.array([-1.0, 0.5]), np.array([0.3, 2.0])
    both = activated_gaussian(means, variances, prelu(0.2, -0.4))
    for channel, slope in enumerate((0.2, -0.4)):
        one = activated_gaussian(means[[channel]], variances[[channel]], prelu(slope))
        assert (both[0][channel], both[1][channel]) == (one[0][0], one[1][0])
    same = activated_gaussian(means, variances, LINEAR)
    np.testing.assert_array_equal(same, (means, variances))


@given(st.floats(-50, 50), st.floats(0, 100), st.floats(0, 10))
def test_scale_comes_through_and_variance_never_grows(
    mean: float, variance: float, scale: float
) -> None:
    found = activated_gaussian(np.array([mean]), np.array([variance]), RELU)
    scaled = activated_gaussian(np.array([scale * mean]), np.array([scale**2 * variance]), RELU)
    # Of the second moment: variances are differences of such.
    rounding = 1e-12 * (mean**2 + variance) * max(scale**2, 1)
    np.testing.assert_allclose(scaled[1], scale**2 * found[1], rtol=1e-9, atol=rounding + 1e-300)
    assert 0 <= found[1][0] <= variance + rounding  # a Relu is 1-Lipschitz
