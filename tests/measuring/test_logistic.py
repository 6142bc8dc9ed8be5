import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from onnx_relusv.core.blocks import Floats
from onnx_relusv.measuring.crossfit import fit_logistic, leave_one_out_loss


def example(samples: int, features: int, seed: int) -> tuple[Floats, np.ndarray, Floats]:
    """A design with an intercept, answers that follow it, and a ridge."""
    rng = np.random.default_rng(seed)
    design = np.column_stack([np.ones(samples), rng.standard_normal((samples, features))])
    odds = design @ rng.standard_normal(features + 1)
    wrong = rng.random(samples) < 1 / (1 + np.exp(-odds))
    ridge = np.full(features + 1, 0.7)
    ridge[0] = 0.0
    return design, wrong, ridge


def objective(point: Floats, design: Floats, wrong: np.ndarray, ridge: Floats) -> float:
    chance = 1 / (1 + np.exp(-design @ point))
    likelihood = np.where(wrong, chance, 1 - chance)
    return float(-np.log(likelihood).sum() + ridge @ point**2 / 2)


def test_the_fit_is_where_scipy_finds_it() -> None:
    design, wrong, ridge = example(200, 6, seed=0)
    found = fit_logistic(design, wrong, ridge, np.zeros(7))
    other = minimize(objective, np.zeros(7), args=(design, wrong, ridge), tol=1e-9)
    # BFGS with numerical gradients stops at about 1e-6.
    np.testing.assert_allclose(found, other.x, atol=1e-5)
    assert objective(found, design, wrong, ridge) <= other.fun + 1e-9


def test_a_far_start_ends_at_the_same_place() -> None:
    design, wrong, ridge = example(200, 6, seed=1)
    near = fit_logistic(design, wrong, ridge, np.zeros(7))
    far = fit_logistic(design, wrong, ridge, np.full(7, 4.0))
    # The last step promised 1e-8 nats at most, of an objective of curvature 10 or more.
    np.testing.assert_allclose(far, near, atol=1e-4)


def test_leaving_one_out_is_what_leaving_one_out_would_give() -> None:
    design, wrong, ridge = example(120, 4, seed=2)
    fitted = fit_logistic(design, wrong, ridge, np.zeros(5))
    exact = 0.0
    for one in range(120):
        rest = np.arange(120) != one
        point = fit_logistic(design[rest], wrong[rest], ridge, fitted)
        exact += objective(point, design[[one]], wrong[[one]], 0 * ridge)
    plain = objective(fitted, design, wrong, 0 * ridge)
    approximate = leave_one_out_loss(design, wrong, ridge, fitted)
    # One Newton step leaves a hundredth of what separates this loss from that of the fit itself.
    assert approximate == pytest.approx(exact, abs=0.03 * (exact - plain))
    assert exact - plain > 1


@given(
    st.lists(st.booleans(), min_size=2, max_size=8).filter(lambda kinds: len(set(kinds)) == 2),
    st.integers(0, 6),
    st.integers(0, 2**32 - 1),
)
def test_few_answers_that_a_plane_tells_apart_have_a_finite_fit(
    kinds: list[bool], features: int, seed: int
) -> None:
    wrong = np.array(kinds)
    rng = np.random.default_rng(seed)
    design = np.column_stack([np.ones(len(wrong)), rng.standard_normal((len(wrong), features))])
    ridge = np.full(features + 1, 1e-5)
    ridge[0] = 0.0
    fitted = fit_logistic(design, wrong, ridge, np.zeros(features + 1))
    assert np.isfinite(fitted).all()
    assert np.isfinite(leave_one_out_loss(design, wrong, ridge, fitted))
