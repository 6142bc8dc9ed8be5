"""Logistic regression with a ridge, and how it would do on what it has not seen."""

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit

from onnx_relusv.records import Floats
from onnx_relusv.traces import Truths

# Newton's method takes a handful of steps; where rounding keeps it from its end it has long been
# close enough.
_MOST_STEPS = 50
_SHORTEST_STEP = 1e-9
# Of the objective, in nats over all answers, that the last step may still have promised.
_LEAST_PROMISE = 1e-8


def fit_logistic(design: Floats, wrong: Truths, ridge: Floats, start: Floats) -> Floats:
    """Minimises the log loss plus half the squared coefficients, weighted by the ridge.

    Args:
        design: (samples, features) finite float64.
        wrong: (samples,) what is to be told; both kinds occur.
        ridge: (features,) weights; zero for an intercept, positive elsewhere.
        start: (features,) coefficients to start from.

    Returns:
        (features,) coefficients of the log-odds of a wrong answer.
    """

    def objective(point: Floats) -> float:
        return _log_loss(design @ point, wrong) + float(ridge @ point**2) / 2

    point, value = start, objective(start)
    for _ in range(_MOST_STEPS):
        odds = design @ point
        gradient = design.T @ (expit(odds) - wrong) + ridge * point
        step = cho_solve(cho_factor(_hessian(design, odds, ridge)), gradient)
        promise = float(gradient @ step) / 2
        # A full step may overshoot, and rounding may leave no way down at all.
        length, next_value = 1.0, objective(point - step)
        while next_value > value and length > _SHORTEST_STEP:
            length /= 2
            next_value = objective(point - length * step)
        if next_value > value:
            break
        point, value = point - length * step, next_value
        if promise < _LEAST_PROMISE:
            break
    return point


def leave_one_out_loss(design: Floats, wrong: Truths, ridge: Floats, fitted: Floats) -> float:
    """The log loss of every answer under a fit without it, found by one Newton step from the fit.

    Args:
        design: As of `fit_logistic`.
        wrong: Likewise.
        ridge: Likewise.
        fitted: (features,) its result.

    Returns:
        Sum over the answers, in nats; an approximation.
    """
    odds = design @ fitted
    solved = cho_solve(cho_factor(_hessian(design, odds, ridge)), design.T)
    leverage = np.einsum("sf,fs->s", design, solved)
    chance = expit(odds)
    # leverage * chance * (1 - chance) is below 1: the answer's share of its own direction.
    moved = leverage * (chance - wrong) / (1 - leverage * chance * (1 - chance))
    return _log_loss(odds + moved, wrong)


def _hessian(design: Floats, odds: Floats, ridge: Floats) -> Floats:
    curvature = expit(odds) * expit(-odds)
    found: Floats = (design.T * curvature) @ design
    found[np.diag_indices_from(found)] += ridge
    return found


def _log_loss(odds: Floats, wrong: Truths) -> float:
    return float(np.logaddexp(0.0, np.where(wrong, -odds, odds)).sum())
