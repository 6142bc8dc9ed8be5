"""Elimination with factored covariances against that with the square arrays they stand for."""

from itertools import product

import numpy as np

from onnx_relusv.core.blocks import FactoredCovariance
from onnx_relusv.core.linear_algebra import dense
from onnx_relusv.rewrites.prune.elimination import Reading, eliminate, separable
from onnx_relusv.rewrites.prune.wide_elimination import NONE_LEFT


def reading(units: np.ndarray, rows: int, seed: int, terms: int = 6) -> Reading:
    rng = np.random.default_rng(seed)
    columns = len(units)
    covariance = FactoredCovariance(
        rng.standard_normal((terms, columns)), rng.uniform(0.05, 0.5, columns)
    )
    weight = rng.standard_normal((rows, columns)) * rng.uniform(0.1, 2.0, columns)
    return Reading(weight, covariance, units, np.ones(columns, np.bool_))


def squared(one: Reading) -> Reading:
    return Reading(one.weight, dense(one.covariance), one.units, one.varies)


def test_with_all_units_in_the_pool_the_order_is_the_dense_one() -> None:
    """Units of more columns than there are terms too, and columns that stay, and two readings."""
    for rows, size in product((4, 40), (1, 3, 9)):
        units = np.repeat(np.arange(12), size)
        units[units == 5] = NONE_LEFT
        ones = [reading(units, rows, 1), reading(np.arange(12)[::-1].copy(), 3, 2)]
        first = [7, 2]
        found = eliminate(ones, 12, first)
        wanted = eliminate([squared(one) for one in ones], 12, first)
        # The pool is made anew when half of it is gone, and holds all that are left.
        np.testing.assert_array_equal(found.order, wanted.order)
        np.testing.assert_allclose(found.levels, wanted.levels, rtol=1e-8, atol=1e-10)


def test_a_small_pool_costs_little_more_than_the_dense_order() -> None:
    one = reading(np.arange(40), 10, 3)
    found = eliminate([one], 40, pool_columns=8)
    wanted = eliminate([squared(one)], 40)
    assert sorted(found.order.tolist()) == list(range(40))
    # Levels are exact for their own order: no greedy order is far below another.
    assert np.abs(found.levels - wanted.levels).max() < 0.1
    worst = eliminate([squared(one)], 40, wanted.order[::-1].tolist())
    assert not np.array_equal(found.order, worst.order)


def test_a_kronecker_covariance_is_read_by_channels_exactly() -> None:
    """A diagonal position covariance and equal channels' terms: the model is the truth."""
    rng = np.random.default_rng(4)
    channels, positions, terms = 7, 4, 5
    root, tap = rng.standard_normal((terms, channels)), rng.uniform(0.5, 2.0, positions)
    # C_channels (x) diag(tap): a term a position.
    factor = np.einsum("nc,tu->nuct", root, np.diag(np.sqrt(tap)))
    factor = factor.reshape(terms * positions, channels * positions)
    diagonal = np.outer(np.full(channels, 0.3), tap).reshape(-1)
    units = np.repeat(np.arange(channels), positions)
    weight = rng.standard_normal((3, len(units)))
    whole = Reading(weight, FactoredCovariance(factor, diagonal), units, np.ones(28, np.bool_))
    found = eliminate([separable(whole)], channels)
    wanted = eliminate([squared(whole)], channels)
    np.testing.assert_array_equal(found.order, wanted.order)
    np.testing.assert_allclose(found.levels, wanted.levels, rtol=1e-8, atol=1e-10)
    # Of a square array too, where that is asked for.
    apart = separable(squared(whole), always=True)
    assert apart.covariance.shape == (channels, channels)
    found = eliminate([apart], channels)
    np.testing.assert_array_equal(found.order, wanted.order)
    np.testing.assert_allclose(found.levels, wanted.levels, rtol=1e-8, atol=1e-10)


def test_without_positions_a_reading_stays_as_it_is() -> None:
    one = reading(np.arange(6), 2, 0)
    assert separable(one) is one
    assert separable(squared(one)).covariance.shape == (6, 6)
