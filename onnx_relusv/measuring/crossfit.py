"""Cross-fitting: many features become one score, and nothing is scored by a fit that saw it.

The fits are logistic regressions with a ridge; how one would do on answers that it has not seen is
approximated by a Newton step for each.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit

from onnx_relusv.core.blocks import Floats
from onnx_relusv.core.traces import Truths

# Newton's method takes a handful of steps; where rounding keeps it from converging it has long been
# close enough.
_MOST_STEPS = 50
_SHORTEST_STEP = 1e-9
# Of the objective, in nats over all answers, that the last step may still have promised.
_LEAST_PROMISE = 1e-8


def fit_logistic(design: Floats, wrong: Truths, ridge: Floats, start: Floats) -> Floats:
    """Minimises the log loss plus half the squared coefficients, weighted by the ridge.

    Args:
        design: (samples, features) finite float64.
        wrong: (samples,) which answers are wrong; both kinds occur.
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
    hessian: Floats = (design.T * curvature) @ design
    hessian[np.diag_indices_from(hessian)] += ridge
    return hessian


def _log_loss(odds: Floats, wrong: Truths) -> float:
    return float(np.logaddexp(0.0, np.where(wrong, -odds, odds)).sum())


Folds = npt.NDArray[np.int64]

# Ridges from strong to weak, in units of the curvature that a feature has before any is used: at
# 100 a coefficient nearly vanishes, at 0.0001 it is nearly untouched.
_STRENGTHS = 10.0 ** np.arange(2, -5, -1)
# A column whose spread is rounding carries no information, and must not be scaled up.
_LEAST_SPREAD = 1e-12


def stratified_folds(wrong: Truths, folds: int, rng: np.random.Generator) -> Folds:
    """Spreads right and wrong answers over folds, each kind as evenly as can be.

    Args:
        wrong: (samples,) kinds.
        folds: How many.
        rng: Shuffles.

    Returns:
        (samples,) the fold of each.
    """
    assigned = np.empty(len(wrong), np.int64)
    for kind in (False, True):
        members = np.flatnonzero(wrong == kind)
        assigned[rng.permutation(members)] = np.arange(len(members)) % folds
    return assigned


def cross_fitted(features: Floats, wrong: Truths, folds: Folds) -> Floats:
    """Scores every answer by a fit to the other folds alone.

    Features are scaled by the mean and the standard deviation of the training folds, after they
    are clipped to the finite range of these. The ridge's strength is chosen within the training
    folds, by their approximate leave-one-out log loss.

    Scores of several fits are ranked together, so each fit's have deviation 1 on its own training
    folds, and its intercept is left out. Fits differ in both by chance, and by chance that points
    the wrong way: what is over-represented in the training folds is missing in the fold held out.

    Args:
        features: (samples, features) float64 without NaN; infinities are allowed.
        wrong: (samples,) which answers are wrong.
        folds: (samples,) the fold of each; every fold leaves answers of both kinds.

    Returns:
        (samples,) scores, higher for answers more likely to be wrong.
    """
    scores = np.empty(len(wrong))
    for fold in np.unique(folds):
        held_out = folds == fold
        scaled = _scaling(features[~held_out])
        training = scaled(features[~held_out])
        coefficients = _fit(training, wrong[~held_out])
        deviation = float(np.std(training @ coefficients)) or 1.0  # 0 where nothing varies
        scores[held_out] = scaled(features[held_out]) @ coefficients / deviation
    return scores


def _scaling(training: Floats) -> Callable[[Floats], Floats]:
    """The map that brings features, (samples, features), to mean zero and deviation one.

    Values are clipped to the finite range of the training values before; constants become 0.
    """
    finite = np.isfinite(training)
    lower = np.min(training, axis=0, where=finite, initial=np.inf)
    upper = np.max(training, axis=0, where=finite, initial=-np.inf)
    # Where nothing is finite there is no range; any will do, since the factor is then 0.
    lower, upper = (np.where(finite.any(axis=0), end, 0.0) for end in (lower, upper))
    clipped = np.clip(training, lower, upper)
    mean, deviation = clipped.mean(axis=0), clipped.std(axis=0)
    varies = deviation > _LEAST_SPREAD * np.maximum(np.abs(lower), np.abs(upper))
    factor = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=varies)
    return lambda features: np.asarray((np.clip(features, lower, upper) - mean) * factor)


def _fit(features: Floats, wrong: Truths) -> Floats:
    """(features,) coefficients, the ridge weakened for as long as leave-one-out loss falls."""
    share = float(wrong.mean())
    design = np.column_stack([np.ones(len(features)), features])
    # The fit that uses no feature is where the strongest ridge starts, and each the next.
    point = np.zeros(design.shape[1])
    point[0] = np.log(share / (1 - share))
    best, least = point, np.inf
    for strength in _STRENGTHS:
        ridge = np.full(len(point), strength * len(wrong) * share * (1 - share))
        ridge[0] = 0.0  # the intercept is free
        point = fit_logistic(design, wrong, ridge, point)
        loss = leave_one_out_loss(design, wrong, ridge, point)
        # Once it rises it goes on rising: weaker ridges let in noise alone.
        if loss >= least:
            break
        best, least = point, loss
    return best[1:]
