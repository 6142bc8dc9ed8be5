"""Plans by damage against all combinations of all options."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from offers import (
    ADDED,
    Offers,
    Priced,
    cases_with_damage,
    convex,
    cost_of,
    holds,
    opposite,
    origin,
)
from offers import planned as planned_of

from onnx_relusv.core.blocks import Block
from onnx_relusv.core.errors import BudgetError
from onnx_relusv.core.measures import DamageCurve
from onnx_relusv.core.plans import Budgets, Cost, Plan
from onnx_relusv.rewrites.low_rank.candidates import block_cost

# Of sums of a few damages.
ROUNDING = 1e-12
Case = tuple[list[Block], Offers, Cost, Budgets]


def planned(
    blocks: Sequence[Block],
    offers: Mapping[str, Sequence[Priced]],
    budgets: Budgets,
    total: Cost,
) -> Plan:
    return planned_of(blocks, offers, budgets, origin(total), by_damage=True)


def taken(plan: Plan, offers: Offers) -> dict[str, Priced]:
    """The candidates that a plan takes."""
    found = {}
    for choice in plan.choices:
        if choice.action == "double_layer":
            (found[choice.key],) = (
                each
                for each in offers[choice.key]
                if (each.form, each.rank) == (choice.form, choice.rank)
            )
    return found


def allowed(case: Case) -> list[list[Priced | None]]:
    blocks, offers, _, budgets = case
    limit = budgets.tolerance or 1
    return [
        [None, *(each for each in offers.get(item.key, []) if each.level <= limit)]
        for item in blocks
    ]


def damage_of(picked: Sequence[Priced | None]) -> float:
    return float(sum(each.damage for each in picked if each is not None))


def fits(case: Case, picked: Sequence[Priced | None]) -> bool:
    blocks, _, total, budgets = case
    chosen = {item.key: each for item, each in zip(blocks, picked, strict=True) if each is not None}
    return holds(cost_of(blocks, chosen, total), total, budgets)


def largest_step(case: Case, name: str) -> float:
    """The largest difference of damage between neighbours on the convex hull of a block."""
    largest = 0.0
    for item, options in zip(case[0], allowed(case), strict=True):
        points = sorted(
            (getattr(each or block_cost(item), name), each.damage if each else 0.0)
            for each in options
        )
        hull: list[tuple[float, float]] = []
        for point in points:
            while len(hull) > 1 and _above(hull[-2], hull[-1], point):
                hull.pop()
            hull.append(point)
        steps = [before[1] - after[1] for before, after in pairwise(hull)]
        largest = max([largest, *steps])
    return largest


def _above(
    first: tuple[float, float], middle: tuple[float, float], last: tuple[float, float]
) -> bool:
    """Whether the middle one of three points, from left to right, is not below their line."""
    return (middle[1] - first[1]) * (last[0] - first[0]) >= (last[1] - first[1]) * (
        middle[0] - first[0]
    )


def checked(case: Case) -> tuple[Plan, list[Priced | None]] | None:
    """The plan, if there is one; whatever has to hold of every plan holds of it."""
    blocks, offers, total, budgets = case
    try:
        plan = planned(blocks, offers, budgets, total)
    except BudgetError:
        return None
    found = taken(plan, offers)
    picked = [found.get(item.key) for item in blocks]
    assert fits(case, picked)
    cost = cost_of(blocks, found, total)
    assert (plan.size, plan.macs) == (cost.bytes / total.bytes, cost.macs / total.macs)
    assert plan.damage == pytest.approx(damage_of(picked), rel=ROUNDING)
    assert plan.level == max((each.level for each in found.values()), default=0.0)
    assert plan.level <= (budgets.tolerance or 1)
    assert [choice.key for choice in plan.choices] == [item.key for item in blocks]
    # What is left of the budgets is of no use to anybody.
    for place, options in enumerate(allowed(case)):
        for option in options:
            other = [*picked[:place], option, *picked[place + 1 :]]
            assert damage_of([option]) >= damage_of([picked[place]]) or not fits(case, other)
    return plan, picked


@pytest.mark.parametrize("name", ["size", "macs"])
@settings(max_examples=200)
@given(data=st.data())
def test_against_all_combinations(name: str, data: st.DataObject) -> None:
    case = data.draw(cases_with_damage((name,)))
    if not any(case[1].values()):
        with pytest.raises(BudgetError, match="no block of this model can be made smaller"):
            planned(case[0], case[1], case[3], case[2])
        return
    possible = [picked for picked in product(*allowed(case)) if fits(case, picked)]
    found = checked(case)
    assert (found is None) == (not possible)
    if found is not None:
        least = min(map(damage_of, possible))
        step = largest_step(case, "bytes" if name == "size" else "macs")
        assert damage_of(found[1]) <= (least + step) * (1 + 1e-9)


@settings(max_examples=150)
@given(cases_with_damage(("size", "macs")))
def test_two_budgets_are_kept_together(case: Case) -> None:
    if not any(case[1].values()):
        return
    possible = [damage_of(picked) for picked in product(*allowed(case)) if fits(case, picked)]
    found = checked(case)
    assert (found is None) == (not possible)
    if found is not None:
        assert damage_of(found[1]) >= min(possible) * (1 - ROUNDING)


def test_with_many_ranks_the_budget_is_spent_and_the_damage_the_least() -> None:
    """Of smooth convex curves the least total damage has a closed form: equal slopes."""
    for size in (0.45, 0.6, 0.8):
        scales = [1.0, 8.0, 27.0]
        blocks, offers, total = convex(scales, count=400)
        plan = planned(blocks, offers, Budgets(size=size), total)
        assert size - 0.01 < plan.size <= size
        # a (1 - x)^4 with equal slopes a (1 - x)^3: 1 - x goes with a^(-1/3), which are 1, 1/2,
        # 1/3.
        left = (size * total.bytes - (total.bytes - 120_000) - ADDED) / 40_000
        lost = (3 - left) / (1 + 1 / 2 + 1 / 3)
        ideal = sum(a * (lost / root) ** 4 for a, root in zip(scales, (1, 2, 3), strict=True))
        assert lost < 1
        # Ranks are steps of 1/400.
        assert plan.damage == pytest.approx(ideal, rel=0.02)


def test_who_hurts_least_shrinks_most() -> None:
    blocks, offers, total = convex([100.0, 1.0, 1e-4])
    plan = planned(blocks, offers, Budgets(size=0.4), total)
    ranks = [choice.rank for choice in plan.choices]
    assert ranks == sorted(ranks, key=lambda rank: rank or 1000, reverse=True)
    assert len(set(ranks)) == 3
    for choice, item in zip(plan.choices, blocks, strict=True):
        (chosen,) = (each for each in offers[item.key] if each.rank == choice.rank)
        assert (choice.damage, choice.level) == (chosen.damage, chosen.level)
        assert choice.why == f"least total damage for the budgets, {chosen.damage:.3g} by itself"


def test_damages_of_any_size() -> None:
    # A useless first block's 1e30 and a last one's 1e-12 are both a price worth knowing.
    blocks, offers, total = convex([1e30, 1.0, 1e-12])
    for size in (0.1, 0.4, 0.7, 0.9):
        plan = planned(blocks, offers, Budgets(size=size), total)
        assert size - 0.01 < plan.size <= size
    assert plan.choices[0].action == "keep"
    smallest = total.bytes - 120_000 + sum(own[0].bytes for own in offers.values())
    share = (smallest + ADDED) / total.bytes
    plan = planned(blocks, offers, Budgets(size=share), total)
    assert [choice.rank for choice in plan.choices] == [1, 1, 1]


def test_a_budget_that_is_kept_already_changes_nothing() -> None:
    blocks, offers, _ = convex([1.0, 2.0])
    roomy = Cost(bytes=10**6, macs=10**6)
    exact = Budgets(size=(10**6 + ADDED) / 10**6)
    plan = planned(blocks, offers, exact, roomy)
    assert (plan.level, plan.damage, plan.size) == (0.0, 0, exact.size)
    assert {choice.action for choice in plan.choices} == {"keep"}
    assert {choice.why for choice in plan.choices} == {"what it would save is not worth its loss"}
    # One byte less, and what is added has to be saved.
    plan = planned(blocks, offers, Budgets(size=(10**6 + ADDED - 1) / 10**6), roomy)
    assert [choice.rank for choice in plan.choices] == [100, None]


def test_a_tolerance_limits_the_levels() -> None:
    blocks, offers, total = convex([1.0, 2.0])
    plan = planned(blocks, offers, Budgets(size=0.9, tolerance=0.5), total)
    assert max(each.level for each in taken(plan, offers).values()) <= 0.5
    # A level of 0.3 needs 12 of 100 ranks, and so a little more than an eighth of both blocks.
    with pytest.raises(BudgetError, match=r"0\.1 of the bytes .* within a relative error of 0\.3"):
        planned(blocks, offers, Budgets(size=0.1, tolerance=0.3), total)
    assert planned(blocks, offers, Budgets(size=0.1), total).level > 0.3
    high = [replace(each, level=0.7) for each in offers["b0"]]
    plan = planned(blocks, {**offers, "b0": high}, Budgets(size=0.8, tolerance=0.5), total)
    assert plan.choices[0].why == "a smaller form needs a relative error of at least 0.7"


def test_the_currency_decides_the_form() -> None:
    blocks, offers, total = opposite()

    def forms_for(budgets: Budgets) -> set[str | None]:
        return {
            each.form for each in taken(planned(blocks, offers, budgets, total), offers).values()
        }

    assert forms_for(Budgets(size=0.4)) == {"channel"}
    assert forms_for(Budgets(macs=0.4)) == {"spatial"}


def test_a_budget_error_says_how_far_one_gets() -> None:
    for budgets, asked, size, macs in (
        (Budgets(size=0.1), "0.1 of the bytes cannot", 1_000, None),
        (Budgets(macs=0.1), "0.1 of the MACs cannot", None, 200),
        # Neither way of being small is enough; that in MACs comes nearer.
        (Budgets(size=0.3, macs=0.3), "0.3 of the bytes and 0.3 of the MACs cannot", 3_000, 200),
        (Budgets(size=0.3, macs=0.7), "0.3 of the bytes and 0.7 of the MACs cannot", 1_000, 800),
    ):
        blocks, offers, total = opposite()
        with pytest.raises(BudgetError) as caught:
            planned(blocks, offers, budgets, total)
        message = str(caught.value)
        assert asked in message
        if size is not None:
            least = (total.bytes + ADDED - 3 * (4_000 - size)) / total.bytes
            assert f"{least:.4g} of the bytes" in message
        if macs is not None:
            assert f"{(total.macs - 3 * (1_000 - macs)) / total.macs:.4g} of the MACs" in message


def test_left_out_and_hopeless_blocks_stay_with_their_reason() -> None:
    blocks, offers, total = convex([1.0, 1.0, 1.0])
    del offers["b0"]
    offers["b1"] = []
    plan = planned(blocks, offers, Budgets(size=0.8), total)
    assert [choice.why for choice in plan.choices[:2]] == [
        "left out by --include or --exclude",
        "no form makes it smaller",
    ]
    assert plan.choices[2].action == "double_layer"


def test_no_candidates_at_all() -> None:
    blocks, _, total = convex([1.0])
    for offers in ({}, {"b0": []}):
        with pytest.raises(BudgetError, match="no block of this model can be made smaller"):
            planned(blocks, offers, Budgets(size=0.5), total)


def test_the_plan_says_what_it_is_for_and_what_it_rests_on() -> None:
    blocks, offers, total = convex([1.0, 3.0])
    curves = [DamageCurve(key="b0", form="pair", ranks=(1, 2), damages=(0.5, 0.1))]
    budgets = Budgets(size=0.8, macs=0.95)
    plan = planned_of(blocks, offers, budgets, origin(total), by_damage=True, curves=tuple(curves))
    assert (plan.model_sha256, plan.samples_sha256) == ("a" * 64, None)
    assert (plan.budgets, plan.method, plan.seed) == (budgets, "double-layer", 3)
    assert (plan.allocation, plan.curves) == ("damage", tuple(curves))


def test_a_model_without_multiplications_can_be_planned() -> None:
    blocks, offers, _ = convex([1.0])
    plan = planned(blocks, offers, Budgets(size=0.8), Cost(bytes=40_000, macs=0))
    assert plan.size <= 0.8


def test_as_many_ranks_as_a_deep_network_has() -> None:
    rng = np.random.default_rng(0)
    blocks, offers, total = convex(list(10.0 ** rng.uniform(-4, 0, 50)), count=300)
    for budgets in (Budgets(size=0.3), Budgets(macs=0.3)):
        plan = planned(blocks, offers, budgets, total)
        assert holds(cost_of(blocks, taken(plan, offers), total), total, budgets)
        assert max(plan.size, plan.macs) > 0.299
