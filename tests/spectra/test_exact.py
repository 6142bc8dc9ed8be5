"""s_0 by enumeration of rows, by hand and against an enumeration of signs."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from relu_maps import circle, exact_s0, integer_weights

from onnx_relusv.core.blocks import Floats
from onnx_relusv.core.errors import UsageError
from onnx_relusv.spectra.bounds import exact_largest

BY_HAND = [
    ([[1]], 1),
    ([[1], [-1]], 1),
    ([[1], [-2]], 2),
    ([[1], [2]], math.sqrt(5)),
    (np.eye(3), 1),
    (-np.eye(3), 1),
    (np.ones((3, 1)), math.sqrt(3)),
    # Rows at 120 degrees: two of them together give 1/2 + 1/4 less than each by itself.
    ([[1, 0], [-0.5, math.sqrt(0.75)], [-0.5, -math.sqrt(0.75)]], 1),
    # At 60 degrees: top eigenvalue 1 + 1/2 of their Gram matrix.
    ([[1, 0], [0.5, math.sqrt(0.75)]], math.sqrt(1.5)),
    (np.zeros((2, 3)), 0),
    # Every set of rows of the identity has several top eigenvectors.
    (np.vstack([np.eye(3), -np.eye(3)]), 1),
]


def test_by_hand() -> None:
    for W, expected in BY_HAND:
        assert exact_largest(W) == pytest.approx(expected, rel=1e-14)


@given(integer_weights)
def test_small_integer_matrices_with_their_ties(W: Floats) -> None:
    assert exact_largest(W) == pytest.approx(exact_s0(W), rel=1e-9, abs=1e-12)


def test_gaussian_matrices() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        W = rng.standard_normal(rng.integers(1, 9, 2))
        assert exact_largest(W) == pytest.approx(exact_s0(W), rel=1e-12)


def test_against_a_fine_circle() -> None:
    for seed in range(10):
        W = np.random.default_rng(seed).standard_normal((7, 2))
        met = np.linalg.norm(np.maximum(W @ circle(), 0), axis=0).max()
        # Near a maximum the value falls with the square of the angle, 2e-4 at most.
        assert met <= exact_largest(W) * (1 + 1e-12)
        assert met >= exact_largest(W) * (1 - 1e-7)


def test_without_the_condition_it_would_be_sigma_1() -> None:
    rng = np.random.default_rng(3)
    below = 0
    for _ in range(30):
        W = rng.standard_normal((6, 8))
        sigma = np.linalg.norm(W, 2)
        assert exact_s0(W, any_eigenvector=True) == pytest.approx(sigma, rel=1e-12)
        below += exact_largest(W) < 0.99 * sigma
    assert below > 20


def test_fewer_rows_have_a_smaller_s0() -> None:
    W = np.random.default_rng(0).standard_normal((6, 4))
    every = exact_largest(W)
    for size in (1, 3, 5):
        for rows in combinations(range(6), size):
            assert exact_largest(W[list(rows)]) <= every * (1 + 1e-14)


def test_fourteen_rows_are_the_most() -> None:
    W = np.random.default_rng(0).standard_normal((14, 3))
    assert 0.7 * np.linalg.norm(W, 2) <= exact_largest(W) <= np.linalg.norm(W, 2)
    with pytest.raises(UsageError, match="15 rows: enumeration takes 14 at most"):
        exact_largest(np.ones((15, 2)))


def test_what_is_no_finite_matrix_is_refused() -> None:
    for weight, text in (
        ([[1.0, math.nan]], "weight holds NaN or infinite"),
        ([1.0, 2.0], r"shape \(2,\); it has to be \(out, in\)"),
        (np.zeros((0, 3)), r"shape \(0, 3\)"),
    ):
        with pytest.raises(UsageError, match=text):
            exact_largest(weight)  # type: ignore[arg-type]
