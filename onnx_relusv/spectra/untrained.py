"""The singular values that a layer of the same shape has before it is trained."""

import numpy as np
import scipy.linalg

from onnx_relusv.records import Covariance, Floats
from onnx_relusv.spectra.singular import singular_values


def untrained_singular_values(
    rows: int, columns: int, norm: float, rng: np.random.Generator, metric: Covariance | None = None
) -> Floats:
    """Draws the singular values of a matrix of independent Gaussian entries.

    Without a metric they are drawn without the matrix: a Gaussian matrix can be turned, without a
    change of its singular values, into a bidiagonal one whose entries are independent and follow
    chi distributions (Dumitriu, Edelman, "Matrix models for beta ensembles", 2002).

    Args:
        rows: Rows of the matrix.
        columns: Columns of the matrix.
        norm: Its Frobenius norm, in the metric, after scaling.
        rng: Draws it.
        metric: (columns, columns) C: the singular values are those of G C^(1/2).

    Returns:
        (min(rows, columns),) float64, descending.
    """
    if metric is None:
        values = _gaussian(max(rows, columns), min(rows, columns), rng)
    else:
        values = singular_values(rng.standard_normal((rows, columns)), metric)
    total = float(np.linalg.norm(values))
    return values * (norm / total) if total else values


def _gaussian(long: int, short: int, rng: np.random.Generator) -> Floats:
    diagonal = np.sqrt(rng.chisquare(np.arange(long, long - short, -1)))
    beside = np.sqrt(rng.chisquare(np.arange(short - 1, 0, -1)))
    squares = diagonal**2
    squares[1:] += beside**2
    values = scipy.linalg.eigvalsh_tridiagonal(squares, diagonal[:-1] * beside)
    return np.asarray(np.sqrt(np.maximum(values[::-1], 0)))
