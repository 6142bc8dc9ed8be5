"""The Gaussian mean width against closed forms, another quadrature and sampling."""

import math
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import ellipe, gammaln

from onnx_relusv.core.blocks import Floats
from onnx_relusv.core.errors import UsageError
from onnx_relusv.core.measures import Width
from onnx_relusv.spectra.mean_widths import mean_width, width_of
from onnx_relusv.spectra.mean_widths import mean_width as by_weight

# The promise of the quadrature; the closed forms are better.
PROMISE = 1e-11

values = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=8).map(np.array)


def by_other_quadrature(sigma: Floats) -> float:
    """Statement (14) with t = s^2 / |W|_F^2, by an adaptive rule on [0, infinity)."""
    frobenius = float(np.linalg.norm(sigma))
    squares = (sigma / frobenius) ** 2

    def integrand(s: float) -> float:
        return -2 * math.expm1(-0.5 * np.log1p(2 * s**2 * squares).sum()) / s**2

    # The limit at 0, where the difference would be nothing but rounding, is 2.
    near, _ = quad(lambda s: integrand(s) if s > 1e-6 else 2.0, 0, 1, epsabs=0, epsrel=1e-12)
    far, _ = quad(integrand, 1, math.inf, epsabs=0, epsrel=1e-12, limit=200)
    return frobenius * (near + far) / (2 * math.sqrt(math.pi))


def test_a_scaled_identity() -> None:
    # The mean length of a standard normal vector; differences of gammaln lose 1e-11 from 10 000 on.
    for size in (1, 2, 3, 10, 64, 300, 1000, 5000):
        for scale in (1.0, 0.003, 7e5):
            exact = scale * math.sqrt(2) * math.exp(gammaln((size + 1) / 2) - gammaln(size / 2))
            assert width_of(np.full(size, scale)) == pytest.approx(exact, rel=PROMISE)


def test_the_root_of_the_size_is_not_the_width() -> None:
    # Shows that the test above can fail.
    assert width_of(np.ones(64)) != pytest.approx(8, rel=1e-3)


def test_rank_one() -> None:
    for zeros in (0, 1, 100):
        sigma = np.concatenate([np.zeros(zeros), [3.5]])
        assert width_of(sigma) == pytest.approx(3.5 * math.sqrt(2 / math.pi), rel=PROMISE)


def test_two_values() -> None:
    # Polar coordinates: a mean radius of sqrt(pi / 2) times the mean of an ellipse's radius.
    for ratio in (1.0, 0.9, 0.1, 1e-3, 1e-6):
        exact = math.sqrt(math.pi / 2) * 2 / math.pi * 5 * ellipe(1 - ratio**2)
        assert width_of(np.array([5, 5 * ratio])) == pytest.approx(exact, rel=PROMISE)


ANY = [np.array([5.0, 3, 2, 1, 0.1]), np.geomspace(1, 1e-6, 40), np.linspace(1, 2, 30)]


def test_any_values_by_sampling() -> None:
    for sigma in ANY:
        draws = 200_000
        g = np.random.default_rng(0).standard_normal((draws, len(sigma)))
        lengths = np.linalg.norm(g * sigma, axis=1)
        # Four standard errors: a false alarm in 16 000 seeds.
        assert abs(width_of(sigma) - lengths.mean()) < 4 * lengths.std(ddof=1) / math.sqrt(draws)


def test_statement_14_by_another_quadrature() -> None:
    # What was asked of the adaptive rule, twice, and the rounding of 1 - F near 0.
    for sigma in ANY:
        assert width_of(sigma) == pytest.approx(by_other_quadrature(sigma), rel=1e-9)


def test_the_zero_map() -> None:
    assert width_of(np.zeros(5)) == 0
    found = mean_width(np.zeros((4, 5)))
    assert (found.value, found.lower, found.upper, found.converged) == (0, 0, 0, True)


@given(values, st.floats(1e-100, 1e100))
def test_it_scales_with_the_map(sigma: Floats, scale: float) -> None:
    # One rounding a value.
    assert width_of(scale * sigma) == pytest.approx(scale * width_of(sigma), rel=1e-14)


@given(values)
def test_statement_15(sigma: Floats) -> None:
    width, frobenius = width_of(sigma), np.linalg.norm(sigma)
    least = frobenius**3 / math.sqrt(frobenius**4 + 2 * np.sum(sigma**4))
    assert least * (1 - PROMISE) <= width <= frobenius * (1 + PROMISE)
    assert least >= frobenius / math.sqrt(3) * (1 - PROMISE)
    # One value alone is met from below too.
    assert width >= math.sqrt(2 / math.pi) * sigma.max() * (1 - PROMISE)


@given(values, st.randoms(use_true_random=False))
def test_the_order_is_of_no_matter(sigma: Floats, random: Random) -> None:
    shuffled = sigma.tolist()
    random.shuffle(shuffled)
    assert width_of(np.array(shuffled)) == pytest.approx(width_of(sigma), rel=1e-13)


@given(values, st.floats(1e-3, 1e3))
def test_one_value_more_widens_it(sigma: Floats, value: float) -> None:
    wider = width_of(np.append(sigma, value))
    assert wider > width_of(sigma) * (1 - PROMISE)
    # w(A + B) <= w(A) + w(B) for the sum of two maps.
    assert wider <= (width_of(sigma) + value * math.sqrt(2 / math.pi)) * (1 + PROMISE)


def contains(found: Width, width: float) -> bool:
    return found.lower <= width <= found.upper


SHAPES = [(1, 1), (1, 8), (8, 1), (6, 6), (5, 40), (40, 5), (80, 90)]


def test_the_record_of_a_weight() -> None:
    for shape in SHAPES:
        weight = np.random.default_rng(0).standard_normal(shape)
        found = mean_width(weight)
        assert contains(found, by_other_quadrature(np.linalg.svd(weight, compute_uv=False)))
        assert found.lower < found.value < found.upper
        assert found.upper - found.lower == pytest.approx(1e-6 * found.value, rel=1e-6)
        assert found.converged
        assert (found.standard_error, found.seed, found.provider) == (0, None, "numpy")
        assert found.iterations > 0


def test_bounds_contain_a_closed_form_and_no_other_value() -> None:
    # Ten equal singular values, in any basis.
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((30, 10)))[0]
    found = mean_width(2 * basis)
    exact = 2 * math.sqrt(2) * math.exp(gammaln(5.5) - gammaln(5))
    assert contains(found, exact)
    assert not contains(found, exact * (1 + 1e-6))
    assert not contains(found, math.sqrt(40))


def test_it_is_the_mean_length_of_what_a_map_makes_of_noise() -> None:
    weight = np.random.default_rng(0).standard_normal((7, 12))
    draws = 100_000
    lengths = np.linalg.norm(np.random.default_rng(1).standard_normal((draws, 7)) @ weight, axis=1)
    error = lengths.std(ddof=1) / math.sqrt(draws)
    # Four standard errors; the tempting Frobenius norm is farther away.
    assert abs(mean_width(weight).value - lengths.mean()) < 4 * error
    assert abs(np.linalg.norm(weight) - lengths.mean()) > 4 * error


def test_statement_15_needs_no_singular_values() -> None:
    for shape in SHAPES:
        weight = np.random.default_rng(1).standard_normal(shape)
        found, squared = mean_width(weight), np.sum(weight**2)
        fourth = np.sum((weight @ weight.T) ** 2)
        assert found.lower <= math.sqrt(squared)
        assert found.upper >= squared**1.5 / math.sqrt(squared**2 + 2 * fourth)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 10**6))
def test_rotations_and_the_transpose_change_nothing(rows: int, columns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((rows, columns))
    left = np.linalg.qr(rng.standard_normal((rows, rows)))[0]
    right = np.linalg.qr(rng.standard_normal((columns, columns)))[0]
    width = mean_width(weight).value
    # The promise of the singular values, 1e-6, is far above what well-conditioned ones lose.
    for other in (weight.T, left @ weight, weight @ right):
        assert mean_width(other).value == pytest.approx(width, rel=1e-6)


def test_extreme_scales() -> None:
    for scale in (1e-98, 1e98):
        weight = np.random.default_rng(0).standard_normal((3, 4))
        assert mean_width(scale * weight).value == pytest.approx(
            scale * mean_width(weight).value, rel=1e-12
        )


def test_other_shapes_are_refused() -> None:
    for shape in ((4,), (2, 3, 4), (0, 3), (3, 0), ()):
        with pytest.raises(UsageError, match=r"it has to be \(out, in\)"):
            mean_width(np.ones(shape))


def test_what_is_not_finite_is_refused() -> None:
    for value in (math.nan, math.inf, -math.inf):
        with pytest.raises(UsageError, match="The weight holds NaN or infinite values"):
            mean_width([[1.0, value]])


def test_what_is_too_small_or_too_large_is_refused() -> None:
    for value in (1e-101, 1e101):
        with pytest.raises(UsageError, match=r"scale it to between 1e-100 and 1e\+100"):
            mean_width([[value, 0.0]])


def test_too_few_points_do_not_converge() -> None:
    # Steps of 4 and 8 instead of 1/4 and 1/2.
    found = mean_width(np.eye(5), points=33)
    assert not found.converged
    assert found.iterations == 33


def test_the_library_gives_it_under_its_name() -> None:
    assert by_weight is mean_width
