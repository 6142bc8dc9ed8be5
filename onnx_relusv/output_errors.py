"""How far one output is from another, and what rounding explains."""

import ml_dtypes
import numpy as np

from onnx_relusv.output_differences import in_one_shape


def relative_error(value: np.ndarray, exact: np.ndarray) -> float:
    """L2 of the difference over L2 of the exact value; infinite where a NaN or a shape differs."""
    if value.shape != exact.shape:
        return float("inf")
    if exact.dtype.kind in "biu":
        return 0.0 if np.array_equal(value, exact) else float(np.mean(value != exact))
    a, b = value.astype(np.float64), exact.astype(np.float64)
    known = np.isfinite(b)
    if not np.array_equal(known, np.isfinite(a)):
        return float("inf")
    gap, norm = np.linalg.norm(a[known] - b[known]), np.linalg.norm(b[known])
    return float(gap / norm) if norm > 0 else float(gap)


def gap_between(value: np.ndarray, exact: np.ndarray) -> float:
    """L2 of the difference of two float tensors; infinite where a NaN or a shape is another one."""
    if value.shape != exact.shape:
        return float("inf")
    a, b = value.astype(np.float64), exact.astype(np.float64)
    known = np.isfinite(b)
    if not np.array_equal(known, np.isfinite(a)) or not np.array_equal(
        a[~known], b[~known], equal_nan=True
    ):
        return float("inf")
    return float(np.linalg.norm(a[known] - b[known]))


def norm_of(value: np.ndarray) -> float:
    """L2 of the finite entries of a float tensor."""
    exact = value.astype(np.float64)
    return float(np.linalg.norm(exact[np.isfinite(exact)]))


def change_of(value: np.ndarray, exact: np.ndarray) -> float:
    """L2 of the difference over L2 of the exact value, what only one has compared with zero."""
    one, other, _ = in_one_shape(value, exact)
    return relative_error(one, other)


def identical(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two arrays agree bit by bit; text, letter by letter."""
    if first.dtype.hasobject or second.dtype.hasobject:
        return first.shape == second.shape and bool(np.array_equal(first, second))
    return first.shape == second.shape and first.tobytes() == second.tobytes()


def rounding_of(value: np.ndarray) -> float:
    """One rounding of a tensor's own type, relative."""
    return epsilon(value.dtype) if value.dtype.kind not in "biu" else 1e-3


def epsilon(dtype: np.dtype[np.generic]) -> float:
    """The distance from 1 to the next larger number of a type."""
    return float(ml_dtypes.finfo(dtype).eps)  # type: ignore[no-untyped-call]
