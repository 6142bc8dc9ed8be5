"""Exact bounds: their coverage by enumeration of everything that can be seen, and closed forms."""

import math
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import gammaln, xlogy
from scipy.stats import binom, binomtest, norm

from onnx_relusv.measuring.bounds import Discordance, lower_end, samples_needed, upper_end

ERRORS = (0.05, 0.2)
Bound = Callable[[int, int, int, float], float]
GRID = (0.0, 0.002, 0.02, 0.05, 0.12, 0.25, 0.4, 0.5, 0.75, 0.98)


def paired(lost: int, gained: int, samples: int, error: float) -> float:
    return Discordance(samples, lost, gained).bound(error)


def plain(lost: int, gained: int, samples: int, error: float) -> float:
    """What was seen, taken for what is."""
    return (lost - gained) / samples


def one_ended(lost: int, gained: int, samples: int, error: float) -> float:
    """An upper end for what is lost, and the gains as they were seen."""
    return upper_end(lost, samples, error) - gained / samples


def normal(lost: int, gained: int, samples: int, error: float) -> float:
    """The usual one for paired shares, with the variance that was seen."""
    drop = (lost - gained) / samples
    variance = ((lost + gained) / samples - drop**2) / samples
    return drop + float(norm.isf(error)) * math.sqrt(variance)


def pairs(samples: int) -> tuple[np.ndarray, np.ndarray]:
    """All counts of losses and gains that so many samples can show."""
    lost, gained = np.meshgrid(np.arange(samples + 1), np.arange(samples + 1), indexing="ij")
    possible = lost + gained <= samples
    return lost[possible], gained[possible]


@cache
def bounds(bound: Bound, samples: int, error: float) -> np.ndarray:
    counts = np.transpose(pairs(samples)).tolist()
    return np.array([bound(lost, gained, samples, error) for lost, gained in counts])


def miss(bound: Bound, samples: int, error: float, p10: float, p01: float) -> float:
    """The probability with which a bound lies below the true drop: a sum over the multinomial."""
    lost, gained = pairs(samples)
    rest = samples - lost - gained
    logarithm = gammaln(samples + 1) - gammaln(lost + 1) - gammaln(gained + 1) - gammaln(rest + 1)
    logarithm = logarithm + xlogy(lost, p10) + xlogy(gained, p01)
    logarithm = logarithm + xlogy(rest, max(1 - p10 - p01, 0.0))
    chances = np.exp(logarithm)
    assert chances.sum() == pytest.approx(1, abs=1e-9)
    # A bound that meets the drop up to rounding has not missed it.
    return float(chances[bounds(bound, samples, error) < p10 - p01 - 1e-12].sum())


def truths() -> Iterator[tuple[float, float]]:
    for p10 in GRID:
        for p01 in GRID:
            if p10 + p01 <= 1:
                yield p10, p01


def test_the_paired_bound_covers_whatever_is_true() -> None:
    for samples in (1, 2, 7, 20, 40):
        for error in ERRORS:
            missed = [miss(paired, samples, error, p10, p01) for p10, p01 in truths()]
            assert max(missed) <= error


@pytest.mark.parametrize("error", ERRORS)
def test_wrong_bounds_are_caught(error: float) -> None:
    for wrong in (plain, one_ended, normal):
        missed = [miss(wrong, 40, error, p10, p01) for p10, p01 in truths()]
        assert max(missed) > error


def test_the_disagreement_s_bound_covers_whatever_is_true() -> None:
    for samples in (1, 5, 30, 200):
        for error in ERRORS:
            counts = np.arange(samples + 1)
            ends = np.array([Discordance(samples, int(k), None).bound(error) for k in counts])
            half = np.array([upper_end(int(k), samples, error / 2) for k in counts])
            for p in np.linspace(0, 1, 101):
                chances = binom.pmf(counts, samples, p)
                assert chances[ends < p - 1e-12].sum() <= error
            # The whole error is used: a bound at half of it is looser than it has to be.
            assert np.all(ends[:-1] < half[:-1])


@given(data=st.data(), samples=st.integers(1, 3000), error=st.sampled_from([0.01, 0.05, 0.3]))
def test_the_ends_are_clopper_and_pearson_s(
    data: st.DataObject, samples: int, error: float
) -> None:
    count = data.draw(st.integers(0, samples))
    found = binomtest(count, samples).proportion_ci(1 - 2 * error, method="exact")
    # scipy's interval is two-sided, with the error in both tails, and found by the same quantiles.
    assert lower_end(count, samples, error) == pytest.approx(found.low, rel=1e-9)
    assert upper_end(count, samples, error) == pytest.approx(found.high, rel=1e-9)


@given(samples=st.integers(1, 10**6), error=st.floats(1e-6, 0.5))
def test_closed_forms_without_discordant_samples(samples: int, error: float) -> None:
    # 1 - e^(1/n), written so that it loses no digits.
    exact = -math.expm1(math.log(error) / samples)
    assert Discordance(samples, 0, None).bound(error) == pytest.approx(exact, rel=1e-9)
    half = -math.expm1(math.log(error / 2) / samples)
    assert Discordance(samples, 0, 0).bound(error) == pytest.approx(half, rel=1e-9)
    assert Discordance(samples, samples, None).bound(error) == 1
    # Everything gained: the accuracy has risen by 1 nearly.
    risen = Discordance(samples, 0, samples).bound(error)
    assert risen == pytest.approx(half - math.exp(math.log(error / 2) / samples), abs=1e-9)


counts = st.integers(2, 500).flatmap(
    lambda n: st.tuples(
        st.just(n),
        st.lists(st.integers(0, n), min_size=2, max_size=2)
        .map(sorted)
        .map(lambda cuts: (cuts[0], n - cuts[1])),
    )
)


@given(found=counts, error=st.floats(0.001, 0.49))
def test_what_a_bound_depends_on(found: tuple[int, tuple[int, int]], error: float) -> None:
    samples, (lost, gained) = found
    bound = Discordance(samples, lost, gained).bound(error)
    assert -1 <= bound <= 1
    # With an error below a half, each end lies beyond what was seen.
    assert bound >= Discordance(samples, lost, gained).drop - 1e-9
    assert bound <= Discordance(samples, lost, gained).bound(error / 2) + 1e-12
    if lost:
        assert Discordance(samples, lost - 1, gained).bound(error) <= bound
    if gained:
        assert Discordance(samples, lost, gained - 1).bound(error) >= bound
    # Nobody loses without changing, so the disagreement's bound holds for the drop, too.
    assert Discordance(samples, lost, None).bound(error) >= Discordance(samples, lost, None).drop


@given(found=counts, others=st.integers(1, 5000))
def test_what_is_expected_of_other_samples(found: tuple[int, tuple[int, int]], others: int) -> None:
    samples, (lost, gained) = found
    expected = Discordance(samples, lost, gained).expected(others)
    assert expected.samples == others
    assert expected.gained is not None
    assert expected.lost >= expected.gained - 1e-9
    rate = (lost + gained) / samples
    assert (expected.lost + expected.gained) / others == pytest.approx(rate)
    if lost >= gained:
        assert expected.drop == pytest.approx(Discordance(samples, lost, gained).drop)
    blind = Discordance(samples, lost, None).expected(others)
    assert (blind.drop, blind.gained) == (pytest.approx(lost / samples), None)


@pytest.mark.parametrize("labelled", [False, True])
@given(most=st.floats(1e-4, 0.999), error=st.floats(1e-4, 0.5))
def test_how_many_samples_it_takes(most: float, error: float, labelled: bool) -> None:
    gained = 0 if labelled else None
    needed = samples_needed(most, error, Discordance(0, 0, gained))
    assert Discordance(needed, 0, gained).bound(error) <= most
    own = error / 2 if labelled else error
    assert abs(needed - max(1, math.log(own) / math.log1p(-most))) <= 1
    if needed > 1:
        # One rounding: the formula and the quantile may differ in the last digit.
        assert Discordance(needed - 1, 0, gained).bound(error) > most * (1 - 1e-9)


def test_how_many_samples_a_point_takes() -> None:
    # ln(0.05) / ln(0.99) = 298.07 and ln(0.025) / ln(0.99) = 367.04.
    assert samples_needed(0.01, 0.05, Discordance(0, 0, None)) == 299
    assert samples_needed(0.01, 0.05, Discordance(0, 0, 0)) == 368
