"""Ordinary singular values of W C^(1/2), and the subspaces that a truncation keeps.

All comes from the symmetric matrix W C W' in float64, on the short side, without a root of C: its
eigenvalues are the squared singular values, and with U its leading eigenvectors U U' W is the
best L of that rank in the norm |(W - L) C^(1/2)|, spectral or Frobenius (Eckart, Young, Mirsky).

A large one is reduced to tridiagonal form once (LAPACK's sytrd), which is most of the work; its
eigenvalues cost little more. The reflectors are kept in a temporary file, so that when a rank is
known its eigenvectors need no second reduction: those of the tridiagonal matrix are turned back. A
very large one is never decomposed otherwise.

`untrained_singular_values` draws those that a layer of the same shape has before it is trained.
"""

import ctypes
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import TypeVar

import numpy as np
import scipy.linalg
import scipy.sparse.linalg
from scipy.linalg import cython_lapack, lapack

from onnx_relusv.core.blocks import Covariance, FactoredCovariance, Floats
from onnx_relusv.core.linear_algebra import dense, energy, rooted, weighed
from onnx_relusv.work.disk_arrays import ArrayFile
from onnx_relusv.work.executors import available_cores

# Rows that are hashed at a time.
_ROWS = 256
# Reflections that are applied at a time.
_TURNED = 256
# Squaring halves the digits: below this share of the largest singular value, eigenvalues of the
# Gram matrix lose the accuracy that we promise, and a true SVD takes their place.
GRAM_LIMIT = 1e-5
# Of the shorter side: beyond it there are eigenvalues, and eigenvectors of a rank, but no
# decomposition, which would take several times as long and as much memory.
LARGEST_DECOMPOSED = 6_000
# Of the shorter side: beyond it, where leading vectors or values alone are asked for, they come
# from the tridiagonal form, which takes two fifths of the time of all vectors and serves all ranks.
LARGEST_WHOLE = 1_000
# Of squared norms of such: levels are checked to a thousandth. Products in float32 are a hundred
# times as accurate, and take half the time.
_LARGE_TOLERANCE = 1e-4
_SMALLEST_FOR_LANCZOS = 64
# Ten are enough for random matrices of any size; after twenty, all eigenvalues cost no more.
_LANCZOS_RESTARTS = 20
# Of matrices that are reduced, by content. Each reduction has a file of n^2 float64; by norms
# relative errors are stated and checked.
_REDUCTIONS: "OrderedDict[bytes, Reduction]" = OrderedDict()
_NORMS: OrderedDict[bytes, float] = OrderedDict()
_MOST_REDUCTIONS, _MOST_NORMS = 8, 64
_Value = TypeVar("_Value")


class Reduction:
    """The tridiagonal form of a symmetric matrix.

    Args:
        matrix: (n, n) float64, n > 1; it is used up.
    """

    def __init__(self, matrix: Floats) -> None:
        # Seen column by column, as LAPACK does, a symmetric matrix is itself.
        reflectors = np.ascontiguousarray(matrix, np.float64)
        self._diagonal, self._beside, self._scales = _tridiagonal(reflectors)
        self._file = ArrayFile()
        self._reflectors = self._file.put(reflectors)

    @cached_property
    def values(self) -> Floats:
        """The eigenvalues, descending."""
        return np.asarray(scipy.linalg.eigvalsh_tridiagonal(self._diagonal, self._beside)[::-1])

    def vectors(self, count: int) -> Floats:
        """(n, count) eigenvectors of the largest eigenvalues, these descending."""
        n = len(self._diagonal)
        # The default orthogonalises vectors of near eigenvalues one by one.
        _, turned = scipy.linalg.eigh_tridiagonal(
            self._diagonal,
            self._beside,
            select="i",
            select_range=(n - count, n - 1),
            lapack_driver="stemr",
        )
        vectors = np.ascontiguousarray(turned[:, ::-1], np.float64)
        for start in reversed(range(0, n - 1, _TURNED)):
            self._turn(vectors, start, min(start + _TURNED, n - 1))
        return vectors

    def _turn(self, vectors: Floats, start: int, stop: int) -> None:
        """Applies the reflections of a range of columns to vectors, in place.

        Together they are I - V T V', with T upper triangular and strictly above its diagonal
        T^-1 = V' V (Schreiber, Van Loan, 1989). LAPACK's ormqr takes 32 columns at a time, which
        for few vectors is several times slower. What is read is no more than these columns.
        """
        count = stop - start
        read = self._file.mapped(self._reflectors)[start:stop]
        # A reflector begins below the diagonal with a one that is not stored.
        reflectors = np.triu(read[:, start + 1 :], 1)
        scales = self._scales[start:stop]
        used = scales != 0
        reflectors[np.arange(count), np.arange(count)] = 1
        reflectors *= used[:, None]
        inverse = np.triu(reflectors @ reflectors.T, 1)
        inverse[np.diag_indices(count)] = 1 / np.where(used, scales, 1)
        below = vectors[start + 1 :]
        below -= reflectors.T @ scipy.linalg.solve_triangular(inverse, reflectors @ below)


def _tridiagonal(matrix: Floats) -> tuple[Floats, Floats, Floats]:
    """LAPACK's dsytrd of the lower triangle, column by column, in place.

    `scipy.linalg.lapack.dsytrd` is the same, but nothing else in Python runs meanwhile: for
    minutes no signal would be heard and no progress shown. So scipy's pointer for Cython is called.

    Returns:
        (n,) diagonal, (n - 1,) what is beside it, (n - 1,) the reflectors' scales.
    """
    n = len(matrix)
    diagonal, beside, scales = np.empty(n), np.empty(n - 1), np.empty(n - 1)
    work = np.empty(int(lapack.dsytrd_lwork(n, lower=1)[0]))
    order, size, problem = (ctypes.c_int(value) for value in (n, len(work), 0))
    arrays = (array.ctypes.data for array in (matrix, diagonal, beside, scales, work))
    a, d, e, tau, w = (ctypes.c_void_p(place) for place in arrays)
    where = ctypes.byref
    _DSYTRD(b"L", where(order), a, where(order), d, e, tau, w, where(size), where(problem))
    assert problem.value == 0  # only arguments can be wrong
    return diagonal, beside, scales


def _pointer(capsule: object) -> int:
    """The address of a function that scipy exports to Cython."""
    name_of = ctypes.pythonapi.PyCapsule_GetName
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    address_of = ctypes.pythonapi.PyCapsule_GetPointer
    address_of.restype, address_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return int(address_of(capsule, name_of(capsule)))


_DSYTRD = ctypes.CFUNCTYPE(None, ctypes.c_char_p, *[ctypes.c_void_p] * 9)(
    _pointer(cython_lapack.__pyx_capi__["dsytrd"])
)


def _keep(kept: "OrderedDict[bytes, _Value]", key: bytes, value: _Value, most: int) -> _Value:
    """Keeps a result of a large matrix; the oldest of more than so many goes."""
    kept[key] = value
    while len(kept) > most:
        kept.popitem(last=False)
    return value


def content_key(matrix: Floats, metric: Covariance | None) -> bytes:
    """A digest of a matrix and its metric."""
    digest = blake2b(repr(matrix.shape).encode())
    parts = [matrix]
    if isinstance(metric, FactoredCovariance):
        parts += [metric.factor, metric.diagonal]
    elif metric is not None:
        parts.append(metric)
    with ThreadPoolExecutor(available_cores()) as pool:
        for part in parts:
            # Rows of a view that is transposed would be gathered one number at a time.
            along = part.T if part.flags.f_contiguous else part
            digest.update(repr(part.flags.f_contiguous).encode())
            starts = range(0, len(along), _ROWS)
            for part_digest in pool.map(
                lambda start, of=along: _digest(of[start : start + _ROWS]), starts
            ):
                digest.update(part_digest)
    return digest.digest()


def _digest(rows: Floats) -> bytes:
    return blake2b(np.ascontiguousarray(rows).data).digest()


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
        decomposition = Decomposition(sigma, left * sigma)
    else:
        root = _root(matrix, metric)
        squares, right = _eigen(root.T @ root)
        decomposition = Decomposition(np.sqrt(np.maximum(squares, 0)), root @ right)
    if metric is None and decomposition.sigma[-1] < GRAM_LIMIT * decomposition.sigma[0]:
        left, sigma, _ = scipy.linalg.svd(matrix, full_matrices=False, check_finite=False)
        return Decomposition(sigma, left * sigma)
    return decomposition


def is_large(matrix: Floats) -> bool:
    """Whether a matrix is too large to be decomposed, and not only measured."""
    return bool(min(matrix.shape) > LARGEST_DECOMPOSED)


def measured(matrix: Floats, metric: Covariance | None = None) -> Decomposition:
    """The decomposition, or of a large matrix its singular values and the map as it is."""
    if not is_large(matrix):
        return decompose(matrix, metric)
    sigma = np.sqrt(np.maximum(_reduction(matrix, metric).values, 0))
    return Decomposition(sigma, rooted(matrix, metric), aligned=False)


def is_reduced(shape: tuple[int, ...]) -> bool:
    """Whether leading vectors, or values alone, of such a matrix come from its tridiagonal form."""
    return min(shape) > LARGEST_WHOLE


def valued(matrix: Floats, metric: Covariance | None = None) -> Decomposition:
    """The decomposition, or where that takes longer its singular values with the matrix itself."""
    if not is_reduced(matrix.shape):
        return decompose(matrix, metric)
    sigma = np.sqrt(np.maximum(_reduction(matrix, metric).values, 0))
    return Decomposition(sigma, matrix, aligned=False)


def singular_values(matrix: Floats, metric: Covariance | None = None) -> Floats:
    """The singular values of W C^(1/2) alone, as accurate as those of `decompose`, and faster.

    Args:
        matrix: (out, in).
        metric: (in, in) float64 positive definite C; the identity if None.

    Returns:
        (min(out, in),) float64, descending.
    """
    matrix = np.asarray(matrix, np.float64)
    gram = _gram(matrix, metric)
    values: Floats = np.sqrt(np.maximum(np.linalg.eigvalsh(gram)[::-1], 0))
    if metric is None and values[-1] < GRAM_LIMIT * values[0]:
        return np.asarray(scipy.linalg.svdvals(matrix, check_finite=False))
    return values


def left_basis(matrix: Floats, metric: Covariance | None = None, most: int | None = None) -> Floats:
    """The left singular vectors of W C^(1/2), (out, r), leading ones first; `most` are enough.

    Vectors of singular values that are nearly equal, or nearly zero, span the right space without
    being determined one by one.
    """
    if most is not None and is_reduced(matrix.shape):
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
    if key in _REDUCTIONS:
        return _REDUCTIONS[key]
    return _keep(_REDUCTIONS, key, Reduction(_gram(matrix, metric)), _MOST_REDUCTIONS)


def _gram(matrix: Floats, metric: Covariance | None) -> Floats:
    """The Gram matrix on the short side."""
    if matrix.shape[0] <= matrix.shape[1]:
        return energy(matrix, metric)
    root = _root(matrix, metric)
    return np.asarray(root.T @ root)


def metric_norm(matrix: Floats, metric: Covariance | None) -> float:
    """|M C^(1/2)|_2; of a very large matrix without a product of two such, and once."""
    if not is_large(matrix):
        return spectral_norm(energy(matrix, metric))
    key = content_key(matrix, metric)
    if key not in _NORMS:
        reduction = _REDUCTIONS.get(key)
        square = _large_square(matrix, metric) if reduction is None else reduction.values[0]
        _keep(_NORMS, key, float(np.sqrt(max(square, 0.0))), _MOST_NORMS)
    return _NORMS[key]


def _large_square(matrix: Floats, metric: Covariance | None) -> float:
    """The largest eigenvalue of M C M', by products in float32."""
    single = matrix.astype(np.float32)

    def applied(v: Floats) -> Floats:
        weighted = weighed(metric, (v.astype(np.float32) @ single).astype(np.float64))
        return np.asarray(single @ weighted.astype(np.float32), np.float64)

    start = np.random.default_rng(0).standard_normal(len(matrix))
    operator = scipy.sparse.linalg.LinearOperator((len(matrix),) * 2, applied, dtype=np.float64)
    squares = scipy.sparse.linalg.eigsh(
        operator, k=1, which="LA", v0=start, tol=_LARGE_TOLERANCE, return_eigenvectors=False
    )
    return float(squares[0])


def _root(matrix: Floats, metric: Covariance | None) -> Floats:
    """M C^(1/2) of a matrix with more rows than columns."""
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
