"""What a run has found of groups is there for the next one, and for no other."""

from dataclasses import replace
from pathlib import Path

import pytest
from cut_graphs import GRAPHS
from cut_plans import opened_graph
from opened import Opened

from onnx_relusv.core.options import PlanOptions
from onnx_relusv.core.plans import Budgets
from onnx_relusv.measuring.blocks import Ground, measure_blocks
from onnx_relusv.measuring.without_samples import planning_moments
from onnx_relusv.planning.offer import Offer, make_offer
from onnx_relusv.rewrites.prune import method, orders
from onnx_relusv.rewrites.prune.method import GroupItem
from onnx_relusv.work.cache import Cache
from onnx_relusv.work.executors import Silent

PLANNING = PlanOptions(method="harmonic", budgets=Budgets(size=0.5), divergence="l2")


def offered(model: Opened) -> Offer:
    with planning_moments(*model, Silent()) as moments:
        measured = measure_blocks(*model, moments, Silent())
        return make_offer(Ground(*model, moments, measured), PLANNING, Silent())


def refuse(*arguments: object, **others: object) -> None:
    raise AssertionError("it was known")


@pytest.mark.parametrize("name", ["chain", "groups"])
def test_nothing_is_found_twice(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = opened_graph(GRAPHS[name], tmp_path)
    model = model.with_workspace(cache=Cache(tmp_path / "cache"))
    first = offered(model)
    assert first.offered.curves
    monkeypatch.setattr(orders, "eliminate", refuse)
    monkeypatch.setattr(method, "compensated_map", refuse)
    second = offered(model)
    assert second.offered.curves == first.offered.curves
    for one, other in zip(first.offered.items, second.offered.items, strict=True):
        assert isinstance(one, GroupItem)
        assert isinstance(other, GroupItem)
        before, after = one.ordered.elimination, other.ordered.elimination
        assert before.order.tolist() == after.order.tolist()
        assert before.levels.tolist() == after.levels.tolist()
    assert second.plan(Budgets(macs=0.6)) == first.plan(Budgets(macs=0.6))


def test_another_seed_finds_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = opened_graph(GRAPHS["chain"], tmp_path)
    model = model.with_workspace(cache=Cache(tmp_path / "cache"))
    offered(model)
    monkeypatch.setattr(orders, "eliminate", refuse)
    with pytest.raises(AssertionError, match="it was known"):
        offered(model.with_workspace(options=replace(model.workspace.options, seed=99)))
