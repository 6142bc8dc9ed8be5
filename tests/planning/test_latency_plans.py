"""Plans under a budget on latency, with given times: by level, by damage, and with others."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from examples import block, gemm
from offers import Offers, candidate, convex, origin, planned, total_of

from onnx_relusv.core.blocks import Block
from onnx_relusv.core.errors import BudgetError
from onnx_relusv.core.plans import Budgets, Cost, Plan
from onnx_relusv.planning.limits import Origin
from onnx_relusv.rewrites.low_rank.candidates import block_cost
from onnx_relusv.rewrites.low_rank.method import TIMING_NOISE

WAYS = [False, True]


def timed(
    blocks: Sequence[Block], offers: Offers, *, whole: float, dense: float = 1.0
) -> tuple[Offers, Origin]:
    """Times that go with the rank: a hundredth of the block for each."""
    found = {
        key: [replace(each, latency=dense * each.rank / 100) for each in own]
        for key, own in offers.items()
    }
    source = replace(
        origin(replace(total_of(blocks), latency=whole)),
        batch=8,
    )
    return found, source


def made(
    by_damage: bool,
    blocks: Sequence[Block],
    offers: Offers,
    budgets: Budgets,
    source: Origin,
    dense: float = 1.0,
) -> Plan:
    latencies = None if budgets.latency is None else dict.fromkeys(offers, dense)
    return planned(blocks, offers, budgets, source, by_damage=by_damage, latencies=latencies)


def latency_of(plan: Plan, offers: Offers, source: Origin) -> float:
    total = source.total.latency
    for choice in plan.choices:
        if choice.action == "double_layer":
            (own,) = (each for each in offers[choice.key] if each.rank == choice.rank)
            total += own.latency - 1.0
    return total / source.total.latency


@pytest.mark.parametrize("by_damage", WAYS)
@pytest.mark.parametrize("share", [0.9, 0.6, 0.45])
def test_the_budget_is_kept_and_spent(by_damage: bool, share: float) -> None:
    blocks, offers, _ = convex([1.0, 8.0, 27.0])
    # A quarter of the time is spent outside of the blocks.
    offers, source = timed(blocks, offers, whole=4.0)
    plan = made(by_damage, blocks, offers, Budgets(latency=share), source)
    assert plan.latency == pytest.approx(latency_of(plan, offers, source), rel=1e-12)
    assert plan.latency is not None
    # By level all ranks move together, three hundredths of a block at a time.
    assert share - 0.01 <= plan.latency <= share
    assert plan.batch == 8


@pytest.mark.parametrize("by_damage", WAYS)
def test_what_lies_outside_of_the_blocks_stays(by_damage: bool) -> None:
    blocks, offers, _ = convex([1.0, 1.0, 1.0])
    offers, source = timed(blocks, offers, whole=4.0)
    least = (1 + 3 / 100) / 4
    assert made(
        by_damage, blocks, offers, Budgets(latency=least + 1e-9), source
    ).latency == pytest.approx(least)
    with pytest.raises(BudgetError, match=rf"an estimated {least:.4g} of the latency"):
        made(by_damage, blocks, offers, Budgets(latency=least - 1e-3), source)


@pytest.mark.parametrize("by_damage", WAYS)
def test_what_makes_a_block_slower_is_not_taken(by_damage: bool) -> None:
    blocks, offers, _ = convex([1.0, 1.0])
    offers, source = timed(blocks, offers, whole=4.0)
    slow = 1 + TIMING_NOISE
    offers["b0"] = [replace(each, latency=slow * 1.001) for each in offers["b0"]]
    plan = made(by_damage, blocks, offers, Budgets(latency=0.8), source)
    assert [choice.action for choice in plan.choices] == ["keep", "double_layer"]
    assert plan.choices[0].why == "every smaller form is slower"
    # Without a budget on latency nobody cares.
    without = made(by_damage, blocks, offers, Budgets(size=0.3), source)
    assert {choice.action for choice in without.choices} == {"double_layer"}
    # Within the noise, a block may still shrink for the size.
    offers["b0"] = [replace(each, latency=slow * 0.999) for each in offers["b0"]]
    both = made(by_damage, blocks, offers, Budgets(size=0.3, latency=0.99), source)
    assert {choice.action for choice in both.choices} == {"double_layer"}


@pytest.mark.parametrize("by_damage", WAYS)
def test_three_budgets_hold_together(by_damage: bool) -> None:
    blocks, offers, _ = convex([1.0, 3.0, 9.0])
    offers, source = timed(blocks, offers, whole=4.0)
    for budgets in (
        Budgets(size=0.7, macs=0.97, latency=0.5),
        Budgets(size=0.4, macs=0.97, latency=0.9),
        Budgets(size=0.9, macs=0.6, latency=0.9),
    ):
        plan = made(by_damage, blocks, offers, budgets, source)
        assert plan.latency is not None
        spent = [
            plan.size / (budgets.size or 1),
            plan.macs / (budgets.macs or 1),
            plan.latency / (budgets.latency or 1),
        ]
        assert 0.98 <= max(spent) <= 1
    with pytest.raises(BudgetError, match=r"bytes and .* MACs and .* of the latency"):
        made(by_damage, blocks, offers, Budgets(size=0.01, macs=0.5, latency=0.5), source)


def test_the_form_follows_the_time() -> None:
    """Of two forms of equal damage, the one that saves MACs may take longer."""
    item = block(gemm(100, 10), key="only", original_bytes=4_000)
    few = replace(candidate(1, 0.4, 2_000, 100, "spatial"), damage=1.0, latency=0.9)
    fast = replace(candidate(2, 0.4, 2_000, 900, "channel"), damage=1.0, latency=0.3)
    total = Cost(bytes=4_000, macs=block_cost(item).macs, latency=1.0)
    source = origin(total)
    for by_damage in WAYS:
        for budgets, form in ((Budgets(macs=0.5), "spatial"), (Budgets(latency=0.5), "channel")):
            (choice,) = made(by_damage, [item], {"only": [few, fast]}, budgets, source).choices
            assert choice.form == form


@pytest.mark.parametrize("by_damage", WAYS)
def test_blocks_that_were_left_out_need_no_times(by_damage: bool) -> None:
    blocks, offers, _ = convex([1.0, 1.0])
    offers, source = timed(blocks, offers, whole=4.0)
    del offers["b0"]
    plan = made(by_damage, blocks, offers, Budgets(latency=0.9), source)
    assert plan.choices[0].why == "left out by --include or --exclude"
    assert plan.choices[1].action == "double_layer"
