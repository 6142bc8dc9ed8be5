"""Plans against a search over every level that occurs, written from the rule alone."""

from dataclasses import replace

import numpy as np
import pytest
from examples import block, gemm
from hypothesis import given, settings
from offers import (
    ADDED,
    Offers,
    at_level,
    candidate,
    cases_with_budgets,
    cost_of,
    holds,
    origin,
    planned,
    total_of,
)

from onnx_relusv.core.blocks import Block
from onnx_relusv.core.errors import BudgetError
from onnx_relusv.core.plans import Budgets, Cost, Plan
from onnx_relusv.rewrites.low_rank.method import DEFAULT_ERROR, DEFAULT_ERROR_WITHOUT_SAMPLES


def decided(plan: Plan) -> dict[str, tuple[str | None, int | None]]:
    return {c.key: (c.form, c.rank) for c in plan.choices if c.action == "double_layer"}


def leveled(plan: Plan) -> dict[str, tuple[str | None, int | None, float]]:
    return {c.key: (c.form, c.rank, c.level) for c in plan.choices if c.action == "double_layer"}


@settings(max_examples=200)
@given(cases_with_budgets())
def test_the_level_is_the_smallest_that_keeps_all_budgets(
    case: tuple[list[Block], Offers, Cost, Budgets],
) -> None:
    blocks, offers, total, budgets = case
    occurring = sorted({0.0, *(c.level for found in offers.values() for c in found)})
    enough = [
        level
        for level in occurring
        if level <= (budgets.tolerance or 1)
        and holds(
            cost_of(blocks, at_level(blocks, offers, total, budgets, level), total),
            total,
            budgets,
        )
    ]
    if not enough:
        with pytest.raises(BudgetError, match="cannot be reached"):
            planned(blocks, offers, budgets, origin(total))
        return
    plan = planned(blocks, offers, budgets, origin(total))
    assert plan.level == enough[0]
    taken = {
        key: next(c for c in offers[key] if (c.form, c.rank, c.level) == what)
        for key, what in leveled(plan).items()
    }
    least = at_level(blocks, offers, total, budgets, plan.level)
    assert taken.keys() <= least.keys()
    assert all(now.level <= least[key].level for key, now in taken.items())
    cost = cost_of(blocks, taken, total)
    assert (plan.size, plan.macs) == (cost.bytes / total.bytes, cost.macs / total.macs)
    assert holds(cost, total, budgets)
    for key, now in taken.items():
        others = {other: c for other, c in taken.items() if other != key}
        better = [{**others, key: c} for c in offers[key] if c.level < now.level]
        for one in (others, *better):
            assert not holds(cost_of(blocks, one, total), total, budgets)
    assert [c.key for c in plan.choices] == [item.key for item in blocks]


def large_and_small(large_saves: int) -> tuple[list[Block], Offers, Cost]:
    """A small block that saves 100 bytes, and a large one that saves a little more than first."""
    large = block(gemm(10_000, 10), key="large", original_bytes=400_000)
    small = block(gemm(100, 10), key="small", original_bytes=4_000)
    offers = {
        "large": [
            candidate(1, 0.5, 400_000 - large_saves - 10, 10),
            candidate(2, 0.25, 400_000 - large_saves, 20),
        ],
        "small": [candidate(1, 0.125, 3_900, 10)],
    }
    return [large, small], offers, total_of([large, small])


def test_a_level_that_holds_is_found_though_higher_ones_do_not() -> None:
    # At 0.25 the large block saves 19,895 and the small one 100, just enough to be worth it; at
    # 0.5 the small one is not any more, and the file is larger by 90 bytes.
    blocks, offers, total = large_and_small(19_895)
    budgets = Budgets(size=(total.bytes + ADDED - 19_895 - 100) / total.bytes)
    plan = planned(blocks, offers, budgets, origin(total))
    assert plan.level == 0.25
    assert decided(plan) == {"large": ("pair", 2), "small": ("pair", 1)}
    tolerant = planned(blocks, offers, Budgets(tolerance=0.5), origin(total))
    assert tolerant.size > plan.size


def test_a_cheaper_form_that_costs_bytes_does_not_hide_the_level_below() -> None:
    # Both budgets hold at 0.3; from 0.4 on the sum of both costs is lower, but not the bytes.
    item = block(gemm(100, 10), key="only", original_bytes=4_000)
    offers = {
        "only": [candidate(1, 0.3, 2_000, 500, "channel"), candidate(1, 0.4, 2_400, 50, "spatial")]
    }
    total = total_of([item], rest=0)
    plan = planned([item], offers, Budgets(size=0.55, macs=0.55), origin(total))
    assert plan.level == 0.3
    assert decided(plan) == {"only": ("channel", 1)}


def test_what_saves_next_to_nothing_stays() -> None:
    blocks, offers, total = large_and_small(30_000)
    plan = planned(blocks, offers, Budgets(tolerance=0.5), origin(total))
    assert decided(plan) == {"large": ("pair", 1)}
    assert plan.choices[1].why == "it would save next to nothing of the model"


def even(count: int = 3) -> tuple[list[Block], Offers, Cost]:
    """Equal blocks, each with a channel form small in bytes and a spatial one small in MACs."""
    blocks = [block(gemm(100, 10), key=f"b{i}", original_bytes=4_000) for i in range(count)]
    offers = {
        item.key: [
            candidate(1, 0.4 + i / 100, 1_000, 800, "channel"),
            candidate(2, 0.2 + i / 100, 2_000, 900, "channel"),
            candidate(1, 0.5 + i / 100, 2_500, 200, "spatial"),
            candidate(2, 0.3 + i / 100, 3_000, 300, "spatial"),
        ]
        for i, item in enumerate(blocks)
    }
    return blocks, offers, total_of(blocks)


def test_the_form_follows_the_budget_s_currency() -> None:
    blocks, offers, total = even()

    def forms_for(budgets: Budgets) -> set[str | None]:
        return {
            form for form, _ in decided(planned(blocks, offers, budgets, origin(total))).values()
        }

    assert forms_for(Budgets(size=0.7)) == {"channel"}
    assert forms_for(Budgets(macs=0.5)) == {"spatial"}
    assert forms_for(Budgets(size=0.9, macs=0.5)) == {"spatial"}


def test_a_smaller_budget_needs_a_higher_level_and_gives_less() -> None:
    for name in ("size", "macs"):
        blocks, offers, total = even(5)
        plans = []
        for share in np.linspace(0.95, 0.4, 40):
            plan = planned(blocks, offers, Budgets(**{name: float(share)}), origin(total))
            assert getattr(plan, name) <= share
            plans.append(plan)
        levels = [plan.level for plan in plans]
        shares = [getattr(plan, name) for plan in plans]
        assert levels == sorted(levels)
        assert shares == sorted(shares, reverse=True)
        assert len(set(levels)) > 5


def test_a_budget_is_kept_to_the_byte() -> None:
    blocks, offers, total = even(1)
    needed = total.bytes + ADDED - 4_000 + 2_000
    plan = planned(blocks, offers, Budgets(size=needed / total.bytes), origin(total))
    assert decided(plan) == {"b0": ("channel", 2)}
    plan = planned(blocks, offers, Budgets(size=(needed - 1) / total.bytes), origin(total))
    assert decided(plan) == {"b0": ("channel", 1)}


def test_what_a_level_leaves_is_used_by_blocks_that_it_changed() -> None:
    blocks = [block(gemm(100, 10), key=key, original_bytes=4_000) for key in "ab"]
    offers = {
        "a": [candidate(1, 0.4, 1_000, 100), candidate(2, 0.1, 3_000, 200)],
        "b": [candidate(1, 0.3, 1_000, 100), candidate(2, 0.2, 1_500, 200)],
    }
    total = total_of(blocks)

    def made(saved: int, **others: float) -> Plan:
        budgets = Budgets(size=(total.bytes + ADDED - saved) / total.bytes, **others)
        return planned(blocks, offers, budgets, origin(total))

    # From 0.4 on 6,000 bytes are saved, and below it 4,000: the rest is too little for the first.
    plan = made(5_000)
    assert (plan.level, decided(plan)) == (0.4, {"a": ("pair", 1), "b": ("pair", 2)})
    assert plan.choices[1].why == "relative error at most 0.4, and what the budgets leave"
    assert decided(made(5_501)) == {"a": ("pair", 1), "b": ("pair", 1)}
    # Multiply-accumulates are no more than what was asked for either.
    assert decided(made(5_000, macs=(total.macs - 1_800) / total.macs))["b"] == ("pair", 1)


def test_a_budget_that_is_kept_already_changes_nothing() -> None:
    blocks, offers, _ = even()
    roomy = Cost(bytes=10**6, macs=10**6)
    plan = planned(blocks, offers, Budgets(size=(10**6 + ADDED) / 10**6), origin(roomy))
    assert (plan.level, decided(plan)) == (0.0, {})
    # One byte less, and what is added has to be saved.
    plan = planned(blocks, offers, Budgets(size=(10**6 + ADDED - 1) / 10**6), origin(roomy))
    assert (plan.level, decided(plan)) == (0.2, {"b0": ("channel", 2)})


def test_without_budgets_the_tolerance_decides() -> None:
    blocks, offers, total = even()
    plan = planned(blocks, offers, Budgets(tolerance=0.215), origin(total))
    assert plan.level == 0.215
    assert decided(plan) == {"b0": ("channel", 2), "b1": ("channel", 2)}
    assert plan.choices[2].why == "a smaller form needs a relative error of at least 0.22"
    assert plan.choices[0].level == 0.2
    assert plan.choices[0].why == "smallest rank with a relative error at most 0.215"


def test_without_anything_the_default_tolerance_decides() -> None:
    blocks, offers, total = even()
    blind = origin(total)
    seen = replace(blind, samples_sha256="b" * 64)
    for source, tolerance in (
        (blind, DEFAULT_ERROR_WITHOUT_SAMPLES),
        (seen, DEFAULT_ERROR),
    ):
        plan = planned(blocks, offers, Budgets(), source)
        assert (plan.level, decided(plan)) == (tolerance, {})


def test_a_tolerance_limits_the_budgets() -> None:
    blocks, offers, total = even()
    with pytest.raises(BudgetError, match=r"within a relative error of 0\.3") as caught:
        planned(blocks, offers, Budgets(size=0.4, tolerance=0.3), origin(total))
    # Three blocks of 4000 bytes at 2000 each, of 12500 in all, and what is added.
    assert f"{(12_500 + ADDED - 6_000) / 12_500:.4g} of the bytes" in str(caught.value)


def test_a_budget_error_says_how_far_it_got() -> None:
    for budgets, asked in (
        (Budgets(size=0.1), "0.1 of the bytes cannot"),
        (Budgets(macs=0.1), "0.1 of the MACs cannot"),
        (Budgets(size=0.1, macs=0.2), "0.1 of the bytes and 0.2 of the MACs cannot"),
    ):
        blocks, offers, total = even()
        with pytest.raises(BudgetError) as caught:
            planned(blocks, offers, budgets, origin(total))
        message = str(caught.value)
        assert asked in message
        if budgets.macs is None:
            assert f"the least is {(12_500 + ADDED - 9_000) / 12_500:.4g} of the bytes" in message
        if budgets.size is None:
            assert f"{(3_500 - 2_400) / 3_500:.4g} of the MACs" in message


def test_the_least_in_the_error_is_the_least_of_all_levels() -> None:
    blocks, offers, total = large_and_small(19_895)
    with pytest.raises(BudgetError) as caught:
        planned(blocks, offers, Budgets(size=0.1), origin(total))
    least = min(
        cost_of(blocks, at_level(blocks, offers, total, Budgets(size=0.1), level), total).bytes
        for level in (0.125, 0.25, 0.5)
    )
    assert least == total.bytes + ADDED - 19_895 - 100
    assert f"{least / total.bytes:.4g} of the bytes" in str(caught.value)


def test_left_out_and_hopeless_blocks_stay_with_their_reason() -> None:
    blocks, offers, total = even()
    del offers["b0"]
    offers["b1"] = []
    plan = planned(blocks, offers, Budgets(tolerance=0.9), origin(total))
    assert decided(plan) == {"b2": ("channel", 1)}
    assert [choice.why for choice in plan.choices[:2]] == [
        "left out by --include or --exclude",
        "no form makes it smaller",
    ]


def test_no_candidates_at_all() -> None:
    blocks, _, total = even()
    for offers in ({}, {item.key: [] for item in blocks}):
        with pytest.raises(BudgetError, match="no block of this model can be made smaller"):
            planned(blocks, offers, Budgets(size=0.5), origin(total))


def test_the_plan_says_what_it_is_for() -> None:
    blocks, offers, total = even()
    budgets = Budgets(size=0.8, macs=0.95)
    plan = planned(blocks, offers, budgets, origin(total))
    assert (plan.model_sha256, plan.samples_sha256) == ("a" * 64, None)
    assert (plan.budgets, plan.method, plan.seed) == (budgets, "double-layer", 3)


def test_a_model_without_multiplications_can_be_planned() -> None:
    blocks, offers, _ = even(1)
    total = Cost(bytes=4_000, macs=0)
    plan = planned(blocks, offers, Budgets(tolerance=0.4), origin(total))
    assert decided(plan) == {"b0": ("channel", 1)}


def test_many_blocks_with_many_ranks() -> None:
    # As many levels as a deep network has: every one of them may have to be looked at.
    rng = np.random.default_rng(0)
    blocks = [block(gemm(1000, 10), key=f"b{i}", original_bytes=40_000) for i in range(60)]
    offers = {
        item.key: [
            candidate(rank, float(level), 100 * rank, 10 * rank)
            for rank, level in enumerate(np.sort(rng.random(300))[::-1], 1)
        ]
        for item in blocks
    }
    total = total_of(blocks)
    plan = planned(blocks, offers, Budgets(size=0.3), origin(total))
    taken = at_level(blocks, offers, total, Budgets(size=0.3), plan.level)
    below = at_level(blocks, offers, total, Budgets(size=0.3), np.nextafter(plan.level, 0))
    assert cost_of(blocks, taken, total).bytes <= 0.3 * total.bytes
    assert cost_of(blocks, below, total).bytes > 0.3 * total.bytes
