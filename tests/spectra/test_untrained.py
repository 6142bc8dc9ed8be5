"""Singular values drawn without their matrix, against those of Gaussian matrices."""

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from onnx_relusv.core.blocks import Floats
from onnx_relusv.spectra.singular import untrained_singular_values

DRAWS = 1500


def drawn(
    shape: tuple[int, int], *, metric: Floats | None = None, seed: int = 0, draws: int = DRAWS
) -> Floats:
    """(draws, r), each of Frobenius norm 1."""
    rng = np.random.default_rng([seed, 1])
    return np.array([untrained_singular_values(*shape, 1.0, rng, metric) for _ in range(draws)])


def of_matrices(
    shape: tuple[int, int], *, metric: Floats | None = None, seed: int = 0, draws: int = DRAWS
) -> Floats:
    """The same from dense matrices, numpy's SVD and an explicit root of the metric."""
    matrices = np.random.default_rng([seed, 2]).standard_normal((draws, *shape))
    if metric is not None:
        values, vectors = np.linalg.eigh(metric)
        matrices = matrices @ (vectors * np.sqrt(values)) @ vectors.T
    sigma = np.linalg.svd(matrices, compute_uv=False)
    return sigma / np.linalg.norm(sigma, axis=1, keepdims=True)


def metric_of(size: int) -> Floats:
    basis = np.linalg.qr(np.random.default_rng(5).standard_normal((size, size)))[0]
    return (basis * np.geomspace(4, 0.04, size)) @ basis.T


def deviation(one: Floats, other: Floats) -> float:
    """How far apart the means of two samples are, in standard errors; the largest column's."""
    error = np.sqrt(one.var(axis=0, ddof=1) / len(one) + other.var(axis=0, ddof=1) / len(other))
    return float((np.abs(one.mean(axis=0) - other.mean(axis=0)) / (error + 1e-14)).max())


def same_distribution(one: Floats, other: Floats) -> float:
    """The least p-value of two-sample Kolmogorov-Smirnov tests of the columns."""
    return min(
        float(scipy.stats.ks_2samp(a, b).pvalue) for a, b in zip(one.T, other.T, strict=True)
    )


# A dozen values are compared at once: with 4.5 standard errors and a p-value of 1e-5, a false
# alarm comes in some thousand seeds.
FAR, UNLIKELY = 4.5, 1e-5


def test_they_are_distributed_as_those_of_gaussian_matrices() -> None:
    for shape in ((5, 5), (12, 7), (7, 12), (2, 40)):
        one, other = drawn(shape), of_matrices(shape)
        assert deviation(one, other) < FAR
        assert deviation(one**4, other**4) < FAR
        assert same_distribution(one, other) > UNLIKELY


def test_another_shape_is_noticed() -> None:
    # Shows that the test above can fail.
    for wrong in ((12, 8), (16, 7)):
        one, other = drawn((12, 7)), of_matrices(wrong)[:, :7]
        assert deviation(one, other) > FAR
        assert same_distribution(one, other) < UNLIKELY


def test_in_a_metric() -> None:
    for shape in ((5, 5), (12, 7), (7, 12), (1, 6)):
        metric = metric_of(shape[1])
        one, other = drawn(shape, metric=metric), of_matrices(shape, metric=metric)
        assert deviation(one, other) < FAR
        if min(shape) > 1:
            assert same_distribution(one, other) > UNLIKELY
            # Without the metric the spectrum is flatter.
            assert same_distribution(one, drawn(shape)) < UNLIKELY


def test_a_metric_that_is_a_multiple_of_the_identity_is_none() -> None:
    # Two ways to the same distribution: with and without the matrix.
    for shape in ((5, 5), (12, 7), (7, 12)):
        one, other = drawn(shape), drawn(shape, metric=3 * np.eye(shape[1]), seed=1)
        assert deviation(one, other) < FAR
        assert same_distribution(one, other) > UNLIKELY


@given(
    rows=st.integers(1, 8),
    columns=st.integers(1, 8),
    norm=st.floats(1e-6, 1e6),
    seed=st.integers(0, 99),
    with_metric=st.booleans(),
)
def test_the_frobenius_norm_is_the_one_that_was_asked_for(
    rows: int, columns: int, norm: float, seed: int, with_metric: bool
) -> None:
    metric = metric_of(columns) if with_metric else None
    first, again, other = (
        untrained_singular_values(rows, columns, norm, np.random.default_rng(chosen), metric)
        for chosen in (seed, seed, seed + 1)
    )
    assert first.shape == (min(rows, columns),)
    assert np.linalg.norm(first) == pytest.approx(norm, rel=1e-12)
    assert np.all(np.diff(first) <= 0)
    assert np.all(first >= 0)
    assert np.array_equal(first, again)
    # One value is the norm, whatever was drawn.
    assert len(first) == 1 or not np.array_equal(first, other)


def test_a_norm_of_zero() -> None:
    for metric in (None, np.eye(7)):
        found = untrained_singular_values(5, 7, 0.0, np.random.default_rng(0), metric)
        assert np.array_equal(found, np.zeros(5))


def edges(ratio: float) -> tuple[float, float]:
    return (1 - np.sqrt(ratio)) ** 2, (1 + np.sqrt(ratio)) ** 2


def marchenko_pastur(x: float, ratio: float) -> float:
    """The share of squared singular values up to x, for entries of variance 1 / longer side."""
    low, high = edges(ratio)

    def density(t: float) -> float:
        return np.sqrt(max((high - t) * (t - low), 0.0)) / (2 * np.pi * ratio * t)

    return float(scipy.integrate.quad(density, low, x)[0])


@pytest.mark.parametrize("shape", [(1600, 400), (400, 1600), (1000, 800)])
def test_large_ones_follow_marchenko_and_pastur(shape: tuple[int, int]) -> None:
    short, long = sorted(shape)
    ratio = short / long
    rng = np.random.default_rng(0)
    squares = untrained_singular_values(*shape, np.sqrt(short), rng) ** 2
    assert squares.mean() == pytest.approx(1, rel=1e-12)
    low, high = edges(ratio)
    # Both ends fluctuate by size^(-2/3), about 2 % of the larger one.
    assert squares[0] == pytest.approx(high, rel=0.03)
    assert squares[-1] == pytest.approx(low, abs=0.03 * high)
    # The second moment of the law; it fluctuates by 1 / size.
    assert np.mean(squares**2) == pytest.approx(1 + ratio, rel=0.01)
    for share in (0.1, 0.25, 0.5, 0.75, 0.9):
        # Eigenvalues repel each other: quantiles fluctuate by 1 / size, not by its root.
        assert marchenko_pastur(float(np.quantile(squares, share)), ratio) == pytest.approx(
            share, abs=0.01
        )
