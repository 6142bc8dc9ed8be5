"""Gaussian mean width of the linear image of the unit ball.

    w(A) = E sup_(|x| <= 1) <g, Ax> = E |A'g| = E sqrt(sum sigma_i^2 g_i^2),   g standard normal.

For a sum Q of independent squares, E sqrt(Q) is one integral over Q's Laplace transform:

    E sqrt(Q) = 1 / (2 sqrt(pi)) * integral_0^inf (1 - F(t)) t^(-3/2) dt,
    F(t) = prod_i (1 + 2 t sigma_i^2)^(-1/2).
"""

import math

import numpy as np
import numpy.typing as npt

from onnx_relusv.measures import Width
from onnx_relusv.records import Floats
from onnx_relusv.spectra.layers import checked_weight
from onnx_relusv.spectra.singular import singular_values

# With t = exp(u) the integrand decays like exp(-|u|/2), is analytic, and is bounded for
# |Im u| < pi / 2 however many values there are. So the trapezoidal rule with step h is off by
# about exp(-pi^2 / h): 1e-17 for h = 1/4. What is cut off at both ends is below exp(-32) = 1e-14.
_LOWEST, _HIGHEST, _POINTS = -64.0, 64.0, 513
_CHUNK = 512
_SINGULAR_VALUES = 5e-7


# Twice the step is off by about exp(-pi^2 * 2) = 3e-9; more says that something is wrong.
_COARSE_ERROR = 1e-7


def mean_width(weight: npt.ArrayLike) -> Width:
    """The Gaussian mean width of the image of the unit ball under W, by quadrature.

    Args:
        weight: (out, in).

    Returns:
        The width; its bounds are 1e-6 apart, which the singular values need, not the quadrature.

    Raises:
        UsageError: The weight is no finite matrix.
    """
    fine, coarse = _quadrature(singular_values(checked_weight(weight)))
    return Width(
        value=fine,
        lower=fine * (1 - _SINGULAR_VALUES),
        upper=fine * (1 + _SINGULAR_VALUES),
        standard_error=0.0,
        iterations=_POINTS,
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


def _quadrature(sigma: Floats) -> tuple[float, float]:
    """The width, and the same from half as many points."""
    squares = np.asarray(sigma, np.float64) ** 2
    total = float(squares.sum())
    if total == 0:
        return 0.0, 0.0
    u = np.linspace(_LOWEST, _HIGHEST, _POINTS)
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
