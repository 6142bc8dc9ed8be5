import numpy as np
import pytest

from onnx_relusv.core.blocks import Floats
from onnx_relusv.measuring.crossfit import cross_fitted, fit_logistic, stratified_folds
from onnx_relusv.measuring.separation import auroc


def answers(rights: int, wrongs: int) -> np.ndarray:
    return np.random.default_rng(0).permutation(np.repeat([False, True], [rights, wrongs]))


def cross_fit(features: Floats, wrong: np.ndarray, seed: int = 0) -> Floats:
    return cross_fitted(features, wrong, stratified_folds(wrong, 5, np.random.default_rng(seed)))


def test_folds_hold_the_kinds_evenly() -> None:
    wrong = answers(83, 12)
    folds = stratified_folds(wrong, 5, np.random.default_rng(0))
    for kind, total in ((True, 12), (False, 83)):
        counts = np.bincount(folds[wrong == kind], minlength=5)
        assert counts.sum() == total
        assert counts.max() - counts.min() <= 1


def test_folds_follow_the_seed() -> None:
    wrong = answers(80, 20)
    first, again, other = (
        stratified_folds(wrong, 5, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_noise_tells_nothing_though_a_fit_to_it_would_seem_to() -> None:
    wrong = answers(120, 40)
    honest, seeming = [], []
    for seed in range(12):
        noise = np.random.default_rng(seed).standard_normal((160, 30))
        honest.append(auroc(cross_fit(noise, wrong, seed), wrong))
        design = np.column_stack([np.ones(160), noise])
        weights = fit_logistic(design, wrong, np.repeat([0.0, 0.1], [1, 30]), np.zeros(31))
        seeming.append(auroc(design @ weights, wrong))
    error = np.std(honest) / np.sqrt(12)
    assert error < 0.025
    assert np.mean(honest) == pytest.approx(0.5, abs=4 * error)
    assert min(seeming) > 0.7


def test_constants_tell_nothing_at_all() -> None:
    # An intercept among the scores would: folds with more wrong answers leave fewer to the fit.
    wrong = answers(83, 12)
    scores = cross_fit(np.column_stack([np.full(95, 3.0), np.full(95, np.inf)]), wrong)
    assert auroc(scores, wrong) == 0.5


def test_what_tells_is_found_among_what_does_not() -> None:
    wrong = answers(800, 200)
    rng = np.random.default_rng(0)
    telling = rng.standard_normal(1000) + 1.5 * wrong
    features = np.column_stack([telling, rng.standard_normal((1000, 20))])
    alone, found = auroc(telling, wrong), auroc(cross_fit(features, wrong), wrong)
    assert alone - 0.02 < found < alone + 0.01
    assert auroc(features.sum(axis=1), wrong) < alone - 0.1


def test_an_answer_is_scored_without_its_own_label() -> None:
    rng = np.random.default_rng(0)
    wrong = answers(40, 20)
    features = rng.standard_normal((60, 3))
    folds = stratified_folds(wrong, 5, rng)
    scores = cross_fitted(features, wrong, folds)
    changed = wrong.copy()
    changed[folds == 2] = ~changed[folds == 2]
    again = cross_fitted(features, changed, folds)
    assert np.array_equal(again[folds == 2], scores[folds == 2])
    assert not np.array_equal(again[folds != 2], scores[folds != 2])


def test_an_answer_is_scaled_without_its_own_features() -> None:
    rng = np.random.default_rng(0)
    wrong = answers(40, 20)
    features = rng.standard_normal((60, 3)) + wrong[:, None]
    folds = stratified_folds(wrong, 5, rng)
    scores = cross_fitted(features, wrong, folds)
    one, others = np.flatnonzero(folds == 2)[0], np.flatnonzero(folds == 2)[1:]
    features[one] = 1e6
    assert np.array_equal(cross_fitted(features, wrong, folds)[others], scores[others])


def test_units_do_not_matter() -> None:
    rng = np.random.default_rng(0)
    wrong = answers(150, 50)
    features = rng.standard_normal((200, 3)) + 0.5 * wrong[:, None]
    scaled = features * [1e-30, 1e30, -7.0] + [0.0, 1e31, 2.0]
    np.testing.assert_allclose(cross_fit(scaled, wrong), cross_fit(features, wrong), rtol=1e-6)


def test_infinite_values_are_the_extremes_of_the_finite_ones() -> None:
    rng = np.random.default_rng(0)
    wrong = answers(150, 50)
    features = rng.standard_normal((200, 2)) + wrong[:, None]
    infinite = features.copy()
    infinite[:20, 0], infinite[20:30, 0] = np.inf, -np.inf
    scores = cross_fit(infinite, wrong)
    assert np.isfinite(scores).all()
    assert auroc(scores, wrong) > 0.7


def test_two_of_a_kind_are_enough() -> None:
    for rights, wrongs in ((2, 2), (50, 2), (2, 50), (3, 3)):
        wrong = answers(rights, wrongs)
        rng = np.random.default_rng(0)
        folds = stratified_folds(wrong, 2, rng)
        scores = cross_fitted(rng.standard_normal((rights + wrongs, 8)), wrong, folds)
        assert np.isfinite(scores).all()
