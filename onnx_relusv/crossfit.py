"""Cross-fitting: many features become one score, and nothing is scored by a fit that saw it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnx_relusv.logistic import fit_logistic, leave_one_out_loss
from onnx_relusv.records import Floats
from onnx_relusv.traces import Truths

Folds = npt.NDArray[np.int64]

# Ridges from strong to weak, in units of the curvature that a feature has before any is used: at
# 100 next to nothing is left of a coefficient, at 0.0001 next to nothing is taken away.
_STRENGTHS = 10.0 ** np.arange(2, -5, -1)
# A column whose spread is rounding says nothing, and must not be scaled up to say something.
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
    found = np.empty(len(wrong), np.int64)
    for kind in (False, True):
        members = np.flatnonzero(wrong == kind)
        found[rng.permutation(members)] = np.arange(len(members)) % folds
    return found


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
        wrong: (samples,) what is to be told.
        folds: (samples,) the fold of each; every fold leaves answers of both kinds.

    Returns:
        (samples,) scores, higher for what looks like a wrong answer.
    """
    scores = np.empty(len(wrong))
    for fold in np.unique(folds):
        held_out = folds == fold
        scale = _Scale.of(features[~held_out])
        training = scale.apply(features[~held_out])
        coefficients = _fit(training, wrong[~held_out])
        deviation = float(np.std(training @ coefficients)) or 1.0  # 0 where nothing varies
        scores[held_out] = scale.apply(features[held_out]) @ coefficients / deviation
    return scores


@dataclass(frozen=True, eq=False)
class _Scale:
    """What brings features to mean zero and deviation one; each array is (features,).

    Attributes:
        lower: Least finite value.
        upper: Largest finite value.
        mean: Of the clipped values.
        factor: One over their deviation; 0 for a constant.
    """

    lower: Floats
    upper: Floats
    mean: Floats
    factor: Floats

    @classmethod
    def of(cls, training: Floats) -> "_Scale":
        finite = np.isfinite(training)
        lower = np.min(training, axis=0, where=finite, initial=np.inf)
        upper = np.max(training, axis=0, where=finite, initial=-np.inf)
        # Where nothing is finite there is no range; any will do, since the factor is then 0.
        lower, upper = (np.where(finite.any(axis=0), end, 0.0) for end in (lower, upper))
        clipped = np.clip(training, lower, upper)
        mean, deviation = clipped.mean(axis=0), clipped.std(axis=0)
        varies = deviation > _LEAST_SPREAD * np.maximum(np.abs(lower), np.abs(upper))
        factor = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=varies)
        return cls(lower, upper, mean, factor)

    def apply(self, features: Floats) -> Floats:
        """(samples, features) scaled."""
        scaled: Floats = (np.clip(features, self.lower, self.upper) - self.mean) * self.factor
        return scaled


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
        # Once it rises it goes on rising: what is left to let in is noise.
        if loss >= least:
            break
        best, least = point, loss
    return best[1:]
