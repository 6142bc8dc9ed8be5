"""Eigenvalues of a very large symmetric matrix, and later the leading eigenvectors.

The matrix is reduced to tridiagonal form once (LAPACK's sytrd), which is most of the work; its
eigenvalues cost little more. The reflectors are kept in a temporary file, so that when a rank is
known its eigenvectors need no second reduction: those of the tridiagonal matrix are turned back.
"""

from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from hashlib import blake2b

import numpy as np
import scipy.linalg
from scipy.linalg import lapack

from onnx_relusv.parallel import available_cores
from onnx_relusv.records import Covariance, FactoredCovariance, Floats
from onnx_relusv.temporary_files import nameless_file

# Reductions that are kept; each has a file of n^2 float64.
_MOST_KEPT = 8
_MOST_NORMS = 64
_CHUNK = 64 << 20
# Rows that are hashed at a time.
_ROWS = 256
# Reflections that are applied at a time.
_TURNED = 256
_KEPT: "OrderedDict[bytes, Reduction]" = OrderedDict()
_NORMS: OrderedDict[bytes, float] = OrderedDict()


class Reduction:
    """The tridiagonal form of a symmetric matrix.

    Args:
        matrix: (n, n) float64, n > 1; it is used up.
    """

    def __init__(self, matrix: Floats) -> None:
        n = len(matrix)
        lwork = int(lapack.dsytrd_lwork(n, lower=1)[0])
        # Seen column by column, as LAPACK does, a symmetric matrix is itself.
        reflectors, self._diagonal, self._beside, self._scales, problem = lapack.dsytrd(
            matrix.T, lower=1, lwork=lwork, overwrite_a=1
        )
        assert not problem  # only arguments can be wrong
        self._file = nameless_file()
        content = np.ascontiguousarray(reflectors.T).reshape(-1).view(np.uint8).data
        while content:
            content = content[self._file.write(content[:_CHUNK]) :]
        self._shape = (n, n)

    @cached_property
    def _values(self) -> Floats:
        return np.asarray(scipy.linalg.eigvalsh_tridiagonal(self._diagonal, self._beside)[::-1])

    def values(self) -> Floats:
        """The eigenvalues, descending."""
        return self._values

    def vectors(self, count: int) -> Floats:
        """(n, count) eigenvectors of the largest eigenvalues, these descending."""
        n = self._shape[0]
        # The default orthogonalises vectors of near eigenvalues one by one.
        _, turned = scipy.linalg.eigh_tridiagonal(
            self._diagonal,
            self._beside,
            select="i",
            select_range=(n - count, n - 1),
            lapack_driver="stemr",
        )
        found = np.ascontiguousarray(turned[:, ::-1], np.float64)
        for start in reversed(range(0, n - 1, _TURNED)):
            self._turn(found, start, min(start + _TURNED, n - 1))
        return found

    def _turn(self, vectors: Floats, start: int, stop: int) -> None:
        """Applies the reflections of a range of columns to vectors, in place.

        Together they are I - V T V', with T upper triangular and strictly above its diagonal
        T^-1 = V' V (Schreiber, Van Loan, 1989). LAPACK's ormqr takes 32 columns at a time, which
        for few vectors is several times slower. What is read is no more than these columns.
        """
        n, count = self._shape[0], stop - start
        self._file.seek(start * n * np.dtype(np.float64).itemsize)
        read = np.fromfile(self._file, np.float64, count * n).reshape(count, n)
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

    def close(self) -> None:
        """Lets the file go."""
        self._file.close()


def kept_reduction(key: bytes) -> Reduction | None:
    """The reduction that was kept under a key."""
    return _KEPT.get(key)


def keep_reduction(key: bytes, reduction: Reduction) -> Reduction:
    """Keeps a reduction; the oldest of very many goes."""
    _KEPT[key] = reduction
    while len(_KEPT) > _MOST_KEPT:
        _KEPT.popitem(last=False)[1].close()
    return reduction


def kept_norm(key: bytes) -> float | None:
    """The norm that was kept under a key."""
    return _NORMS.get(key)


def keep_norm(key: bytes, norm: float) -> float:
    """Keeps a norm, which a level is stated and checked by; the oldest of very many goes."""
    _NORMS[key] = norm
    while len(_NORMS) > _MOST_NORMS:
        _NORMS.popitem(last=False)
    return norm


def content_key(matrix: Floats, metric: Covariance | None) -> bytes:
    """What tells a matrix in its metric from any other."""
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
            for found in pool.map(
                lambda start, of=along: _digest(of[start : start + _ROWS]), starts
            ):
                digest.update(found)
    return digest.digest()


def _digest(rows: Floats) -> bytes:
    return blake2b(np.ascontiguousarray(rows).data).digest()
