"""Ordinary singular values of W C^(1/2), and the subspaces that a truncation keeps.

All comes from the symmetric matrix W C W' in float64, on the short side, without a root of C: its
eigenvalues are the squared singular values, and with U its leading eigenvectors U U' W is the
best L of that rank in the norm |(W - L) C^(1/2)|, spectral or Frobenius (Eckart, Young, Mirsky).
"""

from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.sparse.linalg

from onnx_relusv.covariance import dense, energy, rooted, weighed
from onnx_relusv.records import Covariance, FactoredCovariance, Floats
from onnx_relusv.spectra.large_symmetric import (
    Reduction,
    content_key,
    keep_norm,
    keep_reduction,
    kept_norm,
    kept_reduction,
)

# Squaring halves the digits: below this share of the largest singular value, eigenvalues of the
# Gram matrix lose the accuracy that we promise, and a true SVD takes their place.
GRAM_LIMIT = 1e-5
# Of the shorter side: beyond it there are eigenvalues, and eigenvectors of a rank, but no
# decomposition, which would take several times as long and as much memory.
LARGEST_DECOMPOSED = 6_000
# Of squared norms of such: levels are checked to a thousandth. Products in float32 are a hundred
# times as accurate, and take half the time.
_LARGE_TOLERANCE = 1e-4
_SMALLEST_FOR_LANCZOS = 64
# Ten are enough for random matrices of any size; after twenty, all eigenvalues are not dearer.
_LANCZOS_RESTARTS = 20


@dataclass(frozen=True, eq=False)
class Decomposition:
    """The singular value decomposition of W C^(1/2), as far as it is needed.

    Attributes:
        sigma: (r,) singular values, descending, r = min(out, in).
        reduced: (out, r), U diag(sigma): the map in the coordinates of its right singular vectors;
            of a very large one (out, n), itself in any coordinates of its inputs.
        aligned: Whether it is that of the right singular vectors.
    """

    sigma: Floats
    reduced: Floats
    aligned: bool = True


def decompose(matrix: Floats, metric: Covariance | None = None) -> Decomposition:
    """Decomposes W C^(1/2).

    Args:
        matrix: (out, in) float64.
        metric: (in, in) float64 positive definite C, or a factored one; the identity if None.

    Returns:
        Singular values with a relative error below 1e-6 above 1e-5 of the largest; below that
        too for C = I, while in a metric, which is itself estimated, the error is absolute there.
    """
    rows, columns = matrix.shape
    if rows <= columns:
        squares, left = _eigen(energy(matrix, metric))
        sigma = np.sqrt(np.maximum(squares, 0))
        found = Decomposition(sigma, left * sigma)
    else:
        root = _root(matrix, metric)
        squares, right = _eigen(root.T @ root)
        found = Decomposition(np.sqrt(np.maximum(squares, 0)), root @ right)
    if metric is None and found.sigma[-1] < GRAM_LIMIT * found.sigma[0]:
        left, sigma, _ = scipy.linalg.svd(matrix, full_matrices=False, check_finite=False)
        return Decomposition(sigma, left * sigma)
    return found


def is_large(matrix: Floats) -> bool:
    """Whether a matrix is too large to be decomposed, and not only measured."""
    return bool(min(matrix.shape) > LARGEST_DECOMPOSED)


def measured(matrix: Floats, metric: Covariance | None = None) -> Decomposition:
    """The decomposition, or of a large matrix its singular values and the map as it is."""
    if not is_large(matrix):
        return decompose(matrix, metric)
    sigma = np.sqrt(np.maximum(_reduction(matrix, metric).values(), 0))
    return Decomposition(sigma, rooted(matrix, metric), aligned=False)


def singular_values(matrix: Floats, metric: Covariance | None = None) -> Floats:
    """The singular values of W C^(1/2) alone, as accurate as those of `decompose`, and faster.

    Args:
        matrix: (out, in).
        metric: (in, in) float64 positive definite C; the identity if None.

    Returns:
        (min(out, in),) float64, descending.
    """
    matrix = np.asarray(matrix, np.float64)
    rows, columns = matrix.shape
    if rows <= columns:
        gram = energy(matrix, metric)
    else:
        root = _root(matrix, metric)
        gram = root.T @ root
    values: Floats = np.sqrt(np.maximum(np.linalg.eigvalsh(gram)[::-1], 0))
    if metric is None and values[-1] < GRAM_LIMIT * values[0]:
        return np.asarray(scipy.linalg.svdvals(matrix, check_finite=False))
    return values


def left_basis(matrix: Floats, metric: Covariance | None = None, most: int | None = None) -> Floats:
    """The left singular vectors of W C^(1/2), (out, r), leading ones first; `most` are enough.

    Vectors of singular values that are nearly equal, or nearly zero, span the right space without
    being determined one by one.
    """
    if most is not None and is_large(matrix):
        vectors = _reduction(matrix, metric).vectors(min(most, *matrix.shape))
        if matrix.shape[0] <= matrix.shape[1]:
            return vectors
        return np.linalg.qr(_root(matrix, metric) @ vectors)[0]
    if matrix.shape[0] <= matrix.shape[1]:
        return _eigen(energy(matrix, metric))[1]
    # Orthonormalised again: columns of tiny singular values come out of the product inexact.
    return np.linalg.qr(decompose(matrix, metric).reduced)[0]


def _reduction(matrix: Floats, metric: Covariance | None) -> Reduction:
    """The tridiagonal form of the Gram matrix on the short side, made once."""
    key = content_key(matrix, metric)
    found = kept_reduction(key)
    if found is not None:
        return found
    if matrix.shape[0] <= matrix.shape[1]:
        return keep_reduction(key, Reduction(energy(matrix, metric)))
    root = _root(matrix, metric)
    return keep_reduction(key, Reduction(root.T @ root))


def metric_norm(matrix: Floats, metric: Covariance | None) -> float:
    """|M C^(1/2)|_2; of a very large matrix without a product of two such, and once."""
    if not is_large(matrix):
        return spectral_norm(energy(matrix, metric))
    key = content_key(matrix, metric)
    known, reduction = kept_norm(key), kept_reduction(key)
    if known is not None:
        return known
    if reduction is not None:
        return keep_norm(key, float(np.sqrt(max(reduction.values()[0], 0.0))))

    single = matrix.astype(np.float32)

    def applied(v: Floats) -> Floats:
        weighted = weighed(metric, (v.astype(np.float32) @ single).astype(np.float64))
        return np.asarray(single @ weighted.astype(np.float32), np.float64)

    start = np.random.default_rng(0).standard_normal(len(matrix))
    operator = scipy.sparse.linalg.LinearOperator((len(matrix),) * 2, applied, dtype=np.float64)
    found = scipy.sparse.linalg.eigsh(
        operator, k=1, which="LA", v0=start, tol=_LARGE_TOLERANCE, return_eigenvectors=False
    )
    return keep_norm(key, float(np.sqrt(max(found[0], 0.0))))


def _root(matrix: Floats, metric: Covariance | None) -> Floats:
    """M C^(1/2) of a matrix with more rows than columns, so that a square of these is the less."""
    return rooted(matrix, dense(metric) if isinstance(metric, FactoredCovariance) else metric)


def _eigen(gram: Floats) -> tuple[Floats, Floats]:
    """Eigenvalues, descending, and eigenvectors of a symmetric matrix."""
    squares, vectors = np.linalg.eigh(gram)
    return squares[::-1], np.ascontiguousarray(vectors[:, ::-1])


def spectral_norm(gram: Floats) -> float:
    """The root of the largest eigenvalue of a symmetric positive semidefinite matrix."""
    if len(gram) <= _SMALLEST_FOR_LANCZOS:
        largest = np.linalg.eigvalsh(gram)[-1]
    elif not np.any(gram):
        return 0.0
    else:
        # A fixed start, so that a run can be repeated; random, so that it misses no eigenvector.
        start = np.random.default_rng(0).standard_normal(len(gram))
        try:
            largest = scipy.sparse.linalg.eigsh(
                gram,
                k=1,
                which="LA",
                v0=start,
                tol=1e-10,
                maxiter=_LANCZOS_RESTARTS,
                return_eigenvectors=False,
            )[0]
        except scipy.sparse.linalg.ArpackNoConvergence:
            # Equal singular values but for rounding, as spectral normalisation leaves them.
            largest = np.linalg.eigvalsh(gram)[-1]
    return float(np.sqrt(max(largest, 0.0)))
