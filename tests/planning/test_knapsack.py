"""Knapsacks with several budgets against all combinations, and the relaxation as a bound."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp

from onnx_relusv.core.blocks import Floats
from onnx_relusv.planning.knapsack import Knapsack, RoundingSettings


def knapsack(
    damages: list[list[float]], costs: list[list[list[float]]], limits: list[float]
) -> Knapsack:
    """Costs are item by item, budget by budget."""
    items = [np.array(cost, np.float64) for cost in costs]
    return Knapsack(
        damages=[np.array(damage, np.float64) for damage in damages],
        costs=items,
        fixed=np.zeros(len(limits)),
        limits=np.array(limits, np.float64),
        units=sum(cost[:, 0] for cost in items) + np.zeros(len(limits)),
    )


@st.composite
def knapsacks(draw: st.DrawFn) -> Knapsack:
    """Up to five items of up to five options, two or three budgets, whole costs, and many ties."""
    budgets = draw(st.integers(2, 3))
    damage = st.one_of(st.integers(1, 9), st.sampled_from([1e-12, 1e-6, 1e6, 1e30]))
    damages, costs = [], []
    for _ in range(draw(st.integers(1, 5))):
        whole = draw(st.lists(st.integers(4, 40), min_size=budgets, max_size=budgets))
        count = draw(st.integers(0, 4))
        damages.append([0.0, *(float(draw(damage)) for _ in range(count))])
        costs.append([[float(w), *(draw(st.integers(0, w)) for _ in range(count))] for w in whole])
    wholes = np.sum([np.array(cost)[:, 0] for cost in costs], axis=0)
    shares = [draw(st.integers(1, 20)) / 20 for _ in range(budgets)]
    # A limit that is no whole number is as good as the whole number below it.
    return knapsack(damages, costs, [float(s * w) for s, w in zip(shares, wholes, strict=True)])


def possible(sack: Knapsack) -> list[list[int]]:
    every = product(*(range(len(damage)) for damage in sack.damages))
    return [list(chosen) for chosen in every if sack.fits(chosen)]


def largest_moves(sack: Knapsack) -> float:
    """The largest damages of as many items as there are budgets, all of them at their worst."""
    worst = sorted((float(damage.max()) for damage in sack.damages), reverse=True)
    return sum(worst[: len(sack.limits)])


@settings(max_examples=150, deadline=None)
@given(knapsacks())
def test_a_choice_is_found_whenever_there_is_one(sack: Knapsack) -> None:
    choices, found = possible(sack), sack.best()
    assert (found is None) == (not choices)
    if found is None:
        assert not sack.fits(sack.nearest())
        return
    assert sack.fits(found)
    least = min(map(sack.damage, choices))
    assert least <= sack.damage(found) <= least + largest_moves(sack) + 1e-6 * least
    # What is left of the budgets is of no use to any item by itself.
    for item, damage in enumerate(sack.damages):
        for place in range(len(damage)):
            other = [*found[:item], place, *found[item + 1 :]]
            assert not sack.fits(other) or sack.damage(other) >= sack.damage(found)


@settings(max_examples=150, deadline=None)
@given(knapsacks())
def test_the_relaxation_is_a_lower_bound(sack: Knapsack) -> None:
    choices, found = possible(sack), sack.relaxed()
    if found is None:
        assert not choices
        return
    for shares in found.shares:
        assert shares.sum() == pytest.approx(1, abs=1e-6)
    assert np.all(found.multipliers >= 0)
    # At a vertex no more items are mixtures than there are budgets.
    mixed = sum(int(np.count_nonzero(shares > 1e-6) > 1) for shares in found.shares)
    assert mixed <= len(sack.limits)
    if choices:
        least = min(map(sack.damage, choices))
        assert found.damage <= least * (1 + 1e-6) + 1e-11


def smooth(count: int, seed: int) -> Knapsack:
    """Items with many options on convex curves, whose costs go together, but not strictly."""
    rng = np.random.default_rng(seed)
    damages, costs = [], []
    for _ in range(count):
        left = np.arange(1, 100) / 100
        damages.append([0.0, *(10 ** rng.uniform(-6, 6) * (1 - left) ** 3)])
        size, noisy = rng.uniform(1, 50, 3), rng.uniform(0.95, 1.05, (3, 99))
        costs.append([[s, *(s * left * n)] for s, n in zip(size, noisy, strict=True)])
    wholes = np.sum([np.array(cost)[:, 0] for cost in costs], axis=0)
    return knapsack(damages, costs, (wholes * rng.uniform(0.4, 0.6, 3)).tolist())


def optimum(sack: Knapsack, known: float) -> float:
    """The least damage, by branch and bound to a relative gap of 1e-3.

    Where a damage is known that can be reached, options far beyond it are alike.
    """
    damages = np.concatenate(sack.damages)
    items = np.repeat(np.arange(len(sack.damages)), [len(damage) for damage in sack.damages])
    member = (items == np.arange(len(sack.damages))[:, None]).astype(float)
    found = milp(
        np.minimum(damages / known, 100),
        integrality=np.ones(len(damages), np.int64),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(np.concatenate(sack.costs, axis=1), -np.inf, sack.limits),
            LinearConstraint(member, 1, 1),
        ],
        options={"mip_rel_gap": 1e-3},
    )
    assert found.fun is not None
    return float(found.fun * known)


def test_with_many_options_the_least_damage_is_nearly_reached() -> None:
    for seed in range(5):
        sack = smooth(12, seed)
        found, relaxed = sack.best(), sack.relaxed()
        assert found is not None
        assert relaxed is not None
        assert sack.fits(found)
        assert relaxed.damage <= sack.damage(found) * (1 + 1e-6)
        # No more than three of twelve items are rounded, by steps of a hundredth.
        least = optimum(sack, sack.damage(found))
        assert least * (1 - 2e-3) <= sack.damage(found) <= 1.1 * least


def test_the_unit_of_the_damage_does_not_matter() -> None:
    sack = smooth(6, 9)
    for factor in (1e-9, 1e12):
        scaled = Knapsack(
            damages=[factor * damage for damage in sack.damages],
            costs=sack.costs,
            fixed=sack.fixed,
            limits=sack.limits,
            units=sack.units,
        )
        found, other = sack.best(), scaled.best()
        assert found is not None
        assert other is not None
        assert scaled.damage(other) == pytest.approx(factor * sack.damage(found), rel=0.02)


def test_a_mix_of_prices_misses_what_the_program_finds() -> None:
    """Of options that lie above the hull in every mix of prices, the fitting one is found."""
    options = [[10.0, 1.0, 9.0, 6.0], [10.0, 9.0, 1.0, 6.0]]
    sack = knapsack([[0.0, 1.0, 1.0, 2.0]], [options], [7.0, 7.0])
    cheapest = [
        int(np.argmin(mix * np.array(options[0]) + (1 - mix) * np.array(options[1])))
        for mix in np.linspace(0, 1, 21)
    ]
    assert 3 not in cheapest
    assert sack.best() == [3]


def test_branch_and_bound_steps_in_where_rounding_fails() -> None:
    options = [[10.0, 1.0, 9.0, 6.0], [10.0, 9.0, 1.0, 6.0]]
    sack = knapsack([[0.0, 1.0, 1.0, 2.0]] * 3, [options] * 3, [18.0, 18.0])
    assert sack.best() is not None
    found = replace(sack, rounding=RoundingSettings(multiples=(), most=0)).best()
    assert found is not None
    assert sack.damage(found) == min(map(sack.damage, possible(sack)))


def test_no_room_at_all() -> None:
    for limits in ([0.0, 5.0], [-1.0, 5.0]):
        sack = knapsack([[0.0, 1.0]], [[[4.0, 1.0], [4.0, 1.0]]], limits)
        assert sack.best() is None
        assert sack.relaxed() is None


def test_every_option_of_an_item_may_do_damage() -> None:
    """As where all numbers become 8-bit integers: nothing is without damage."""
    sack = knapsack([[3.0, 5.0], [2.0, 4.0]], [[[4, 1], [4, 1]], [[4, 1], [4, 1]]], [5.0, 5.0])
    assert sack.best() in ([0, 1], [1, 0])
    assert sack.relaxed() is not None


def test_what_is_spent_anyway_counts() -> None:
    def best(fixed: Floats) -> list[int] | None:
        return Knapsack(
            damages=[np.array([0.0, 1.0, 2.0])],
            costs=[np.array([[4.0, 3.0, 2.0], [4.0, 3.0, 2.0]])],
            fixed=fixed,
            limits=np.array([6.0, 6.0]),
            units=np.array([4.0, 4.0]),
        ).best()

    found = [best(np.array([1.0, spent])) for spent in (2.0, 2.5, 4.0, 4.5)]
    assert found == [[0], [1], [2], None]
