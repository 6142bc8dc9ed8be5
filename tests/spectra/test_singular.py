"""Singular values and subspaces against a float64 SVD with an explicit root of the metric."""

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st

from onnx_relusv.core.blocks import Floats
from onnx_relusv.core.errors import UsageError
from onnx_relusv.spectra.relu_values import singular_values
from onnx_relusv.spectra.singular import decompose, left_basis, spectral_norm

SHAPES = [(1, 1), (1, 9), (9, 1), (20, 20), (20, 50), (50, 20), (90, 70)]


def orthonormal(rows: int, columns: int, rng: np.random.Generator) -> Floats:
    return np.linalg.qr(rng.standard_normal((rows, columns)))[0]


def with_spectrum(shape: tuple[int, int], sigma: Floats, seed: int = 0) -> Floats:
    """A matrix with these singular values, up to rounding."""
    rng = np.random.default_rng(seed)
    rank = min(shape)
    return (orthonormal(shape[0], rank, rng) * sigma) @ orthonormal(shape[1], rank, rng).T


def metric_of(size: int, seed: int = 1) -> Floats:
    rng = np.random.default_rng(seed)
    basis = orthonormal(size, size, rng)
    return (basis * np.geomspace(30, 0.03, size)) @ basis.T


@pytest.mark.parametrize("shape", SHAPES)
def test_against_an_svd(shape: tuple[int, int]) -> None:
    for with_metric in (False, True):
        matrix = np.random.default_rng(0).standard_normal(shape)
        metric = metric_of(shape[1]) if with_metric else None
        seen = matrix if metric is None else matrix @ np.linalg.cholesky(metric)
        found = decompose(matrix, metric)
        expected = scipy.linalg.svdvals(seen)
        assert found.sigma.shape == (min(shape),)
        # The promise: 1e-6 relative above 1e-5 of the largest.
        assert np.allclose(found.sigma, expected, rtol=1e-6, atol=1e-5 * expected[0])
        assert np.all(np.diff(found.sigma) <= 0)
        # `reduced` is the map up to a rotation of its input: the same Gram matrix of its rows.
        assert np.allclose(
            found.reduced @ found.reduced.T, seen @ seen.T, rtol=0, atol=1e-12 * expected[0] ** 2
        )
        lengths = np.linalg.norm(found.reduced, axis=0)
        assert np.allclose(lengths, found.sigma, rtol=1e-6, atol=1e-7 * expected[0])


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_values_alone(shape: tuple[int, int]) -> None:
    for with_metric in (False, True):
        matrix = np.random.default_rng(0).standard_normal(shape)
        metric = metric_of(shape[1]) if with_metric else None
        seen = matrix if metric is None else matrix @ np.linalg.cholesky(metric)
        found, expected = singular_values(matrix, metric), np.linalg.svd(seen, compute_uv=False)
        assert found.shape == (min(shape),)
        assert found.dtype == np.float64
        assert np.all(np.diff(found) <= 0)
        large = expected > 1e-3 * expected[0]
        # Squaring loses twice the digits: 1e-16 over the square of a thousandth, and sums of some
        # tens.
        assert np.abs(found[large] / expected[large] - 1).max() < 1e-8
        # The same as with the vectors.
        assert np.allclose(
            found, decompose(matrix, metric).sigma, rtol=1e-9, atol=1e-9 * expected[0]
        )


def test_large_values_above_a_long_tail() -> None:
    # In a metric the tail is lost to squaring, but not what is above a thousandth.
    for shape in ((40, 60), (60, 40)):
        for with_metric in (False, True):
            sigma = np.geomspace(1, 1e-9, min(shape))
            matrix = with_spectrum(shape, sigma)
            metric = 4 * np.eye(shape[1]) if with_metric else None
            found, expected = singular_values(matrix, metric), sigma * (2 if with_metric else 1)
            large = sigma > 1e-3
            assert np.abs(found[large] / expected[large] - 1).max() < 1e-5
            assert np.abs(found - expected).max() < 1e-7 * expected[0]
            if metric is None:
                assert np.allclose(found, expected, rtol=1e-6, atol=1e-14)


def test_singular_values_of_lists_and_of_nothing() -> None:
    assert singular_values([[3, 0], [0, 4]]) == pytest.approx([4, 3], rel=1e-12)
    assert singular_values([[3, 0], [0, 4]], [[4, 0], [0, 1]]) == pytest.approx([6, 4], rel=1e-12)
    for shape in ((3, 5), (5, 3)):
        for metric in (None, metric_of(shape[1])):
            assert np.array_equal(singular_values(np.zeros(shape), metric), np.zeros(3))


def test_what_has_no_singular_values_is_refused() -> None:
    for weight, metric, message in (
        ([[1.0, np.nan]], None, "The weight holds NaN"),
        ([1.0, 2.0], None, r"it has to be \(out, in\)"),
        ([[1e200, 0.0]], None, "scale it to between"),
        ([[1.0, 2.0]], np.eye(3), r"for 2 inputs it has to be \(2, 2\)"),
        ([[1.0, 2.0]], [[1.0, np.inf], [np.inf, 1.0]], "The metric holds NaN or infinite"),
        ([[1.0, 2.0]], [[1.0, 0.5], [0.4, 1.0]], "The metric is not symmetric"),
        ([[1.0, 2.0]], [[1.0, 2.0], [2.0, 1.0]], "The metric is not positive definite"),
    ):
        with pytest.raises(UsageError, match=message):
            singular_values(weight, metric)


def test_tiny_tails() -> None:
    for smallest in (1e-3, 1.1e-5, 1e-8, 1e-12):
        for shape in ((40, 60), (60, 40), (90, 110)):
            sigma = np.geomspace(1, smallest, min(shape))
            matrix = with_spectrum(shape, sigma)
            found = decompose(matrix).sigma
            expected = scipy.linalg.svdvals(matrix)
            # Above 1e-5 the Gram matrix gives 1e-6; with anything below it, an SVD takes its place,
            # whose own error is some 1e-15 of the largest.
            assert np.allclose(found, expected, rtol=1e-6, atol=1e-14)
            assert np.allclose(found, sigma, rtol=1e-6, atol=1e-14)


def test_a_gram_matrix_alone_would_lose_the_tail() -> None:
    # Shows that the test above can fail.
    matrix = with_spectrum((40, 60), np.geomspace(1, 1e-12, 40))
    gram = np.sqrt(np.maximum(np.linalg.eigvalsh(matrix @ matrix.T)[::-1], 0))
    assert not np.allclose(gram, scipy.linalg.svdvals(matrix), rtol=1e-6, atol=1e-14)


@pytest.mark.parametrize("shape", [(12, 30), (30, 12), (12, 12)])
def test_rank_deficient(shape: tuple[int, int]) -> None:
    for with_metric in (False, True):
        rng = np.random.default_rng(0)
        matrix = rng.standard_normal((shape[0], 5)) @ rng.standard_normal((5, shape[1]))
        matrix[2] = 0
        metric = metric_of(shape[1]) if with_metric else None
        seen = matrix if metric is None else matrix @ np.linalg.cholesky(metric)
        expected = scipy.linalg.svdvals(seen)
        sigma = decompose(matrix, metric).sigma
        # In a metric the zeros come out as the root of float64 rounding, about 1e-8 of the largest.
        assert np.allclose(sigma, expected, rtol=1e-6, atol=1e-7 * expected[0])
        assert sigma[5:].max(initial=0) < 1e-7 * expected[0]
        if metric is None:
            assert sigma[5:].max(initial=0) < 1e-13 * expected[0]


def test_the_zero_map() -> None:
    for shape in ((3, 5), (5, 3)):
        for metric in (None, metric_of(shape[1])):
            found = decompose(np.zeros(shape), metric)
            assert not found.sigma.any()
            assert not found.reduced.any()
            basis = left_basis(np.zeros(shape), metric)
            assert np.allclose(basis.T @ basis, np.eye(3), atol=1e-14)


@pytest.mark.parametrize("shape", [(12, 30), (30, 12), (20, 20)])
def test_the_left_basis_spans_the_leading_vectors(shape: tuple[int, int]) -> None:
    for with_metric in (False, True):
        matrix = with_spectrum(shape, np.geomspace(1, 0.01, min(shape)))
        metric = metric_of(shape[1]) if with_metric else None
        root = np.eye(shape[1]) if metric is None else np.linalg.cholesky(metric)
        seen = matrix @ root
        left, sigma, _ = np.linalg.svd(seen, full_matrices=False)
        basis = left_basis(matrix, metric)
        assert basis.shape == (shape[0], min(shape))
        assert np.allclose(basis.T @ basis, np.eye(min(shape)), rtol=0, atol=1e-13)
        for rank in range(1, min(shape)):
            kept, expected = basis[:, :rank], left[:, :rank]
            # Sines of the angles: float64 rounding of a Gram matrix over the gap of its
            # eigenvalues.
            sine = np.linalg.norm(expected - kept @ (kept.T @ expected), 2)
            assert sine < 1e-14 * sigma[0] ** 2 / (sigma[rank - 1] ** 2 - sigma[rank] ** 2)
            rest = np.linalg.norm(seen - kept @ (kept.T @ seen), 2)
            assert rest == pytest.approx(sigma[rank], rel=1e-9)


def test_the_left_basis_of_a_rank_deficient_map() -> None:
    for shape in ((12, 30), (30, 12)):
        rng = np.random.default_rng(0)
        matrix = rng.standard_normal((shape[0], 4)) @ rng.standard_normal((4, shape[1]))
        for metric in (None, metric_of(shape[1])):
            basis = left_basis(matrix, metric)
            assert np.allclose(basis.T @ basis, np.eye(12), rtol=0, atol=1e-13)
            kept = basis[:, :4]
            # Float64 rounding of sums of some tens of products.
            assert np.allclose(kept @ (kept.T @ matrix), matrix, rtol=0, atol=1e-12)


def test_the_spectral_norm() -> None:
    for size in (1, 5, 64, 65, 200):
        matrix = np.random.default_rng(0).standard_normal((size, size + 3))
        # 1e-10 is asked of Lanczos for the eigenvalue; the root halves it.
        assert spectral_norm(matrix @ matrix.T) == pytest.approx(
            np.linalg.norm(matrix, 2), rel=1e-9
        )
        assert spectral_norm(np.zeros((size, size))) == 0
        assert spectral_norm(np.eye(size)) == pytest.approx(1, rel=1e-12)


def test_the_spectral_norm_at_any_scale() -> None:
    # The two largest are close, so that a loose criterion would stop in between.
    for size in (10, 100):
        for scale in (1e-150, 1e-30, 1e-20, 1e-10, 1e20, 1e150):
            sigma = np.concatenate([[1, 0.999], np.linspace(0.9, 0, size - 2)])
            basis = orthonormal(size, size, np.random.default_rng(0))
            gram = (basis * sigma**2) @ basis.T
            assert spectral_norm(scale * gram) == pytest.approx(np.sqrt(scale), rel=1e-9)


def test_the_spectral_norm_of_a_flat_spectrum_with_a_tail() -> None:
    # 200 singular values that are equal up to float32 rounding, as after spectral normalisation.
    rng = np.random.default_rng(0)
    squares = np.concatenate([1 + 1e-8 * rng.standard_normal(200), rng.uniform(0, 0.9, 100)])
    basis = orthonormal(300, 300, rng)
    gram = (basis * squares) @ basis.T
    assert spectral_norm(gram) == pytest.approx(np.sqrt(squares.max()), rel=1e-9)


def test_the_spectral_norm_of_what_rounding_leaves() -> None:
    # A gap that is nothing but rounding, neither symmetric nor semidefinite.
    noise = 1e-17 * np.random.default_rng(0).standard_normal((100, 100))
    assert 0 <= spectral_norm(noise) < 1e-7
    assert spectral_norm(-np.eye(100)) == 0


@given(st.integers(2, 6), st.integers(2, 6), st.integers(0, 10**6), st.floats(1e-6, 1e6))
def test_singular_values_scale_with_the_map(
    rows: int, columns: int, seed: int, scale: float
) -> None:
    matrix = np.random.default_rng(seed).standard_normal((rows, columns))
    once, scaled = decompose(matrix).sigma, decompose(scale * matrix).sigma
    assert np.allclose(scaled, scale * once, rtol=1e-6, atol=1e-5 * scaled[0])
    # Interlacing: a row less lowers each of them.
    fewer = decompose(matrix[:-1]).sigma
    assert np.all(fewer <= once[: len(fewer)] * (1 + 1e-6) + 1e-5 * once[0])
