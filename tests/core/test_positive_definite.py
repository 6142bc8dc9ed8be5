"""Systems with covariances against numpy's own solution."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_relusv.core.linear_algebra import solved


@given(st.integers(0, 12), st.integers(0, 5), st.integers(0, 2**32))
def test_it_solves(size: int, rights: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((size, size))
    matrix, right = root @ root.T + np.eye(size), rng.standard_normal((size, rights))
    before = matrix.copy(), right.copy()
    found = solved(matrix, right)
    # The condition is at most some hundreds.
    np.testing.assert_allclose(found, np.linalg.solve(matrix, right), rtol=0, atol=1e-9)
    np.testing.assert_array_equal(matrix, before[0])
    np.testing.assert_array_equal(right, before[1])


def test_right_sides_may_be_views() -> None:
    rng = np.random.default_rng(0)
    root, wanted = rng.standard_normal((6, 6)), rng.standard_normal((3, 6))
    matrix = root @ root.T + np.eye(6)
    found = solved(matrix[::2, ::2], wanted[:, ::2].T)
    np.testing.assert_allclose(matrix[::2, ::2] @ found, wanted[:, ::2].T, atol=1e-12)


def test_what_is_not_positive_definite_is_refused() -> None:
    for least in (0.0, -1.0):
        matrix = np.diag([1.0, least, 2.0])
        with pytest.raises(np.linalg.LinAlgError, match="order 2"):
            solved(matrix, np.ones((3, 1)))
