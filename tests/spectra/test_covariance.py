"""Factored covariances against the square arrays that they stand for."""

import numpy as np
import pytest

from onnx_relusv.core.blocks import FactoredCovariance, Floats
from onnx_relusv.core.linear_algebra import (
    dense,
    energy,
    identity,
    of_columns,
    reproduced,
    rooted,
    row_energies,
    scaled,
    shrunk,
    square_sum,
    variances,
)
from onnx_relusv.spectra.moments import oracle_shrinkage, shrunk_moments, sketched_moments
from onnx_relusv.spectra.product_sums import CovarianceSketch
from onnx_relusv.spectra.singular import decompose, left_basis, singular_values

# Sums in another order, of numbers of the size of 1.
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


def factored(terms: int = 4, columns: int = 9, seed: int = 0) -> FactoredCovariance:
    rng = np.random.default_rng(seed)
    factor = rng.standard_normal((terms, columns))
    return FactoredCovariance(factor, rng.uniform(0.1, 1.0, columns))


@pytest.mark.parametrize("terms", [0, 4])
def test_all_that_is_asked_of_it_is_that_of_the_square_array(terms: int) -> None:
    C = factored(terms)
    square = dense(C)
    W = np.random.default_rng(1).standard_normal((5, 9))
    np.testing.assert_allclose(energy(W, C), W @ square @ W.T, **CLOSE)
    np.testing.assert_allclose(row_energies(W, C), np.diag(W @ square @ W.T), **CLOSE)
    np.testing.assert_allclose(variances(C), np.diag(square), **CLOSE)
    np.testing.assert_allclose(square_sum(C), np.sum(square**2), **CLOSE)
    np.testing.assert_allclose(dense(scaled(C, 3.0)), 3 * square, **CLOSE)
    root = rooted(W, C)
    np.testing.assert_allclose(root @ root.T, W @ square @ W.T, **CLOSE)
    kept, gone = np.array([0, 2, 3, 7]), np.array([1, 4, 5, 6, 8])
    part = of_columns(C, kept)
    np.testing.assert_allclose(dense(part), square[np.ix_(kept, kept)], **CLOSE)
    wanted = np.linalg.solve(square[np.ix_(kept, kept)], square[np.ix_(kept, gone)])
    np.testing.assert_allclose(
        reproduced(W[:, gone], C, kept, gone), W[:, gone] @ wanted.T, **CLOSE
    )


def test_singular_values_are_those_in_the_square_metric() -> None:
    for rows in (5, 14):
        W, C = np.random.default_rng(2).standard_normal((rows, 9)), factored()
        found, wanted = decompose(W, C), decompose(W, dense(C))
        np.testing.assert_allclose(found.sigma, wanted.sigma, **CLOSE)
        np.testing.assert_allclose(singular_values(W, C), wanted.sigma, **CLOSE)
        u, v = left_basis(W, C)[:, :3], left_basis(W, dense(C))[:, :3]
        np.testing.assert_allclose(u @ u.T, v @ v.T, **CLOSE)


def test_the_identity_has_no_terms() -> None:
    np.testing.assert_array_equal(dense(identity(4)), np.eye(4))


def test_a_shrunk_one_keeps_its_trace() -> None:
    C = shrunk(factored(), 0.3)
    square = dense(factored())
    wanted = 0.7 * square + 0.3 * np.trace(square) / 9 * np.eye(9)
    np.testing.assert_allclose(dense(C), wanted, **CLOSE)


def rows_of(count: int, columns: int = 12, seed: int = 3) -> Floats:
    """Rows with directions of very different lengths, and a mean."""
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal((columns, columns)) * 0.5 ** np.arange(columns)
    return rng.standard_normal((count, columns)) @ mixed.T + rng.standard_normal(columns)


def sketch_of(rows: Floats, terms: int, batch: int = 7) -> CovarianceSketch:
    sketch = CovarianceSketch(rows.shape[1], terms)
    for start in range(0, len(rows), batch):
        sketch.add(rows[start : start + batch])
    return sketch


def test_few_rows_are_kept_as_they_are() -> None:
    rows = rows_of(20)
    mean, C = sketch_of(rows, 12).finished()
    np.testing.assert_allclose(mean, rows.mean(axis=0), **CLOSE)
    np.testing.assert_allclose(dense(C), np.cov(rows.T, bias=True), **CLOSE)


def test_many_rows_lose_no_more_than_is_proved() -> None:
    rows, terms = rows_of(500), 6
    mean, C = sketch_of(rows, terms).finished()
    exact = np.cov(rows.T, bias=True)
    np.testing.assert_allclose(mean, rows.mean(axis=0), **CLOSE)
    np.testing.assert_allclose(variances(C), np.diag(exact), **CLOSE)
    lost = np.linalg.eigvalsh(exact - C.factor.T @ C.factor)
    values = np.linalg.eigvalsh(exact)[::-1]
    bound = min(values[k:].sum() / (terms - k) for k in range(terms))
    assert lost[0] >= -1e-9
    assert lost[-1] <= bound * (1 + 1e-9)
    # The bound says something: it is far below what no sketch at all would lose.
    assert bound < values[0] / 10


def test_shrinking_is_that_of_the_square_array() -> None:
    rows = rows_of(20)
    found = sketched_moments([sketch_of(rows, 12)], 20)
    second = (rows.T @ rows / len(rows))[None]
    wanted = shrunk_moments(rows.mean(axis=0)[None], second, len(rows), 20)
    share = oracle_shrinkage(np.cov(rows.T, bias=True), 20)
    np.testing.assert_allclose(found.shrinkage, wanted.shrinkage, **CLOSE)
    assert found.shrinkage[0] == pytest.approx(share)
    np.testing.assert_allclose(dense(found.of_group(0)), wanted.of_group(0), **CLOSE)


def test_rows_that_never_vary_are_no_covariance_but_positive() -> None:
    (C,) = sketched_moments([sketch_of(np.ones((30, 5)), 3)], 30).covariance
    assert isinstance(C, FactoredCovariance)
    assert (C.diagonal > 0).all()
    assert np.isfinite(C.factor).all()
