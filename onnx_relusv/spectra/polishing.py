"""The last digits of a largest ReLU singular value that an ascent has nearly found.

Where the set of active units no longer changes, an ascent of |phi(Wx)| is a power method for one
linear map, the activated operator. Its limit is that map's top singular vector.
"""

import math

import numpy as np
import scipy.linalg
import scipy.sparse.linalg

from onnx_relusv.records import Floats

_MOST_STEPS = 8
_SMALLEST_FOR_LANCZOS = 64


def polished(reduced: Floats, slopes: Floats, x: Floats, value: float) -> float:
    """Goes from top vector to top vector as long as |phi(Wx)| grows, without a bias or ceiling.

    Args:
        reduced: (out, r) float64, W.
        slopes: (out,) float64, of phi for negative arguments.
        x: (r,) unit vector.
        value: What |phi(Wx)| is there, or what is known to be met elsewhere.

    Returns:
        The largest value met, computed in float64 at a unit vector; never less than `value`.
    """
    for _ in range(_MOST_STEPS):
        active = np.where(reduced @ x > 0, 1.0, slopes)[:, None] * reduced
        x = _top_vector(active, x)
        y = reduced @ x
        reached = float(np.linalg.norm(np.where(y > 0, y, slopes * y)))
        if reached <= value:
            return value
        gain, value = reached / value - 1 if value else math.inf, reached
        if gain < np.finfo(float).eps:
            break
    return value


def _top_vector(matrix: Floats, start: Floats) -> Floats:
    """The right singular vector of the largest singular value, on the start's side."""
    columns = matrix.shape[1]
    if columns <= _SMALLEST_FOR_LANCZOS:
        x = scipy.linalg.eigh(matrix.T @ matrix, subset_by_index=[columns - 1] * 2)[1][:, 0]
    else:
        square = scipy.sparse.linalg.LinearOperator(
            (columns, columns), matvec=lambda v: matrix.T @ (matrix @ v), dtype=np.float64
        )
        try:
            x = scipy.sparse.linalg.eigsh(square, k=1, v0=start, tol=1e-12)[1][:, 0]
        except scipy.sparse.linalg.ArpackNoConvergence:
            return start
    return np.asarray(-x if x @ start < 0 else x)
