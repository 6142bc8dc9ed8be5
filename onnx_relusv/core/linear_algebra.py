"""Linear systems with covariances: symmetric positive definite matrices.

Numbers that can be worked with: finite, and small enough for float32 to sum their squares.

What is asked of a covariance C, dense or factored as F'F + diag(d).

The covariance of a wide block would not fit into memory as a square array. Factored, it has few
terms beside its columns: products with it cost terms * columns, and by Woodbury's identity so do
systems with it, since

    (F'F + D)^(-1) = D^(-1) - D^(-1) F' (I + F D^(-1) F')^(-1) F D^(-1).

None stands for the identity everywhere.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import scipy.linalg

from onnx_relusv.core.blocks import Covariance, FactoredCovariance, Floats

# Graphs that judge and refine add squares up in float32, which ends at 3.4e38: so large numbers
# leave room for 1e12 of them.
LARGEST = 1e13
NOT_A_NUMBER = "NaN"
INFINITE = "infinite values"


class UnusableValuesError(Exception):
    """A tensor holds numbers that cannot be worked with; the user is shown where they come from.

    Attributes:
        tensor: Its name.
        positions: Of the samples that they were computed for, increasing.
        problem: What is wrong with the first of them, as `problem_of` says it.
    """

    def __init__(self, tensor: str, positions: Sequence[int], problem: str) -> None:
        super().__init__(f"{tensor} holds {problem}")
        self.tensor = tensor
        self.positions = tuple(positions)
        self.problem = problem


def problem_of(values: np.ndarray) -> str | None:
    """What is wrong with numbers, in words that follow "holds"; None where nothing is.

    Args:
        values: Of any shape and type; what is no floating point number is fine.
    """
    if not values.size or not is_floating(values):
        return None
    # Types that numpy does not know itself complain about a NaN when they are compared.
    with np.errstate(invalid="ignore"):
        low, high = float(values.min()), float(values.max())
    if low >= -LARGEST and high <= LARGEST:
        return None
    if np.isnan(low) or np.isnan(high):
        return NOT_A_NUMBER
    largest = max(-low, high)
    return INFINITE if np.isinf(largest) else f"numbers up to {largest:.2g}"


def is_floating(values: np.ndarray) -> bool:
    """Whether an array is of floating point numbers, bfloat16 included."""
    return isinstance(values, np.ndarray) and (
        values.dtype.kind == "f" or values.dtype.name == "bfloat16"
    )


def check_usable(tensor: str, values: np.ndarray, start: int, count: int, size: int) -> None:
    """Checks a tensor of a batch.

    Args:
        tensor: Its name.
        values: Its values, the samples along axis 0 where its length is a multiple of theirs.
        start: Position of the first sample.
        count: How many samples of the batch are real.
        size: How many it has.

    Raises:
        UnusableValuesError: With the samples that it is unusable for.
    """
    if problem_of(values) is not None:
        found = problems(values, count, size)
        if found:
            positions = [start + place for place in sorted(found)]
            raise UnusableValuesError(tensor, positions, found[min(found)])


def problems(values: np.ndarray, count: int, size: int) -> dict[int, str]:
    """What is wrong with a tensor, by the places of the batch's real samples that it is wrong for.

    Args:
        values: The tensor, (samples, ...) or (samples times rows, ...); where axis 0 is neither,
            all samples have a part in it.
        count: How many samples of the batch are real.
        size: How many it has.
    """
    if not values.ndim or len(values) % size:
        found = problem_of(values)
        return {} if found is None else dict.fromkeys(range(count), found)
    each = values.reshape(size, -1)
    listed = ((place, problem_of(each[place])) for place in range(count))
    return {place: found for place, found in listed if found is not None}


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
