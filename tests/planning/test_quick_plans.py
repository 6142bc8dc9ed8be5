"""Plans that lose as little and take less time, by the model of the kernels."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cut_graphs import GRAPHS
from cut_plans import opened_graph

from onnx_relusv.core.errors import BudgetError
from onnx_relusv.core.options import PlanOptions
from onnx_relusv.core.plans import Budgets
from onnx_relusv.measuring.blocks import Ground, measure_blocks
from onnx_relusv.measuring.without_samples import planning_moments
from onnx_relusv.planning.latency.kernels import PRICES, WORK, Kernels
from onnx_relusv.planning.offer import Offer, make_offer
from onnx_relusv.work.executors import Silent

# As planning has it: of the damage, and of damage that is worth a word.
WORTHLESS, NOT_SLOWER = 0.03, 2.0
KINDS = tuple(zip(WORK, PRICES, strict=True))
# A search is good and not exact, and bytes are not what was estimated: five in a hundred for these.
SEARCHED = 0.08


@contextmanager
def offered(name: str, folder: Path, planning: PlanOptions) -> Iterator[Offer]:
    model = opened_graph(GRAPHS[name], folder, samples=planning.budgets.tolerance is None)
    with planning_moments(*model, Silent()) as moments:
        measured = measure_blocks(*model, moments, Silent())
        yield make_offer(Ground(*model, moments, measured), planning, Silent())


@pytest.mark.parametrize("name", GRAPHS)
def test_a_quick_plan_loses_as_little_or_is_not_slower(name: str, tmp_path: Path) -> None:
    planning = PlanOptions(budgets=Budgets(size=0.5), pack=16)
    with offered(name, tmp_path, planning) as offer:
        assert offer.keeps_pace
        assert offer.measure is not None
        noticeable = offer.measure.noticeable
        for size in (0.9, 0.6, 0.4):
            budgets = Budgets(size=size)
            free = replace(offer, keeps_pace=False).plan(budgets)
            quick = offer.plan(budgets)
            assert quick.budgets == free.budgets == budgets
            assert quick.size <= size
            assert free.damage is not None
            assert quick.damage is not None
            assert free.latency is not None
            assert quick.latency is not None
            most = (1 + WORTHLESS + SEARCHED) * (free.damage + WORTHLESS * noticeable)
            # Only not to be slower than the original it may do twice the damage.
            assert quick.damage <= (most if free.latency <= 1 else NOT_SLOWER * most)
            assert quick.latency <= free.latency * (1 + SEARCHED)


def test_of_plans_with_the_same_damage_the_quickest_is_taken(tmp_path: Path) -> None:
    """With damages of nothing, nothing but the size holds time up."""
    with offered("chain", tmp_path, PlanOptions(budgets=Budgets(size=0.5), pack=16)) as offer:
        items = tuple(replace(item, damages=0 * item.damages) for item in offer.offered.items)
        harmless = replace(offer, offered=replace(offer.offered, items=items))
        budgets = Budgets(size=0.9)
        free, quick = (
            each.plan(budgets).latency for each in (replace(harmless, keeps_pace=False), harmless)
        )
        assert free is not None
        assert quick is not None
        assert quick < free


def test_a_plan_that_is_slower_with_many_samples_gives_way(tmp_path: Path) -> None:
    """Where every further node costs more than the model, double layers are slower."""
    planning = PlanOptions(budgets=Budgets(size=0.5), pack=16)
    with offered("residual", tmp_path, planning) as offer:
        assert offer.at_many is not None
        assert offer.measure is not None
        cheap, dear = (
            tuple(each if what == "nodes" else price for what, price in KINDS)
            for each in (0.0, 1e12)
        )
        quick, costly = (
            replace(offer.at_many, kernels=Kernels(32, 16, prices)) for prices in (cheap, dear)
        )
        offer = offer.by_times(quick)
        seen = set()
        for size in (0.9, 0.8, 0.6):
            budgets = Budgets(size=size)
            free = replace(offer, at_many=None).plan(budgets)
            found = replace(offer, at_many=costly).plan(budgets)
            layered = [any(one.is_double_layer for one in each.choices) for each in (free, found)]
            seen.add(tuple(layered))
            assert found.size <= size
            assert free.damage is not None
            assert found.damage is not None
            assert free.many is None
            assert found.many is not None
            assert found.many.batch == 32
            # Layers alone have nodes more, and are slower; channels alone take no time here.
            assert (found.many.share > 1) == layered[1]
            if not layered[0]:
                assert replace(found, many=None) == free
            if not layered[1] and layered[0]:
                noticeable = WORTHLESS * offer.measure.noticeable
                assert found.damage <= NOT_SLOWER * (free.damage + noticeable)
                assert (found.latency or 0) <= max(1.0, free.latency or 0)
        assert (True, False) in seen


def test_many_samples_are_looked_at_where_fewer_are_asked_for(tmp_path: Path) -> None:
    for batch, looked_at in ((1, True), (31, True), (32, False), (64, False)):
        planning = PlanOptions(budgets=Budgets(size=0.5), pack=16, batch=batch)
        with offered("chain", tmp_path, planning) as offer:
            assert (offer.at_many is not None) == looked_at


def test_by_one_error_no_block_gets_slower(tmp_path: Path) -> None:
    with offered("chain", tmp_path, PlanOptions(budgets=Budgets(tolerance=0.3), pack=16)) as offer:
        budgets = Budgets(tolerance=0.3)
        free = replace(offer, keeps_pace=False).plan(budgets)
        quick = offer.plan(budgets)
        assert quick.latency is not None
        assert free.latency is not None
        assert quick.latency <= free.latency


def test_times_are_left_alone_where_they_are_not_asked_for(tmp_path: Path) -> None:
    for planning in (
        PlanOptions(budgets=Budgets(size=0.5), round_to=1),
        PlanOptions(budgets=Budgets(size=0.5), precision="fp16"),
    ):
        with offered("chain", tmp_path, planning) as offer:
            assert not offer.keeps_pace
            assert offer.plan(Budgets(size=0.6)).latency is None


def test_what_no_plan_keeps_is_still_an_error(tmp_path: Path) -> None:
    with (
        offered("chain", tmp_path, PlanOptions(budgets=Budgets(size=0.5), pack=16)) as offer,
        pytest.raises(BudgetError, match="cannot be reached"),
    ):
        offer.plan(Budgets(size=0.01))
