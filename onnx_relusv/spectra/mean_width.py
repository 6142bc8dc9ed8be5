"""Gaussian mean width of the linear image of the unit ball.

    w(A) = E sup_(|x| <= 1) <g, Ax> = E |A'g| = E sqrt(sum sigma_i^2 g_i^2),   g standard normal.

For a sum Q of independent squares, E sqrt(Q) is one integral over Q's Laplace transform:

    E sqrt(Q) = 1 / (2 sqrt(pi)) * integral_0^inf (1 - F(t)) t^(-3/2) dt,
    F(t) = prod_i (1 + 2 t sigma_i^2)^(-1/2).
"""

import math

import numpy as np

from onnx_relusv.records import Floats

# With t = exp(u) the integrand decays like exp(-|u|/2), is analytic, and is bounded for
# |Im u| < pi / 2 however many values there are. So the trapezoidal rule with step h is off by
# about exp(-pi^2 / h): 1e-17 for h = 1/4. What is cut off at both ends is below exp(-32) = 1e-14.
_LOWEST, _HIGHEST, _POINTS = -64.0, 64.0, 513
_CHUNK = 512


def mean_width(sigma: Floats) -> float:
    """The mean width of a linear map, to a relative error of 1e-11.

    Args:
        sigma: (r,) singular values of the map; their order does not matter.

    Returns:
        w in the units of the output; certified up to the quadrature's error.
    """
    squares = np.asarray(sigma, np.float64) ** 2
    total = float(squares.sum())
    if total == 0:
        return 0.0
    u = np.linspace(_LOWEST, _HIGHEST, _POINTS)
    t = np.exp(u)
    # Normalised by the sum of squares, so that the integrand's weight lies around u = 0.
    logarithm = np.zeros_like(t)
    for start in range(0, len(squares), _CHUNK):
        part = squares[start : start + _CHUNK, None] / total
        logarithm += np.log1p(2 * t * part).sum(axis=0)
    values = -np.expm1(-0.5 * logarithm) * np.exp(-0.5 * u)
    integral = float(np.trapezoid(values, u))
    return math.sqrt(total) * integral / (2 * math.sqrt(math.pi))
