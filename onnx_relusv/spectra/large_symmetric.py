"""Eigenvalues of a very large symmetric matrix, and later the leading eigenvectors.

The matrix is reduced to tridiagonal form once (LAPACK's sytrd), which is most of the work; its
eigenvalues cost little more. The reflectors are kept in a temporary file, so that when a rank is
known its eigenvectors need no second reduction: those of the tridiagonal matrix are turned back.
"""

from collections import OrderedDict
from hashlib import blake2b

import numpy as np
import scipy.linalg
from scipy.linalg import lapack

from onnx_relusv.records import Covariance, FactoredCovariance, Floats
from onnx_relusv.temporary_files import nameless_file

# Reductions that are kept; each has a file of n^2 float64.
_MOST_KEPT = 8
_MOST_NORMS = 64
_CHUNK = 64 << 20
# Rows that are read at a time: of a transposed view, single ones would be read with large steps.
_ROWS = 64
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

    def values(self) -> Floats:
        """The eigenvalues, descending."""
        found = scipy.linalg.eigvalsh_tridiagonal(self._diagonal, self._beside)
        return np.asarray(found[::-1])

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
        found = np.asfortranarray(turned[:, ::-1])
        # The first row and column are not turned. Copies, for LAPACK writes into both.
        own, below = self._reflectors(), np.array(found[1:], order="F")
        lwork = int(lapack.dormqr("L", "N", own, self._scales, below, -1)[1][0])
        found[1:], _, problem = lapack.dormqr("L", "N", own, self._scales, below, lwork)
        assert not problem  # likewise
        return np.ascontiguousarray(found)

    def _reflectors(self) -> Floats:
        """What was kept, without the first row and the last column, as LAPACK takes it.

        Read and not mapped: beside the copy, the whole file would count as resident memory.
        """
        n = self._shape[0]
        found = np.empty((n - 1, n - 1), order="F")
        self._file.seek(0)
        for start in range(0, n - 1, _ROWS):
            count = min(_ROWS, n - 1 - start)
            read = np.fromfile(self._file, np.float64, count * n).reshape(count, n)
            found[:, start : start + count] = read[:, 1:].T
        return found

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
    for part in parts:
        for start in range(0, len(part), _ROWS):
            digest.update(np.ascontiguousarray(part[start : start + _ROWS]).data)
    return digest.digest()
