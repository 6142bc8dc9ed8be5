"""Orders and levels against Schur complements that are worked out anew for every step."""

from collections.abc import Sequence

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st

from onnx_relusv.core.blocks import Floats
from onnx_relusv.rewrites.prune.elimination import Elimination, Reading, eliminate
from onnx_relusv.rewrites.prune.wide_elimination import NONE_LEFT
from onnx_relusv.spectra.mean_widths import mean_width

# Float64 through some hundred updates of matrices with a condition of a thousand.
ROUNDING = 1e-8


def covariance(columns: int, rng: np.random.Generator, correlated: float = 1.0) -> Floats:
    mixing = np.eye(columns) + correlated * rng.standard_normal((columns, columns)) / columns**0.5
    return np.asarray(mixing @ mixing.T + 0.01 * np.eye(columns))


def reading(
    units: Sequence[int], rng: np.random.Generator, rows: int = 6, correlated: float = 1.0
) -> Reading:
    return Reading(
        weight=rng.standard_normal((rows, len(units))),
        covariance=covariance(len(units), rng, correlated),
        units=np.array(units),
        varies=np.ones(len(units), np.bool_),
    )


def schur(one: Reading, gone: Sequence[int]) -> tuple[np.ndarray, Floats]:
    """Which columns are gone, and the covariance of what the kept ones do not tell of them."""
    lost = np.isin(one.units, gone)
    C = one.covariance
    told = C[np.ix_(lost, ~lost)] @ np.linalg.pinv(C[np.ix_(~lost, ~lost)])
    return lost, C[np.ix_(lost, lost)] - told @ C[np.ix_(~lost, lost)]


def energy(readings: Sequence[Reading], gone: Sequence[int]) -> float:
    total = 0.0
    for one in readings:
        lost, S = schur(one, gone)
        W = one.weight[:, lost]
        total += float(np.trace(W @ S @ W.T))
    return total


def width(readings: Sequence[Reading], gone: Sequence[int]) -> float:
    parts = []
    for one in readings:
        lost, S = schur(one, gone)
        parts.append(one.weight[:, lost] @ np.real(scipy.linalg.sqrtm(S)))
    return mean_width(scipy.linalg.block_diag(*parts)).value


def assert_greedy(readings: Sequence[Reading], found: Elimination, count: int) -> None:
    """Every unit is the cheapest of all that were left, as far as rounding tells."""
    for step in range(count):
        gone, left = list(found.order[:step]), found.order[step:]
        costs = [energy(readings, [*gone, unit]) for unit in left]
        assert costs[0] <= min(costs) * (1 + ROUNDING) + ROUNDING


CASES = {
    "one column a unit": [[0, 1, 2, 3, 4, 5, 6]],
    "runs of columns": [np.repeat(np.arange(5), 3).tolist()],
    "columns of others": [[NONE_LEFT, 0, 0, 1, NONE_LEFT, 2, 2, 2, 3]],
    "two consumers of different kinds": [[0, 1, 2, 3], np.repeat([2, 0, 3, 1], 4).tolist()],
    "a unit that is not read": [[0, 0, 2, 2, 3, 3]],
}


@pytest.mark.parametrize("name", CASES)
def test_every_step_is_the_cheapest(name: str) -> None:
    rng = np.random.default_rng(0)
    readings = [reading(units, rng) for units in CASES[name]]
    count = max(max(units) for units in CASES[name]) + 1
    found = eliminate(readings, count)
    assert sorted(found.order) == list(range(count))
    assert_greedy(readings, found, count)


@given(st.integers(0, 2**32), st.integers(2, 6), st.integers(1, 3))
def test_any_order_is_greedy(seed: int, count: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    readings = [
        reading(np.repeat(np.arange(count), size).tolist(), rng, rows, 3.0) for rows in (2, 9)
    ]
    found = eliminate(readings, count)
    assert_greedy(readings, found, count)
    assert np.all(np.diff(found.levels) >= 0)
    assert found.levels[0] == 0


def test_columns_do_not_count_by_themselves() -> None:
    """The largest goes first, since another is nearly its equal; by its weight it would stay."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((5000, 6))
    x[:, 0] *= 10
    x[:, 1] = x[:, 0] + 0.01 * x[:, 1]
    one = Reading(
        weight=np.ones((1, 6)),
        covariance=np.cov(x.T),
        units=np.arange(6),
        varies=np.ones(6, np.bool_),
    )
    found = eliminate([one], 6)
    assert found.order[0] in (0, 1)
    by_weight = np.argsort(np.diag(one.covariance))
    assert by_weight[0] not in (0, 1)
    assert 100 * energy([one], found.order[:1]) < energy([one], by_weight[:1])


def test_levels_are_mean_widths() -> None:
    rng = np.random.default_rng(1)
    readings = [reading(np.repeat(np.arange(6), 2).tolist(), rng), reading(range(6), rng)]
    found = eliminate(readings, 6)
    whole = width(readings, range(6))
    for gone in range(1, 7):
        exact = width(readings, found.order[:gone]) / whole
        # The quadrature; of six units every count is worked out and none interpolated.
        assert found.levels[gone] == pytest.approx(exact, rel=1e-5)
    assert found.levels[6] == 1


def test_many_units_go_through_several_rounds() -> None:
    """More columns than are waited for: the matrices are made up on the way, several times."""
    rng = np.random.default_rng(2)
    units = np.repeat(np.arange(100), 3).tolist()
    one = reading([*units, NONE_LEFT], rng, rows=40)
    found = eliminate([one], 100)
    order = found.order
    for step in (0, 31, 33, 60, 98):
        left = order[step:]
        costs = [energy([one], [*order[:step], unit]) for unit in left]
        assert costs[0] <= min(costs) * (1 + 1e-6)
    # Between the counts at which widths are worked out, their ratio to the norm hardly moves.
    for gone in (17, 50, 83):
        exact = width([one], order[:gone]) / width([one], range(100))
        assert found.levels[gone] == pytest.approx(exact, rel=5e-3)


def test_what_others_tell_costs_nothing() -> None:
    """The third input is the sum of the first two: one of the three goes for next to nothing."""
    rng = np.random.default_rng(4)
    x = rng.standard_normal((1000, 4))
    x[:, 2] = x[:, 0] + x[:, 1]
    one = Reading(
        weight=rng.standard_normal((5, 4)),
        covariance=np.cov(x.T) + 1e-9 * np.eye(4),
        units=np.arange(4),
        varies=np.ones(4, np.bool_),
    )
    found = eliminate([one], 4)
    assert found.order[0] != 3
    # What makes the covariance regular is all that is lost.
    assert found.levels[1] < 1e-4
    assert found.levels[2] > 0.1


def test_units_that_go_first_cost_nothing() -> None:
    rng = np.random.default_rng(5)
    one = reading([0, 1, 2, 4, 5], rng)
    found = eliminate([one], 6, first=[3])
    assert found.order[0] == 3
    assert found.levels[1] == 0
    assert found.levels[2] > 0
    assert_greedy([one], found, 6)


def test_without_consumers_all_are_free() -> None:
    found = eliminate([], 4)
    np.testing.assert_array_equal(found.order, range(4))
    np.testing.assert_array_equal(found.levels, np.zeros(5))
