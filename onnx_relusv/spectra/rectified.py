"""Mean and variance of a Gaussian behind a piecewise linear activation, in closed form.

A number x of N(m, s^2) becomes slope * x below 0, x between 0 and the ceiling, and the ceiling
above it. Every piece contributes the moments of a Gaussian that is cut off at its ends.
"""

import numpy as np
from scipy.special import ndtr

from onnx_relusv.records import Activation, Floats


def activated_gaussian(
    mean: Floats, variance: Floats, activation: Activation
) -> tuple[Floats, Floats]:
    """Mean and variance behind an activation, exact for Gaussian arguments.

    Args:
        mean: (channels,) float64 of the arguments.
        variance: (channels,) float64, not negative; 0 stands for a constant.
        activation: The activation; its slopes are one, or one a channel.

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
    found = np.zeros(mean.shape)
    if np.isinf(end):
        return found
    varies = deviation > 0
    scaled = (end - mean[varies]) / deviation[varies]
    found[varies] = np.exp(-(scaled**2) / 2) / (np.sqrt(2 * np.pi) * deviation[varies])
    return found
