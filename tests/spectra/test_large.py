"""Blocks too large to be decomposed, with a small threshold, against their decomposition."""

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from examples import block, gemm, linear_map

from onnx_relusv.core.blocks import FactoredCovariance, LinearMap, Moments
from onnx_relusv.rewrites.low_rank.factors import composed_level, decompose_block
from onnx_relusv.rewrites.low_rank.forms import double_layer
from onnx_relusv.spectra import singular
from onnx_relusv.spectra.measure import measure
from onnx_relusv.spectra.singular import (
    Reduction,
    decompose,
    left_basis,
    measured,
    metric_norm,
    valued,
)

CLOSE = {"rtol": 1e-9, "atol": 1e-9}


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(singular, "LARGEST_DECOMPOSED", 10)
    monkeypatch.setattr(singular, "LARGEST_WHOLE", 10)
    yield
    singular._REDUCTIONS.clear()
    singular._NORMS.clear()


# Reflections are applied 256 at a time.
@pytest.mark.parametrize("n", [2, 30, 257, 258, 700])
@pytest.mark.parametrize("kind", ["full", "of low rank", "nearly diagonal"])
def test_a_reduction_has_the_eigenpairs(n: int, kind: str) -> None:
    rng = np.random.default_rng(0)
    half = rng.standard_normal((n, n + 3 if kind == "full" else 1)) / np.sqrt(n)
    matrix = half @ half.T
    if kind == "nearly diagonal":  # most reflections are identities
        matrix[1:, :-1] = matrix[:-1, 1:] = 0
        matrix = np.diag(np.diag(matrix) + np.arange(n)) + 0.1 * np.diag(np.ones(n - 1), 1)
        matrix = (matrix + matrix.T) / 2
    reduction = Reduction(matrix.copy())
    np.testing.assert_allclose(reduction.values, np.linalg.eigvalsh(matrix)[::-1], **CLOSE)
    vectors = reduction.vectors(min(n, 4))
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(min(n, 4)), **CLOSE)
    wanted = vectors * reduction.values[: min(n, 4)]
    np.testing.assert_allclose(matrix @ vectors, wanted, **CLOSE)


def test_others_run_while_a_matrix_is_reduced() -> None:
    """So that signals are heard and progress is told in the minutes that a large one takes."""
    half = np.random.default_rng(0).standard_normal((2000, 2000))
    matrix, begun, ended, seen = half @ half.T, threading.Event(), threading.Event(), list[bool]()

    def other() -> None:
        begun.wait()
        time.sleep(0.02)
        seen.append(ended.is_set())

    thread = threading.Thread(target=other)
    thread.start()
    begun.set()
    Reduction(matrix)
    ended.set()
    thread.join()
    assert seen == [False]


def metric_of(columns: int) -> FactoredCovariance:
    rng = np.random.default_rng(5)
    return FactoredCovariance(rng.standard_normal((3, columns)), rng.uniform(0.5, 1, columns))


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("shape", [(12, 20), (20, 12)])
@pytest.mark.parametrize("with_metric", [True, False])
def test_values_bases_and_norms_are_the_same(
    shape: tuple[int, int], with_metric: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    W = np.random.default_rng(1).standard_normal(shape)
    C = metric_of(shape[1]) if with_metric else None
    found, basis, norm = measured(W, C), left_basis(W, C, 3)[:, :3], metric_norm(W, C)
    assert not found.aligned
    again = left_basis(W, C, 5)  # from the reduction that is kept
    assert len(singular._REDUCTIONS) == 1
    monkeypatch.undo()
    wanted, other = decompose(W, C), left_basis(W, C)[:, :3]
    np.testing.assert_allclose(found.sigma, wanted.sigma, **CLOSE)
    np.testing.assert_allclose(
        found.reduced @ found.reduced.T, wanted.reduced @ wanted.reduced.T, **CLOSE
    )
    np.testing.assert_allclose(basis @ basis.T, other @ other.T, **CLOSE)
    np.testing.assert_allclose(again[:, :3] @ again[:, :3].T, other @ other.T, **CLOSE)
    # To what it is asked for.
    assert norm == pytest.approx(wanted.sigma[0], rel=1e-5)


@pytest.mark.parametrize("shape", [(12, 20), (20, 12)])
@pytest.mark.parametrize("with_metric", [True, False])
def test_what_is_decomposed_has_leading_vectors_from_a_reduction_too(
    shape: tuple[int, int], with_metric: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    W = np.random.default_rng(1).standard_normal(shape)
    C = metric_of(shape[1]) if with_metric else None
    whole, wanted = left_basis(W, C, 3)[:, :3], decompose(W, C)
    assert not singular._REDUCTIONS
    monkeypatch.setattr(singular, "LARGEST_WHOLE", 10)
    basis, values = left_basis(W, C, 3), valued(W, C)
    assert basis.shape == (shape[0], 3)
    assert len(singular._REDUCTIONS) == 1
    singular._REDUCTIONS.clear()
    np.testing.assert_allclose(basis @ basis.T, whole @ whole.T, **CLOSE)
    np.testing.assert_allclose(values.sigma, wanted.sigma, **CLOSE)
    # All measures of such a matrix need all of its vectors.
    assert measured(W, C).aligned
    assert not values.aligned


@pytest.mark.usefixtures("large")
def test_a_large_block_is_measured_and_fitted_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    geometry = gemm(24, 16)
    linear = linear_map(geometry, np.random.default_rng(2))
    seen = Moments(
        mean=np.zeros((1, 24)),
        covariance=(metric_of(24),),
        rows=9,
        samples=9,
        shrinkage=np.array([0.5]),
    )
    item = block(geometry)

    def everything() -> tuple[LinearMap, float]:
        factors = double_layer("pair", geometry, linear, seen, 4)
        composed = factors.matrices[-1] @ factors.matrices[0]
        return LinearMap(composed, factors.bias), composed_level(linear, composed, seen)

    spectrum = measure(
        item, linear, seen, decompose_block(linear, seen), seed=0, provider="CPUExecutionProvider"
    )
    found, level = everything()
    assert np.isnan(spectrum.estimate[1:]).all()
    assert (spectrum.lower <= spectrum.upper).all()
    assert spectrum.lower[0] <= spectrum.estimate[0] <= spectrum.upper[0]
    assert spectrum.relu_mean_width_lower <= spectrum.relu_mean_width
    monkeypatch.undo()
    exact = measure(
        item, linear, seen, decompose_block(linear, seen), seed=0, provider="CPUExecutionProvider"
    )
    np.testing.assert_allclose(spectrum.sigma, exact.sigma, **CLOSE)
    assert spectrum.mean_width == pytest.approx(exact.mean_width)
    # Few starts find a little less than many; what they find is proved all the same.
    assert 0.9 * exact.estimate[0] <= spectrum.estimate[0] <= exact.upper[0] * (1 + 1e-9)
    wanted, wanted_level = everything()
    np.testing.assert_allclose(found.weight, wanted.weight, **CLOSE)
    assert level == pytest.approx(wanted_level, rel=1e-4)
