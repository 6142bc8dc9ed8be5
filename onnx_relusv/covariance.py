"""What is asked of a covariance C, dense or factored as F'F + diag(d).

The covariance of a wide block would not fit into memory as a square array. Factored, it has few
terms beside its columns: products with it cost terms * columns, and by Woodbury's identity so do
systems with it, since

    (F'F + D)^(-1) = D^(-1) - D^(-1) F' (I + F D^(-1) F')^(-1) F D^(-1).

None stands for the identity everywhere.
"""

import numpy as np
import numpy.typing as npt
import scipy.linalg

from onnx_relusv.positive_definite import solved
from onnx_relusv.records import Covariance, FactoredCovariance, Floats

Places = npt.NDArray[np.int64]


def identity(columns: int) -> FactoredCovariance:
    """The identity, as a covariance without terms."""
    return FactoredCovariance(np.zeros((0, columns)), np.ones(columns))


def energy(matrix: Floats, metric: Covariance | None) -> Floats:
    """M C M' for a (rows, columns) matrix; (rows, rows) float64."""
    if metric is None:
        return matrix @ matrix.T
    if isinstance(metric, FactoredCovariance):
        # Of a product with the own transpose BLAS computes one half, so it is symmetric.
        root = rooted(matrix, metric)
        return np.asarray(root @ root.T)
    return np.asarray(matrix @ metric @ matrix.T)


def weighed(metric: Covariance | None, vector: Floats) -> Floats:
    """C v for a (columns,) vector."""
    if metric is None:
        return vector
    if isinstance(metric, FactoredCovariance):
        return np.asarray(metric.diagonal * vector + metric.factor.T @ (metric.factor @ vector))
    return np.asarray(metric @ vector)


def row_energies(matrix: Floats, metric: Covariance) -> Floats:
    """The diagonal of M C M', (rows,) float64."""
    if isinstance(metric, FactoredCovariance):
        seen = matrix @ metric.factor.T
        return np.asarray(matrix**2 @ metric.diagonal + np.einsum("rn,rn->r", seen, seen))
    return np.asarray(np.einsum("rc,rc->r", matrix @ metric, matrix))


def variances(metric: Covariance) -> Floats:
    """The diagonal of C, (columns,) float64."""
    if isinstance(metric, FactoredCovariance):
        return np.asarray(metric.diagonal + np.einsum("nc,nc->c", metric.factor, metric.factor))
    return np.asarray(np.diag(metric))


def square_sum(metric: FactoredCovariance) -> float:
    """The sum of the squares of all entries of C."""
    gram = metric.factor @ metric.factor.T
    crossed = np.einsum("nc,nc->c", metric.factor, metric.factor) @ metric.diagonal
    return float(np.sum(gram**2) + 2 * crossed + np.sum(metric.diagonal**2))


def of_factored(
    metric: FactoredCovariance, places: Places | npt.NDArray[np.bool_]
) -> FactoredCovariance:
    """C of some of the columns: their numbers, or a mask."""
    return FactoredCovariance(metric.factor[:, places], metric.diagonal[places])


def of_columns(metric: Covariance, places: Places | npt.NDArray[np.bool_]) -> Covariance:
    """The same, of any C."""
    if isinstance(metric, FactoredCovariance):
        return of_factored(metric, places)
    return np.asarray(metric[np.ix_(places, places)])


def scaled(metric: Covariance, factor: float) -> Covariance:
    """A multiple of C."""
    if isinstance(metric, FactoredCovariance):
        return FactoredCovariance(np.sqrt(factor) * metric.factor, factor * metric.diagonal)
    return np.asarray(factor * metric)


def shrunk(metric: FactoredCovariance, share: float, least: float = 0.0) -> FactoredCovariance:
    """C with a share of it replaced by a multiple of the identity of the same trace.

    Args:
        metric: C.
        share: From 0 to 1.
        least: What is added to the diagonal at least.
    """
    level = max(share * float(variances(metric).mean()), least)
    kept = (1 - share) * metric.diagonal + level
    return FactoredCovariance(np.sqrt(1 - share) * metric.factor, kept)


def reproduced(weight: Floats, metric: Covariance, kept: Places, gone: Places) -> Floats:
    """W C_gone,kept C_kept,kept^(-1): what kept columns tell of the weight's removed ones.

    Args:
        weight: (rows, gone), the weight's columns that are removed.
        metric: C, of all columns.
        kept: Columns.
        gone: Others.

    Returns:
        (rows, kept) float64.
    """
    if isinstance(metric, FactoredCovariance):
        F, d = metric.factor[:, kept], metric.diagonal[kept]
        scaled_factor = F / d
        core = np.eye(len(F)) + scaled_factor @ F.T
        seen = weight @ metric.factor[:, gone].T
        return np.asarray(solved(core, seen.T).T @ scaled_factor)
    shares = solved(metric[np.ix_(kept, kept)], metric[np.ix_(kept, gone)])
    return np.asarray(weight @ shares.T)


def dense(metric: Covariance) -> Floats:
    """C as a square array; for a wide block only where its weight is as large."""
    if isinstance(metric, FactoredCovariance):
        found = metric.factor.T @ metric.factor
        found[np.diag_indices_from(found)] += metric.diagonal
        return np.asarray(found)
    return metric


def rooted(matrix: Floats, metric: Covariance | None) -> Floats:
    """An M C^(1/2) for some root of C, (rows, n): all that is measured of it is of M C M'.

    Of a factored covariance the root is [F', D^(1/2)], which has more columns than C.
    """
    if metric is None:
        return matrix
    if isinstance(metric, FactoredCovariance):
        terms = len(metric.factor)
        # Written where they belong: of a large block there is no room for another copy.
        found = np.empty((len(matrix), terms + matrix.shape[1]))
        np.matmul(matrix, metric.factor.T, out=found[:, :terms])
        np.multiply(matrix, np.sqrt(metric.diagonal), out=found[:, terms:])
        return found
    return np.asarray(matrix @ scipy.linalg.cholesky(metric, lower=True))
