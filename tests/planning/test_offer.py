"""Plans of removed units, alone and with double layers, on graphs that are small enough to list."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from cut_graphs import GRAPHS
from cut_plans import opened_graph
from hypothesis import given
from hypothesis import strategies as st
from opened import Opened

from onnx_relusv.core.errors import BudgetError
from onnx_relusv.core.options import PlanOptions
from onnx_relusv.core.plans import Budgets, Plan
from onnx_relusv.fitting.plan import fit_plan
from onnx_relusv.graph.model import read_model
from onnx_relusv.graph.writing import write_staged
from onnx_relusv.measuring.blocks import Ground, measure_blocks
from onnx_relusv.measuring.case import BlockMoments, facts_of
from onnx_relusv.measuring.without_samples import planning_moments
from onnx_relusv.planning.cost import Coupling
from onnx_relusv.planning.offer import Offer, make_offer
from onnx_relusv.planning.search import ladder
from onnx_relusv.rewrites.apply import rewritten
from onnx_relusv.rewrites.prune.method import GroupItem
from onnx_relusv.rewrites.prune.orders import Ordered
from onnx_relusv.rewrites.prune.units import Rounding
from onnx_relusv.work.executors import Silent
from onnx_relusv.work.files import staged


@contextmanager
def offered(
    name: str, folder: Path, method: str = "auto", *, samples: bool = True, **options: object
) -> Iterator[tuple[Opened, Offer, BlockMoments]]:
    """What plans of a graph are made of; by damage where there are samples."""
    model = opened_graph(GRAPHS[name], folder, samples=samples)
    budgets = Budgets(size=0.5) if samples else Budgets(tolerance=0.3)
    planning = PlanOptions(method=method, budgets=budgets, **options)  # type: ignore[arg-type]
    with planning_moments(*model, Silent()) as moments:
        measured = measure_blocks(*model, moments, Silent())
        yield model, make_offer(Ground(*model, moments, measured), planning, Silent()), moments


def groups(offer: Offer) -> list[GroupItem]:
    return [item for item in offer.offered.items if isinstance(item, GroupItem)]


def ordered(offer: Offer) -> list[Ordered]:
    return [item.ordered for item in groups(offer)]


def coupling(offer: Offer) -> Coupling:
    assert offer.offered.coupling is not None
    return offer.offered.coupling


def kept(plan: Plan) -> dict[str, int]:
    return {group.key: len(group.kept) for group in plan.groups}


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("method", ["auto", "harmonic"])
def test_what_is_planned_is_what_the_file_has(name: str, method: str, tmp_path: Path) -> None:
    """Bytes are an upper bound, and multiply-accumulates exact."""
    with offered(name, tmp_path, method) as (model, offer, moments):
        for size in (0.95, 0.8):
            plan = offer.plan(Budgets(size=size))
            assert plan.size <= size
            fitted = fit_plan(*model, plan, moments, Silent())
            with staged(tmp_path / "small.onnx") as folder:
                path = write_staged(
                    rewritten(*model, fitted), model.case.model, folder, "small.onnx"
                )
                facts = facts_of(
                    read_model(path),
                    model.workspace.provider,
                    model.case.example,
                    model.case.example_batch,
                )
            # A whole number of bytes as a share of some: one rounding may take it below.
            assert facts.bytes <= plan.size * model.case.model.bytes * (1 + 1e-15)
            # Of some ten thousand; the plan rounds to a whole one and gives a share.
            assert facts.macs == pytest.approx(plan.macs * model.case.facts.macs, abs=1)


def test_the_least_damage_of_all_plans(tmp_path: Path) -> None:
    """Against all combinations of counts, for units alone."""
    with offered("residual", tmp_path, "harmonic") as (_, offer, _):
        counts = [range(len(item.counts)) for item in groups(offer)]
        for macs in (0.8, 0.5, 0.2):
            found = offer.plan(Budgets(macs=macs))
            best = np.inf
            for state in product(*counts):
                chosen = list(zip(groups(offer), state, strict=True))
                left = np.array([item.counts[option] for item, option in chosen])
                _, saved_macs = coupling(offer).cut.saved(left)
                if offer.origin.total.macs - saved_macs <= macs * offer.origin.total.macs:
                    best = min(best, sum(item.damages[option] for item, option in chosen))
            assert found.damage == pytest.approx(best)


@pytest.mark.parametrize("name", ["chain", "residual"])
def test_both_together_promise_no_more_damage_than_each_alone(name: str, tmp_path: Path) -> None:
    # Where time counts too, a little more of it is taken.
    with offered(name, tmp_path, round_to=1) as (_, offer, _):
        items = offer.offered.items
        own = tuple(groups(offer))
        others = tuple(item for item in items if not isinstance(item, GroupItem))
        assert others
        units = replace(offer, offered=replace(offer.offered, items=own))
        layers = replace(offer, offered=replace(offer.offered, items=others))
        for macs in (0.9, 0.7, 0.5):
            together = offer.plan(Budgets(macs=macs)).damage
            for alone in (units, layers):
                try:
                    damage = alone.plan(Budgets(macs=macs)).damage
                except BudgetError:
                    continue
                assert together is not None
                assert damage is not None
                assert together <= damage * (1 + 1e-9)


def test_one_level_for_all_groups(tmp_path: Path) -> None:
    """No lower level keeps the budget, and of what it leaves no group can keep more."""
    with offered("chain", tmp_path, "harmonic", samples=False) as (_, offer, _):
        assert offer.measure is None
        plan = offer.plan(Budgets(macs=0.5))
        assert plan.allocation == "level"
        assert plan.macs <= 0.5
        counts = np.array([kept(plan)[group.key] for group in coupling(offer).channels.groups])
        limit = 0.5 * offer.origin.total.macs
        places = {group.key: place for place, group in enumerate(coupling(offer).channels.groups)}
        for one in ordered(offer):
            more, left = counts.copy(), kept(plan)[one.group.key]
            assert one.level(left) <= plan.level
            more[places[one.group.key]] += 1
            assert offer.origin.total.macs - coupling(offer).cut.saved(more)[1] > limit
        assert any(left > 1 for left in counts)
        lower = offer.plan(Budgets(tolerance=plan.level * (1 - 1e-9)))
        assert lower.macs > 0.5


def test_a_tolerance_bounds_every_level(tmp_path: Path) -> None:
    with offered("chain", tmp_path) as (_, offer, _):
        free = offer.plan(Budgets(macs=0.4))
        assert free.level > 0.7
        bound = offer.plan(Budgets(macs=0.8, tolerance=0.7))
        assert bound.level <= 0.7
        with pytest.raises(BudgetError, match="of the MACs"):
            offer.plan(Budgets(macs=0.05, tolerance=0.7))


@pytest.mark.parametrize("samples", [True, False])
def test_a_budget_out_of_reach_says_what_is_in_reach(samples: bool, tmp_path: Path) -> None:
    with (
        offered("residual", tmp_path, "harmonic", samples=samples) as (_, offer, _),
        pytest.raises(BudgetError, match="of the MACs"),
    ):
        offer.plan(Budgets(macs=1e-4))


def test_the_least_size_is_reached_and_not_undercut(tmp_path: Path) -> None:
    with offered("chain", tmp_path) as (_, offer, _):
        least = offer.least_size(None)
        # Blocks that are refitted get a bias, for which room is set aside.
        size = 1.001 * (least + offer.origin.reserved_bytes / offer.origin.total.bytes)
        assert offer.plan(Budgets(size=size)).size <= size
        with pytest.raises(BudgetError):
            offer.plan(Budgets(size=least * 0.9))
        assert offer.least_size(0.2) > least


def test_numbers_of_channels_are_rounded(tmp_path: Path) -> None:
    with offered("chain", tmp_path, "harmonic", round_to=2, keep_at_least=4) as (_, offer, _):
        left = kept(offer.plan(Budgets(macs=0.7)))
        assert left != {one.group.key: one.units for one in ordered(offer)}
        for one in ordered(offer):
            count = left[one.group.key]
            assert count == one.units or (count % 2 == 0 and count >= 4)


def test_excluded_blocks_keep_their_channels(tmp_path: Path) -> None:
    with offered("chain", tmp_path, exclude=("i",)) as (_, offer, _):
        # It writes the last group and reads the one before.
        assert [one.group.key for one in ordered(offer)] == ["a"]
        plan = offer.plan(Budgets(macs=0.8))
        (choice,) = [choice for choice in plan.choices if choice.key == "i"]
        assert choice.action == "keep"


@given(st.integers(1, 600), st.integers(1, 64), st.integers(1, 64))
def test_counts_that_may_be_kept(units: int, multiple: int, least: int) -> None:
    found = Rounding(multiple, least).counts(units)
    assert found[0] == units
    assert list(found) == sorted(set(found), reverse=True)
    assert all(count % multiple == 0 and count >= least for count in found[1:])


@given(st.integers(1, 2000), st.floats(0, 1))
def test_ladders_get_finer(units: int, share: float) -> None:
    sizes = np.arange(units, 0, -1.0)
    near = round(share * (units - 1))
    coarse = ladder(sizes)
    assert coarse[0] == 0
    assert coarse[-1] == units - 1
    assert list(coarse) == sorted(set(coarse))
    assert len(coarse) <= 40
    finer = ladder(sizes, near)
    assert {0, near} <= set(finer)
    assert len(finer) <= 42
    assert list(finer) == sorted(set(finer))
    # Forty over a factor of two thousand are 1.22 apart; as many over two such steps 1.01.
    closest = min((place for place in finer if place > near), default=near)
    assert sizes[near] <= sizes[closest] * 1.02 + 1
