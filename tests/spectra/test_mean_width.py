"""The Gaussian mean width against closed forms and sampling."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ellipe, gammaln

from onnx_relusv.spectra.mean_width import mean_width

# The promise of the quadrature; the closed forms are better.
PROMISE = 1e-11

values = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=8).map(np.array)


@pytest.mark.parametrize("scale", [1.0, 0.003, 7e5])
@pytest.mark.parametrize("size", [1, 2, 3, 10, 64, 300, 1000, 5000])
def test_a_scaled_identity(size: int, scale: float) -> None:
    # The mean length of a standard normal vector; differences of gammaln lose 1e-11 from 10 000 on.
    exact = scale * math.sqrt(2) * math.exp(gammaln((size + 1) / 2) - gammaln(size / 2))
    assert mean_width(np.full(size, scale)) == pytest.approx(exact, rel=PROMISE)


def test_the_root_of_the_size_is_not_the_width() -> None:
    # Shows that the test above can fail.
    assert mean_width(np.ones(64)) != pytest.approx(8, rel=1e-3)


@pytest.mark.parametrize("zeros", [0, 1, 100])
def test_rank_one(zeros: int) -> None:
    sigma = np.concatenate([np.zeros(zeros), [3.5]])
    assert mean_width(sigma) == pytest.approx(3.5 * math.sqrt(2 / math.pi), rel=PROMISE)


@pytest.mark.parametrize("ratio", [1.0, 0.9, 0.1, 1e-3, 1e-6])
def test_two_values(ratio: float) -> None:
    # Polar coordinates: a mean radius of sqrt(pi / 2) times the mean of an ellipse's radius.
    exact = math.sqrt(math.pi / 2) * 2 / math.pi * 5 * ellipe(1 - ratio**2)
    assert mean_width(np.array([5, 5 * ratio])) == pytest.approx(exact, rel=PROMISE)


@pytest.mark.parametrize(
    "sigma", [np.array([5.0, 3, 2, 1, 0.1]), np.geomspace(1, 1e-6, 40), np.linspace(1, 2, 30)]
)
def test_any_values_by_sampling(sigma: np.ndarray) -> None:
    draws = 200_000
    g = np.random.default_rng(0).standard_normal((draws, len(sigma)))
    lengths = np.linalg.norm(g * sigma, axis=1)
    # Four standard errors: a false alarm in 16 000 seeds.
    assert abs(mean_width(sigma) - lengths.mean()) < 4 * lengths.std(ddof=1) / math.sqrt(draws)


def test_the_zero_map() -> None:
    assert mean_width(np.zeros(5)) == 0


@given(values, st.floats(1e-100, 1e100))
def test_it_scales_with_the_map(sigma: np.ndarray, scale: float) -> None:
    # One rounding a value.
    assert mean_width(scale * sigma) == pytest.approx(scale * mean_width(sigma), rel=1e-14)


@given(values)
def test_bounds(sigma: np.ndarray) -> None:
    width, frobenius = mean_width(sigma), np.linalg.norm(sigma)
    # Jensen above; below, E sqrt(Q) >= (E Q)^(3/2) / (E Q^2)^(1/2), and E Q^2 <= 3 (E Q)^2.
    assert width <= frobenius * (1 + PROMISE)
    assert width >= frobenius / math.sqrt(3) * (1 - PROMISE)
    assert width >= math.sqrt(2 / math.pi) * sigma.max() * (1 - PROMISE)


@given(values, st.randoms(use_true_random=False))
def test_the_order_is_of_no_matter(sigma: np.ndarray, random: object) -> None:
    shuffled = sigma.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert mean_width(shuffled) == pytest.approx(mean_width(sigma), rel=1e-13)


@given(values, st.floats(1e-3, 1e3))
def test_one_value_more_widens_it(sigma: np.ndarray, value: float) -> None:
    wider = mean_width(np.append(sigma, value))
    assert wider > mean_width(sigma) * (1 - PROMISE)
    # w(A + B) <= w(A) + w(B) for the sum of two maps.
    assert wider <= (mean_width(sigma) + value * math.sqrt(2 / math.pi)) * (1 + PROMISE)
