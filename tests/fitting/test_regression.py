"""Reduced-rank regression against least squares on the rows themselves."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from examples import block, conv, gemm, linear_map

from onnx_relusv.core.blocks import Floats, Geometry, LinearMap
from onnx_relusv.core.reduction import Change, Fitted
from onnx_relusv.fitting.regression import (
    RIDGES,
    finer,
    has_nearest,
    in_metric,
    nearest_in_span,
    regression,
)
from onnx_relusv.rewrites.low_rank.forms import FORMS, double_layer
from onnx_relusv.spectra import singular
from onnx_relusv.spectra.moments import shrunk_moments
from onnx_relusv.spectra.product_sums import TargetMoments

ROWS = 5000
# So many samples that nothing is shrunk.
MANY = 10**12


def problem(geometry: Geometry, seed: int = 0) -> tuple[LinearMap, Floats, Floats, TargetMoments]:
    """A map, rows of z that are not the x which it answered, its answers, and their moments."""
    rng = np.random.default_rng(seed)
    linear = linear_map(geometry, rng)
    mixing = rng.standard_normal((geometry.columns,) * 2) * 0.8 ** np.arange(geometry.columns)
    x = rng.standard_normal((geometry.groups, ROWS, geometry.columns)) @ mixing + 0.5
    z = 0.9 * x + 0.2 * rng.standard_normal(x.shape) - 0.3
    target = np.einsum("gnc,grc->gnr", x, linear.weight)
    target += linear.bias.reshape(geometry.groups, 1, -1)
    means = TargetMoments(
        second=z.transpose(0, 2, 1) @ z / ROWS,
        cross=target.transpose(0, 2, 1) @ z / ROWS,
        mean=z.mean(axis=1),
        target=target.mean(axis=1),
        rows=ROWS,
    )
    return linear, z, target, means


def regressed(
    change: Change,
    linear: LinearMap,
    means: TargetMoments,
    ridge: float,
    samples: int,
    root: Floats | None,
) -> Fitted:
    """The regression with a ridge, in the metric of its input."""
    seen = shrunk_moments(means.mean, means.second, means.rows, samples)
    return in_metric(change, regression(linear.weight, means, ridge), seen, root)


def fitted(
    geometry: Geometry,
    form: str,
    rank: int,
    *,
    ridge: float = 0.0,
    root: Floats | None = None,
    samples: int = MANY,
) -> tuple[Fitted, LinearMap, Floats, Floats]:
    linear, z, answers, means = problem(geometry)
    lengths = (9,) * len(geometry.kernel)
    change = Change(block(geometry, lengths), form, rank)
    return regressed(change, linear, means, ridge, samples, root), linear, z, answers


def composed(found: Fitted, geometry: Geometry) -> LinearMap:
    factors = found.factors
    weight = FORMS[factors.form].compose(geometry, *factors.matrices)
    return LinearMap(weight, factors.bias)


def errors(dense: LinearMap, z: Floats, answers: Floats) -> Floats:
    """(groups, n, rows)."""
    groups = len(z)
    return np.einsum("gnc,grc->gnr", z, dense.weight) + dense.bias.reshape(groups, 1, -1) - answers


GEOMETRIES = {
    "pair": (gemm(8, 5), "pair"),
    "channel": (conv(2, 6, (2, 2)), "channel"),
    "spatial": (conv(2, 6, (2, 2)), "spatial"),
    "tucker": (conv(3, 6, (2, 2)), "tucker"),
    "channel, groups": (conv(4, 6, (2, 2), groups=2), "channel"),
    "spatial, groups": (conv(4, 6, (2, 2), groups=2), "spatial"),
    "tucker, groups": (conv(4, 6, (2, 2), groups=2), "tucker"),
}


@pytest.mark.parametrize("name", GEOMETRIES)
def test_at_full_rank_it_is_least_squares(name: str) -> None:
    geometry, form = GEOMETRIES[name]
    found, _, z, answers = fitted(geometry, form, FORMS[form].largest_rank(geometry))
    dense = composed(found, geometry)
    biases = dense.bias.reshape(geometry.groups, -1)
    for group in range(geometry.groups):
        design = np.hstack([z[group], np.ones((ROWS, 1))])
        best = np.linalg.lstsq(design, answers[group], rcond=None)[0].T
        # Without a ridge a billionth of the variance is left of it.
        np.testing.assert_allclose(dense.weight[group], best[:, :-1], rtol=0, atol=1e-6)
        np.testing.assert_allclose(biases[group], best[:, -1], rtol=0, atol=1e-6)


def test_the_bias_makes_the_mean_right() -> None:
    for name in GEOMETRIES:
        for ridge in (0.0, 0.1):
            geometry, form = GEOMETRIES[name]
            found, _, z, answers = fitted(geometry, form, 2, ridge=ridge)
            mean = errors(composed(found, geometry), z, answers).mean(axis=1)
            np.testing.assert_allclose(mean, 0, atol=1e-10)


def best_of_rank(z: Floats, answers: Floats, rank: int, root: Floats) -> float:
    """The least E|R(Lz + b' - t)|^2 over rank(L) <= rank, from the fitted values' SVD."""
    centred, wanted = z - z.mean(axis=0), (answers - answers.mean(axis=0)) @ root.T
    reached = centred @ np.linalg.lstsq(centred, wanted, rcond=None)[0]
    dropped = np.linalg.svd(reached, compute_uv=False)[rank:]
    return float((np.sum((wanted - reached) ** 2) + np.sum(dropped**2)) / ROWS)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_at_a_low_rank_it_is_the_best_there_is(rank: int, weighted: bool) -> None:
    geometry = gemm(8, 5)
    root = np.linalg.cholesky(np.cov(np.random.default_rng(5).standard_normal((5, 9)))).T
    found, linear, z, answers = fitted(geometry, "pair", rank, root=root if weighted else None)
    judge = root if weighted else np.eye(5)
    error = float(np.sum((errors(composed(found, geometry), z, answers) @ judge.T) ** 2)) / ROWS
    assert error == pytest.approx(best_of_rank(z[0], answers[0], rank, judge), rel=1e-8)
    # Plain factors, which know of the original's input alone, and the other judge's are worse.
    other, *_ = fitted(geometry, "pair", rank, root=None if weighted else root)
    plain = double_layer("pair", geometry, linear, None, rank)
    for worse in (other, replace(found, factors=plain)):
        gap = errors(composed(worse, geometry), z, answers) @ judge.T
        assert np.sum(gap**2) / ROWS > error * (1 + 1e-4)
    # What the validation compares the factors with.
    assert (found.root is None) == (not weighted)
    assert found.moments is not None
    stated = double_layer("pair", geometry, found.target, found.moments, rank)
    kernel = FORMS["pair"].compose(geometry, *stated.matrices)
    own = found.weighted(composed(found, geometry)).weight
    np.testing.assert_allclose(own, kernel, rtol=0, atol=1e-10)


def test_a_strong_ridge_leaves_the_block_as_it_is() -> None:
    geometry = gemm(8, 5)
    gaps = []
    for ridge in (0.0, 0.1, 10.0, 1e6):
        found, linear, _, _ = fitted(geometry, "pair", 5, ridge=ridge)
        gaps.append(float(np.abs(composed(found, geometry).weight - linear.weight).max()))
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] > 0.1
    assert gaps[-1] < 1e-4


def test_a_dead_input_is_no_obstacle() -> None:
    for seed in range(3):
        geometry = gemm(8, 5)
        linear, _, _, means = problem(geometry, seed)
        dead = np.ones(8)
        dead[3] = 0
        second = means.second * dead[:, None] * dead
        blind = replace(means, second=second, cross=means.cross * dead, mean=means.mean * dead)
        found = regressed(Change(block(geometry), "pair", 3), linear, blind, 1e-3, MANY, None)
        assert np.isfinite(found.factors.matrices[0]).all()
        assert np.isfinite(found.factors.matrices[-1]).all()
        # Nothing is known of it, so its weights stay.
        np.testing.assert_allclose(found.target.weight[0, :, 3], linear.weight[0, :, 3], rtol=1e-9)


def test_inputs_that_do_not_vary_leave_the_block_as_it_is() -> None:
    geometry = gemm(8, 5)
    linear, _, _, means = problem(geometry)
    for value in (0.0, 0.1):
        mean = np.full((1, 8), value)
        same = replace(
            means,
            second=mean[:, :, None] * mean[:, None, :],
            cross=means.target[:, :, None] * mean[:, None, :],
            mean=mean,
        )
        found = regressed(Change(block(geometry), "pair", 5), linear, same, 1e-3, 1, None)
        np.testing.assert_allclose(found.target.weight, linear.weight, rtol=1e-6)


def test_the_metric_is_that_of_the_delivered_input() -> None:
    geometry = gemm(8, 5)
    found, _, z, _ = fitted(geometry, "pair", 2, samples=300)
    second = z.transpose(0, 2, 1) @ z / ROWS
    expected = shrunk_moments(z.mean(axis=1), second, ROWS, 300)
    assert found.moments is not None
    np.testing.assert_allclose(found.moments.covariance, expected.covariance, rtol=1e-12)
    assert found.moments.shrinkage[0] > 1e-4


@pytest.mark.parametrize(
    ("geometry", "form"), [(gemm(9, 7), "pair"), (conv(6, 8, (2, 2), groups=2), "channel")]
)
def test_the_nearest_in_a_span_is_least_squares(geometry: Geometry, form: str) -> None:
    """On the rows themselves, with the last matrix that is there and any first one and bias."""
    linear, z, _, means = problem(geometry)
    other = regression(linear.weight, means, 0.1)
    seen = shrunk_moments(means.mean, means.second, means.rows, MANY)
    change = Change(block(geometry, (9,) * len(geometry.kernel)), form, 2)
    start = in_metric(change, linear, seen, None)
    found = nearest_in_span(start, other, seen)
    assert [m.shape for m in found.factors.matrices] == [m.shape for m in start.factors.matrices]
    biases = (each.reshape(geometry.groups, -1) for each in (other.bias, found.factors.bias))
    for group, (bias, own) in enumerate(zip(*biases, strict=True)):
        first, last = (matrix[group] for matrix in found.factors.matrices)
        np.testing.assert_array_equal(last, start.factors.matrices[1][group])
        wanted = z[group] @ other.weight[group].T + bias
        outside = np.eye(len(last)) - last @ np.linalg.pinv(last)
        missed = wanted - z[group] @ first.T @ last.T - own
        expected = (wanted - wanted.mean(axis=0)) @ outside
        np.testing.assert_allclose(missed, expected, atol=1e-8)
        assert np.abs(expected).max() > 1e-2


def test_large_maps_of_two_factors_are_compared_so(monkeypatch: pytest.MonkeyPatch) -> None:
    geometry = conv(6, 8, (2, 2))
    linear, _, _, means = problem(geometry)
    seen = shrunk_moments(means.mean, means.second, means.rows, MANY)
    starts = {
        form: in_metric(Change(block(geometry, (9, 9)), form, 2), linear, seen, None)
        for form in ("channel", "spatial", "tucker", "dense")
    }
    assert not any(map(has_nearest, starts.values()))
    monkeypatch.setattr(singular, "LARGEST_WHOLE", 7)
    assert [form for form, start in starts.items() if has_nearest(start)] == ["channel"]


def test_finer_ridges_lie_half_a_step_around_the_best() -> None:
    assert finer(RIDGES[0]) == ()
    for before, best in pairwise(RIDGES):
        low, high = finer(best)
        assert before < low < best < high
        assert low * best == pytest.approx(best**2 / np.sqrt(10))
        assert low * high == pytest.approx(best**2)
