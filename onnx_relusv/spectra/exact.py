"""The largest ReLU singular value of small matrices, exactly, by enumeration."""

from itertools import combinations

import numpy as np
import numpy.typing as npt

from onnx_relusv.errors import UsageError
from onnx_relusv.spectra.layers import checked_weight

MOST_ROWS = 14
# An entry of a unit eigenvector below this is zero but for rounding.
_ROUNDING = 1e-12


def exact_largest(weight: npt.ArrayLike) -> float:
    """s_0 of a Relu layer without bias: the square root of max u'WW'u over u >= 0, |u| = 1.

    At the maximum u is positive on some set S of rows and there an eigenvector, for its largest
    eigenvalue, of the rows' Gram matrix; so the sets whose top eigenvector can be taken
    non-negative are all that counts. A set with several top eigenvectors needs no care: if one of
    them is non-negative, one with fewer positive entries is, and that set is looked at as well.

    Args:
        weight: (out, in), at most 14 rows.

    Returns:
        s_0, exact up to the rounding of float64 eigenvalues.

    Raises:
        UsageError: There are more rows, or the weight is no finite matrix.
    """
    weight = checked_weight(weight)
    rows = len(weight)
    if rows > MOST_ROWS:
        raise UsageError(f"{rows} rows: enumeration takes {MOST_ROWS} at most.")
    gram = weight @ weight.T
    best = 0.0
    for size in range(1, rows + 1):
        sets = np.array(list(combinations(range(rows), size)))
        values, vectors = np.linalg.eigh(gram[sets[:, :, None], sets[:, None, :]])
        top = vectors[:, :, -1]
        top = top * np.where(top.sum(axis=1, keepdims=True) < 0, -1, 1)
        counted = (top >= -_ROUNDING).all(axis=1)
        best = max(best, float(np.max(values[counted, -1], initial=0.0)))
    return float(np.sqrt(best))
