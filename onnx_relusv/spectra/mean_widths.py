"""Gaussian mean widths of the images of the unit ball under linear maps and under layers.

    w(A) = E sup_(|x| <= 1) <g, Ax> = E |A'g| = E sqrt(sum sigma_i^2 g_i^2),   g standard normal.

For a sum Q of independent squares, E sqrt(Q) is one integral over Q's Laplace transform:

    E sqrt(Q) = 1 / (2 sqrt(pi)) * integral_0^inf (1 - F(t)) t^(-3/2) dt,
    F(t) = prod_i (1 + 2 t sigma_i^2)^(-1/2).

Behind the activation w_phi = E sup over |x| <= 1 of <g, phi(Wx + b)> is sampled. Its bounds,
without a bias, follow from w, the width before the activation (proofs in docs/theory.md):

- w_phi <= max(1, |a|) w, since phi is Lipschitz coordinate by coordinate (Sudakov, Fernique); a
  bias changes nothing about it.
- w_phi >= (1 + min a) / 2 w for slopes a of -1 or more, since phi(y) - phi(-y) = (1 + a) y.

`activated_gaussian` gives mean and variance of a Gaussian behind a piecewise linear activation in
closed form. A number x of N(m, s^2) becomes slope * x below 0, x between 0 and the ceiling, and the
ceiling above it; every piece contributes the moments of a Gaussian that is cut off at its ends.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from onnx_relusv.core.blocks import Activation, Floats
from onnx_relusv.core.measures import Width
from onnx_relusv.core.options import ProviderName
from onnx_relusv.spectra.activation_functions import (
    RELU,
    ActivationFunction,
    AnyActivation,
    named,
    width_bounds_behind,
)
from onnx_relusv.spectra.ascent import climb_width
from onnx_relusv.spectra.layers import (
    Effort,
    Layer,
    at_least,
    checked_bias,
    checked_effort,
    checked_weight,
    layer_of,
    scaled,
)
from onnx_relusv.spectra.singular import singular_values

# With t = exp(u) the integrand decays like exp(-|u|/2), is analytic, and is bounded for
# |Im u| < pi / 2 however many values there are. So the trapezoidal rule with step h is off by
# about exp(-pi^2 / h): 1e-17 for h = 1/4. What is cut off at both ends is below exp(-32) = 1e-14.
_LOWEST, _HIGHEST, POINTS = -64.0, 64.0, 513
_CHUNK = 512
_SINGULAR_VALUES = 5e-7
# Twice the step is off by about exp(-pi^2 * 2) = 3e-9; more says that something is wrong.
_COARSE_ERROR = 1e-7
# The share of draws whose ascent has to have settled.
_SETTLED_SHARE = 0.9


def mean_width(weight: npt.ArrayLike, *, points: int = POINTS) -> Width:
    """The Gaussian mean width of the image of the unit ball under W, by quadrature.

    Args:
        weight: (out, in).
        points: Of the quadrature, odd; with too few the width has not converged.

    Returns:
        The width; its bounds are 1e-6 apart, which the singular values need, not the quadrature.

    Raises:
        UsageError: The weight is no finite matrix.
    """
    fine, coarse = _quadrature(singular_values(checked_weight(weight)), points)
    return Width(
        value=fine,
        lower=fine * (1 - _SINGULAR_VALUES),
        upper=fine * (1 + _SINGULAR_VALUES),
        standard_error=0.0,
        iterations=points,
        converged=abs(fine - coarse) <= _COARSE_ERROR * fine,
        seed=None,
        provider="numpy",
    )


def width_of(sigma: Floats) -> float:
    """The mean width of a linear map from its singular values, to a relative error of 1e-11.

    Args:
        sigma: (r,) singular values of the map; their order does not matter.

    Returns:
        w in the units of the output; certified up to the quadrature's error.
    """
    return _quadrature(sigma)[0]


def _quadrature(sigma: Floats, points: int = POINTS) -> tuple[float, float]:
    """The width, and the same from half as many points."""
    squares = np.asarray(sigma, np.float64) ** 2
    total = float(squares.sum())
    if total == 0:
        return 0.0, 0.0
    u = np.linspace(_LOWEST, _HIGHEST, points)
    t = np.exp(u)
    # Normalised by the sum of squares, so that the integrand's weight lies around u = 0.
    logarithm = np.zeros_like(t)
    for start in range(0, len(squares), _CHUNK):
        part = squares[start : start + _CHUNK, None] / total
        logarithm += np.log1p(2 * t * part).sum(axis=0)
    values = -np.expm1(-0.5 * logarithm) * np.exp(-0.5 * u)
    scale = math.sqrt(total) / (2 * math.sqrt(math.pi))
    fine, coarse = np.trapezoid(values, u), np.trapezoid(values[::2], u[::2])
    return float(fine) * scale, float(coarse) * scale


def activated_gaussian(
    mean: Floats, variance: Floats, activation: Activation
) -> tuple[Floats, Floats]:
    """Mean and variance behind an activation, exact for Gaussian arguments.

    Args:
        mean: (channels,) float64 of the arguments.
        variance: (channels,) float64, not negative; 0 stands for a constant.
        activation: The activation, with a single slope or one a channel.

    Returns:
        (channels,) and (channels,) float64, accurate to some 1e-15 of the second moment.
    """
    if activation.kind == "none":
        return mean, variance
    slopes = np.broadcast_to(activation.slopes, mean.shape)
    ceiling = np.inf if activation.ceiling is None else activation.ceiling
    deviation = np.sqrt(variance)
    below = _piece(mean, deviation, -np.inf, 0.0)
    within = _piece(mean, deviation, 0.0, ceiling)
    above = 0.0 if np.isinf(ceiling) else _share(mean, deviation, ceiling)
    capped = 0.0 if np.isinf(ceiling) else ceiling
    first = slopes * below[0] + within[0] + capped * above
    second = slopes**2 * below[1] + within[1] + capped**2 * above
    return first, np.maximum(second - first**2, 0)


def _piece(mean: Floats, deviation: Floats, low: float, high: float) -> tuple[Floats, Floats]:
    """E x and E x^2 over the x between two ends; the others count as zero."""
    share = _share(mean, deviation, low) - _share(mean, deviation, high)
    at_low, at_high = _density(mean, deviation, low), _density(mean, deviation, high)
    first = mean * share + deviation**2 * (at_low - at_high)
    # x at a finite end; at an infinite one the density is zero.
    lower, upper = (0.0 if np.isinf(end) else end for end in (low, high))
    ends = (mean + lower) * at_low - (mean + upper) * at_high
    second = (mean**2 + deviation**2) * share + deviation**2 * ends
    return first, second


def _share(mean: Floats, deviation: Floats, end: float) -> Floats:
    """The probability of numbers above an end."""
    if np.isinf(end):
        return np.full(mean.shape, float(end < 0))
    constant = deviation == 0
    scaled = (mean - end) / np.where(constant, 1.0, deviation)
    return np.where(constant, np.asarray(mean > end, np.float64), ndtr(scaled))


def _density(mean: Floats, deviation: Floats, end: float) -> Floats:
    """The density at an end; 0 for a constant."""
    density = np.zeros(mean.shape)
    if np.isinf(end):
        return density
    varies = deviation > 0
    scaled = (end - mean[varies]) / deviation[varies]
    density[varies] = np.exp(-(scaled**2) / 2) / (np.sqrt(2 * np.pi) * deviation[varies])
    return density


def relu_mean_width(
    weight: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    metric: Floats | None = None,
    *,
    activation: AnyActivation = RELU,
    radius: float = 1.0,
    draws: int = 64,
    iterations: int = 50,
    starts: int = 2,
    seed: int = 0,
    provider: ProviderName = "auto",
) -> Width:
    """The Gaussian mean width of the image of the unit ball under x -> phi(Wx + b).

    Args:
        weight: (out, in) W.
        bias: (out,) b; None for none.
        metric: (in, in) symmetric positive definite C: x runs through |C^(-1/2) x| <= 1; the unit
            ball if None.
        activation: phi: a piecewise linear `Activation`, an `ActivationFunction`, or the name of
            one of `ACTIVATIONS`.
        radius: R, where the ball is |x| <= R, or |C^(-1/2) x| <= R.
        draws: How many g; the standard error falls with the root of it.
        iterations: Steps of the ascent for each g.
        starts: Starts for each g, whose best one counts.
        seed: Draws g and the starts.
        provider: Where the ascents run.

    Returns:
        The mean over g of suprema that are approached from below, and certified bounds.

    Raises:
        UsageError: An array has another shape or is not finite, or a number is too small.
    """
    W = checked_weight(weight)
    effort = checked_effort(iterations=iterations, starts=starts, seed=seed, provider=provider)
    layer = layer_of(scaled(W, radius), checked_bias(bias, len(W)), metric, named(activation))
    return sampled_width(layer, at_least("draws", draws, 2), effort)


def sampled_width(layer: Layer, draws: int, effort: Effort) -> Width:
    """The mean width behind a layer's activation, sampled, with certified bounds."""
    linear = width_of(np.linalg.norm(layer.reduced, axis=0))
    lower, upper = width_bracket(linear, layer)
    if _is_linear(layer) or not linear:
        # The width of a shifted set is that of the set: E <g, b> = 0.
        value, error, converged = linear, 0.0, True
    else:
        g = np.random.default_rng([effort.seed, 2]).standard_normal((len(layer.reduced), draws))
        climbed = climb_width(layer, g, effort)
        value = float(climbed.best.mean())
        error = float(climbed.best.std(ddof=1)) / math.sqrt(draws)
        converged = float(climbed.settled.mean()) >= _SETTLED_SHARE
    return Width(
        value=value,
        lower=lower,
        upper=upper,
        standard_error=error,
        iterations=effort.iterations,
        converged=converged,
        seed=effort.seed,
        provider=effort.provider,
    )


def width_bracket(linear: float, layer: Layer) -> tuple[float, float]:
    """Certified bounds of the width behind the activation from the one before it."""
    activation = layer.activation
    if isinstance(activation, ActivationFunction):
        least, most, edges = width_bounds_behind(layer.reduced, activation, layer.bias)
        return (
            width_of(least) * (1 - _SINGULAR_VALUES),
            min(activation.lipschitz * linear, width_of(most), edges) * (1 + _SINGULAR_VALUES),
        )
    slopes = activation.slopes
    if _is_linear(layer):
        return linear, linear
    upper = linear * max(1.0, float(np.max(np.abs(slopes))))
    if not layer.homogeneous:
        return 0.0, upper
    return linear * max(0.0, 1 + float(np.min(slopes))) / 2, upper


def _is_linear(layer: Layer) -> bool:
    return isinstance(layer.activation, Activation) and layer.activation.kind == "none"
