"""The quadrature of mean widths against closed forms and against sampling."""

import math
from collections.abc import Sequence

import numpy as np
from bundled import MeasuredBlock
from page import markdown_table
from scipy.special import ellipe, gammaln

from onnx_relusv.spectra.mean_widths import width_of

_SIZES = (1, 2, 3, 10, 100, 1000, 5000)
_RATIOS = (1.0, 0.9, 0.1, 1e-3, 1e-6)
_DRAWS, _CHUNK = 200_000, 10_000


def table(blocks: Sequence[MeasuredBlock]) -> str:
    """The largest differences that were seen."""
    identity = max(abs(width_of(np.ones(n)) / _mean_length(n) - 1) for n in _SIZES)
    two = max(abs(width_of(np.array([1, r])) / _mean_radius(r) - 1) for r in _RATIOS)
    errors = np.array([_standard_errors(one.spectrum.sigma) for one in blocks])
    rows = [
        [f"identities of {_SIZES[0]} to {_SIZES[-1]:,} rows, E\\|g\\|", f"{identity:.0e} relative"],
        ["two singular values, an elliptic integral", f"{two:.0e} relative"],
        [
            f"all {len(blocks)} blocks, {_DRAWS:,} draws of g each",
            f"{np.abs(errors).max():.1f} standard errors",
        ],
    ]
    return markdown_table(["quadrature against", "largest difference"], rows)


def _mean_length(size: int) -> float:
    return math.sqrt(2) * math.exp(gammaln((size + 1) / 2) - gammaln(size / 2))


def _mean_radius(ratio: float) -> float:
    """Polar coordinates: the mean radius times that of an ellipse."""
    return math.sqrt(math.pi / 2) * 2 / math.pi * float(ellipe(1 - ratio**2))


def _standard_errors(sigma: np.ndarray) -> float:
    """How far the quadrature is from a mean over draws, in its standard errors."""
    rng = np.random.default_rng(0)
    squares = (sigma**2).astype(np.float32)
    lengths = np.concatenate(
        [
            np.sqrt(rng.standard_normal((_CHUNK, len(sigma)), np.float32) ** 2 @ squares)
            for _ in range(_DRAWS // _CHUNK)
        ]
    ).astype(np.float64)
    error = lengths.std(ddof=1) / math.sqrt(_DRAWS)
    return float((width_of(sigma) - lengths.mean()) / error)
