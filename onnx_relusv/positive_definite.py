"""Linear systems with covariances: symmetric positive definite matrices."""

import numpy as np
import scipy.linalg

from onnx_relusv.records import Floats


def solved(matrix: Floats, right: Floats) -> Floats:
    """The X with matrix X = right, by a Cholesky factor, without an estimate of the condition.

    Covariances are shrunk, or have a ridge; scipy's `solve` asks LAPACK how well conditioned each
    of them is, which takes as long as the solution.

    Args:
        matrix: (n, n) float64, symmetric.
        right: (n, k) float64.

    Raises:
        numpy.linalg.LinAlgError: The matrix is not positive definite.
    """
    if not len(matrix):
        return np.zeros_like(right)
    # Seen column by column, as LAPACK does, a symmetric matrix is itself.
    _, found, problem = scipy.linalg.lapack.dposv(matrix.T, right, lower=1)
    if problem:
        raise np.linalg.LinAlgError(f"the leading minor of order {problem} is not positive")
    return np.asarray(found)
