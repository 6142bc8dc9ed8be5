"""Factors of class scores, refined by their divergence: against scipy, and on rows unseen."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import scipy.special
from examples import LINEAR, conv, gemm
from probed import divergence_of_logits

from onnx_relusv.core.blocks import Floats, Geometry, LinearMap
from onnx_relusv.core.plans import Factors
from onnx_relusv.fitting.objectives import OwnAnswers
from onnx_relusv.fitting.refinement import LOOKS, refined
from onnx_relusv.fitting.regression import recentred
from onnx_relusv.rewrites.low_rank.forms import FORMS, double_layer
from onnx_relusv.runtime.session import CPU
from onnx_relusv.spectra.moments import shrunk_moments
from onnx_relusv.spectra.product_sums import Rows

# Float32 sums of hundreds of numbers around 1.
ROUNDING = 2e-5


def objective(geometry: Geometry, *, scores: bool = True) -> OwnAnswers:
    return OwnAnswers(
        geometry=geometry, activation=LINEAR, importance=None, provider=CPU, scores=scores
    )


def answered(geometry: Geometry, factors: Factors, rows: Rows) -> Floats:
    composed = FORMS[factors.form].compose(geometry, *factors.matrices)
    return np.asarray(rows.z[0].astype(float) @ composed[0].T + factors.bias)


def case(
    geometry: Geometry, count: int, *, noise: float = 0.1
) -> tuple[LinearMap, Rows, Rows, Rows]:
    """Scores some of which are sure and others not, and inputs that hold a part of the news."""
    rng = np.random.default_rng(0)
    shape = (1, geometry.rows, geometry.columns)
    # Some classes are never in question, though their scores vary most.
    often = np.arange(geometry.rows) % 2 == 0
    weight = rng.standard_normal(shape) * np.where(often, 0.5, 1.5)[:, None]
    linear = LinearMap(weight, np.where(often, 1.0, -12.0))
    parts = []
    for _ in range(3):
        x = rng.standard_normal((1, count, geometry.columns))
        z = x + noise * rng.standard_normal(x.shape)
        target = x @ weight[0].T + linear.bias
        parts.append(Rows(z.astype(np.float32), target.astype(np.float32), None))
    return linear, parts[0], parts[1], parts[2]


def started(form: str, geometry: Geometry, linear: LinearMap, rows: Rows, rank: int) -> Factors:
    """The best factors for the squared error, in the metric of z."""
    z = rows.z.astype(float)
    second = z.transpose(0, 2, 1) @ z / rows.count
    seen = shrunk_moments(z.mean(axis=1), second, rows.count, 10**9)
    return double_layer(form, geometry, linear, seen, rank)


def test_the_value_is_the_mean_divergence() -> None:
    for form, count in product(("pair", "dense"), (1, 60, 2500)):
        geometry = gemm(7, 6)
        linear, rows, _, _ = case(geometry, count)
        factors = double_layer(form, geometry, linear, None, 2)
        expected = divergence_of_logits(rows.target[0], answered(geometry, factors, rows))
        assert objective(geometry).value(factors, rows) == pytest.approx(
            expected, rel=ROUNDING, abs=1e-7
        )


def test_the_slope_is_the_derivative_on_the_chosen_rows() -> None:
    geometry = conv(3, 5, (2, 1))
    linear, rows, _, _ = case(geometry, 60)
    chosen = slice(17, 21)
    factors = double_layer("dense", geometry, linear, None, 5)
    factors = replace(factors, bias=factors.bias + 0.3 * np.arange(5.0))
    (map_slope,), bias_slope, _ = objective(geometry).slopes(factors, rows, chosen)
    p = scipy.special.softmax(rows.target[0, chosen].astype(float), axis=1)
    q = scipy.special.softmax(answered(geometry, factors, rows)[chosen], axis=1)
    np.testing.assert_allclose(bias_slope, (q - p).mean(axis=0), atol=1e-6)
    expected = (q - p).T @ rows.z[0, chosen].astype(float) / 4
    np.testing.assert_allclose(map_slope[0], expected, atol=1e-6)
    assert np.abs(expected).max() > 0.05


@pytest.mark.parametrize(("form", "rank", "noise"), [("pair", 3, 0.1), ("dense", 10, 0.5)])
def test_the_divergence_gets_less_on_rows_that_nobody_saw(
    form: str, rank: int, noise: float
) -> None:
    geometry = gemm(12, 10)
    linear, fitting, judging, fresh = case(geometry, 12_000, noise=noise)
    start = started(form, geometry, linear, fitting, rank)
    scores = objective(geometry)
    found = refined(start, scores, fitting, judging, np.random.default_rng(0))
    assert (found.form, found.rank) == (start.form, start.rank)
    for rows in (judging, fresh):
        before, after = (
            divergence_of_logits(rows.target[0], answered(geometry, factors, rows))
            for factors in (start, found)
        )
        assert after < 0.95 * before
        assert scores.value(found, rows) == pytest.approx(after, rel=ROUNDING)
    # Steps on the squared error lead elsewhere.
    squares = refined(
        start, objective(geometry, scores=False), fitting, judging, np.random.default_rng(0)
    )
    assert scores.value(squares, fresh) > scores.value(found, fresh)


def test_what_is_right_stays_as_it_is() -> None:
    geometry = gemm(8, 5)
    linear, rows, _, _ = case(geometry, 2000)
    exact = (rows.z[0] @ linear.weight[0].T + linear.bias)[None].astype(np.float32)
    rows = replace(rows, target=exact)
    start = double_layer("dense", geometry, linear, None, 5)
    found = refined(start, objective(geometry), rows, rows, np.random.default_rng(0))
    # Rounding of float32, whose sign is chance.
    assert abs(objective(geometry).value(found, rows)) < 1e-6


@pytest.mark.parametrize("form", ["pair", "dense"])
def test_what_scores_have_in_common_is_put_back(form: str) -> None:
    """A shift that a softmax does not see, which depends on the input, comes off again."""
    geometry = gemm(20, 6)
    linear, fitting, _, fresh = case(geometry, 4000, noise=0.0)
    rank = 4 if form == "pair" else 6
    start = started(form, geometry, linear, fitting, rank)
    *before, last = start.matrices
    shifted = replace(start.with_matrices((*before, last + 3.0)), bias=start.bias - 7.0)
    found = recentred(shifted, fitting)
    off, near, right = (answered(geometry, each, fresh) for each in (shifted, found, start))
    np.testing.assert_allclose(
        scipy.special.softmax(near, axis=1), scipy.special.softmax(off, axis=1), atol=1e-12
    )
    wanted = fresh.target[0].astype(float).mean(axis=1)

    def missing(scores: Floats) -> float:
        return float(np.sqrt(np.mean((scores.mean(axis=1) - wanted) ** 2)))

    assert missing(off) > 5
    # The ridge leaves a thousandth of what it takes off, beside the start's own.
    assert missing(near) < 1.01 * missing(right) + 2e-3 * missing(off)


def test_what_is_right_but_for_rounding_stays_as_it_is() -> None:
    for scores in (True, False):
        geometry = gemm(20, 6)
        linear, fitting, selecting, _ = case(geometry, 3000, noise=0.0)
        right = started("dense", geometry, linear, fitting, 6)
        told: list[int] = []
        rng = np.random.default_rng(0)
        found = refined(
            right, objective(geometry, scores=scores), fitting, selecting, rng, told.append
        )
        assert found is right
        assert sum(told) == LOOKS
        wrong = replace(right, bias=right.bias + 0.1 * np.arange(6))
        assert (
            refined(wrong, objective(geometry, scores=scores), fitting, selecting, rng) is not wrong
        )
