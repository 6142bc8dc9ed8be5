"""Mean width against Monte Carlo, and the largest ReLU singular value against enumeration."""

import math

import numpy as np
from timing import medians, readable

from onnx_relusv.spectra.bounds import exact_largest
from onnx_relusv.spectra.mean_widths import width_of
from onnx_relusv.spectra.relu_values import relu_singular_values, singular_values

DRAWS = 1_000_000
_CHUNK = 10_000
_ROUNDS = 3
MATRICES = 200
_LARGEST_SIDE = 12
_EQUAL = 1e-6


def mean_width_against_draws(matrix: np.ndarray) -> str:
    """By how many standard errors the two differ, and by how much faster quadrature is."""
    sigma = singular_values(matrix)
    width = width_of(sigma)
    drawn, error = _monte_carlo(sigma)
    seconds = medians(
        {"quadrature": lambda: width_of(sigma), "draws": lambda: _monte_carlo(sigma)}, _ROUNDS
    )
    return (
        f"{abs(width - drawn) / error:.1f} standard errors; "
        f"{seconds['draws'] / seconds['quadrature']:,.0f} times faster "
        f"({readable(seconds['quadrature'])} against {readable(seconds['draws'])}, "
        f"{len(sigma)} values)"
    )


def _monte_carlo(sigma: np.ndarray) -> tuple[float, float]:
    """E |diag(sigma) g| from draws of g, and its standard error."""
    rng = np.random.default_rng(0)
    squares = sigma**2
    lengths = [
        np.sqrt(np.square(rng.standard_normal((_CHUNK, len(sigma)))) @ squares)
        for _ in range(DRAWS // _CHUNK)
    ]
    drawn = np.concatenate(lengths)
    return float(drawn.mean()), float(drawn.std(ddof=1)) / math.sqrt(DRAWS)


def estimate_against_enumeration() -> str:
    """For how many small Gaussian matrices of all shapes the estimate of s_0 is exact."""
    rng = np.random.default_rng(0)
    differences = []
    for _ in range(MATRICES):
        matrix = rng.standard_normal(rng.integers(1, _LARGEST_SIDE + 1, 2))
        found = relu_singular_values(matrix, ranks=[0], provider="cpu")
        differences.append(abs(found.estimate[0] / exact_largest(matrix) - 1))
    equal = sum(difference < _EQUAL for difference in differences)
    return f"{equal} of {MATRICES}; largest relative difference {max(differences):.0e}"
