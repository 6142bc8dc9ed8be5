from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from onnx_relusv.core.blocks import Floats
from onnx_relusv.measuring.separation import SeparationSettings, auroc, resampled_aurocs

# Few different values, so that most of them are tied, and both infinities.
VALUES = st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 2.0, np.inf])
ANSWERS = st.tuples(
    st.lists(VALUES, min_size=1, max_size=12), st.lists(VALUES, min_size=1, max_size=12)
)


def joined(right: list[float], wrong: list[float]) -> tuple[Floats, np.ndarray]:
    return np.array(right + wrong), np.repeat([False, True], [len(right), len(wrong)])


@given(ANSWERS)
def test_it_is_the_mann_whitney_statistic(answers: tuple[list[float], list[float]]) -> None:
    right, wrong = answers
    statistic = stats.mannwhitneyu(wrong, right, method="asymptotic").statistic
    assert auroc(*joined(right, wrong)) == pytest.approx(statistic / (len(right) * len(wrong)))


@given(ANSWERS)
def test_it_is_the_share_of_pairs(answers: tuple[list[float], list[float]]) -> None:
    pairs = [(high > low) + (high == low) / 2 for low, high in product(*answers)]
    assert auroc(*joined(*answers)) == pytest.approx(np.mean(pairs))


def test_ties_count_half_and_neither_less_nor_more() -> None:
    scores, wrong = joined([0.0, 1.0], [1.0])
    assert auroc(scores, wrong) == 0.75


def carried_out(scores: Floats, wrong: np.ndarray, resamples: int, seed: int) -> list[float]:
    """The areas of resamples that are written out, the right answers drawn first."""
    rng = np.random.default_rng(seed)
    draws = [
        rng.integers(len(kind), size=(resamples, len(kind)))
        for kind in (scores[~wrong], scores[wrong])
    ]
    return [
        auroc(np.concatenate([scores[~wrong][right], scores[wrong][others]]), wrong_drawn)
        for right, others in zip(*draws, strict=True)
        for wrong_drawn in [np.repeat([False, True], [len(right), len(others)])]
    ]


@given(ANSWERS)
def test_resamples_are_as_if_carried_out(answers: tuple[list[float], list[float]]) -> None:
    scores, wrong = joined(*answers)
    areas = resampled_aurocs(
        scores[None], wrong, SeparationSettings(resamples=5), np.random.default_rng(3)
    )
    np.testing.assert_allclose(areas[0], carried_out(scores, wrong, 5, 3), rtol=1e-12, atol=1e-12)


def test_all_scores_share_their_resamples() -> None:
    rng = np.random.default_rng(0)
    scores, wrong = rng.integers(20, size=90).astype(float), rng.random(90) < 0.3
    # Few at a time, so that several parts are put together, the last of them shorter.
    settings = SeparationSettings(resamples=30, most_counts=7 * 90)
    columns = np.stack([scores, -scores, np.exp(scores), rng.random(90)])
    areas = resampled_aurocs(columns, wrong, settings, rng)
    assert areas.shape == (4, 30)
    np.testing.assert_allclose(areas[1], 1 - areas[0], atol=1e-12)
    np.testing.assert_allclose(areas[2], areas[0], atol=1e-12)
    assert np.abs(areas[3] - areas[0]).min() > 1e-6


def test_resamples_spread_as_the_area_does() -> None:
    # Two normals one deviation apart have an area of Phi(1 / sqrt 2).
    exact = stats.norm.cdf(np.sqrt(0.5))
    rng = np.random.default_rng(0)
    wrong = np.arange(500) < 100
    found, spreads = [], []
    for _ in range(200):
        scores = rng.standard_normal(500) + wrong
        found.append(auroc(scores, wrong))
        areas = resampled_aurocs(scores[None], wrong, SeparationSettings(resamples=100), rng)
        spreads.append(areas.std())
    # Four standard errors of a mean, and of a standard deviation, of 200.
    assert np.mean(found) == pytest.approx(exact, abs=4 * np.std(found) / np.sqrt(200))
    assert np.mean(spreads) == pytest.approx(np.std(found), rel=4 / np.sqrt(2 * 200))
