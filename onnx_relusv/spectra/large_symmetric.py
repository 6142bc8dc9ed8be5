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
_CHUNK = 64 << 20
_KEPT: "OrderedDict[bytes, Reduction]" = OrderedDict()


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
        _, turned = scipy.linalg.eigh_tridiagonal(
            self._diagonal, self._beside, select="i", select_range=(n - count, n - 1)
        )
        found = np.asfortranarray(turned[:, ::-1])
        reflectors = np.memmap(self._file, np.float64, "r", shape=self._shape).T
        # The first row and column are not turned.
        # Copies, for LAPACK writes into both.
        own, below = (np.array(part, order="F") for part in (reflectors[1:, :-1], found[1:]))
        lwork = int(lapack.dormqr("L", "N", own, self._scales, below, -1)[1][0])
        found[1:], _, problem = lapack.dormqr("L", "N", own, self._scales, below, lwork)
        assert not problem  # likewise
        return np.ascontiguousarray(found)

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


def content_key(matrix: Floats, metric: Covariance | None) -> bytes:
    """What tells a matrix in its metric from any other."""
    digest = blake2b(repr(matrix.shape).encode())
    parts = [matrix]
    if isinstance(metric, FactoredCovariance):
        parts += [metric.factor, metric.diagonal]
    elif metric is not None:
        parts.append(metric)
    for part in parts:
        for row in part.reshape(len(part), -1):
            digest.update(np.ascontiguousarray(row).tobytes())
    return digest.digest()
