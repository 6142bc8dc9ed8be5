"""Damage curves of groups against models that are really cut."""

from pathlib import Path

import numpy as np
import pytest
from cut_graphs import GRAPHS
from cut_plans import opened_graph
from hypothesis import given
from hypothesis import strategies as st
from opened import Opened
from probed import answers, selected

from onnx_relusv.core.measures import GroupCurve
from onnx_relusv.core.options import PlanOptions
from onnx_relusv.core.plans import Budgets
from onnx_relusv.graph.channels.walk import ChannelGroup
from onnx_relusv.measuring.blocks import Ground, measure_blocks
from onnx_relusv.measuring.without_samples import planning_moments
from onnx_relusv.planning.offer import Offer, make_offer
from onnx_relusv.rewrites.prune.cutting import cut
from onnx_relusv.rewrites.prune.elimination import Elimination
from onnx_relusv.rewrites.prune.method import (
    GroupItem,
    HarmonicPruning,
    counts_to_measure,
    group_item,
)
from onnx_relusv.rewrites.prune.orders import Ordered
from onnx_relusv.rewrites.prune.units import Rounding
from onnx_relusv.work.executors import Silent

PLANNING = PlanOptions(method="harmonic", budgets=Budgets(size=0.5), divergence="l2")


def offered(model: Opened) -> Offer:
    with planning_moments(*model, Silent()) as moments:
        measured = measure_blocks(*model, moments, Silent())
        return make_offer(Ground(*model, moments, measured), PLANNING, Silent())


def groups(offer: Offer) -> list[Ordered]:
    return [item.ordered for item in offer.offered.items if isinstance(item, GroupItem)]


def group_curves(offer: Offer) -> list[GroupCurve]:
    return [curve for curve in offer.offered.curves if isinstance(curve, GroupCurve)]


def damages(curve: GroupCurve | None, order: Elimination, units: int) -> np.ndarray:
    """(units,): by how many are gone; one unit at least stays."""
    group = ChannelGroup("a", range(units), ("a",), ("b",))
    item = group_item(Ordered(group, order, ()), 0, Rounding())
    tries = [] if curve is None else zip(curve.counts, curve.damages, strict=True)
    measured = {(count,): damage for count, damage in tries}
    return HarmonicPruning().with_damages(item, measured)[0].damages


def squared_error(after: np.ndarray, before: np.ndarray) -> float:
    """The damage of outputs that are no scores, by itself."""
    before, after = before.astype(np.float64), after.astype(np.float64)
    return float(np.sum((after - before) ** 2) / np.sum(before**2))


def test_a_group_that_no_block_reads_does_damage(tmp_path: Path) -> None:
    """A ConvTranspose gets nothing back: it is as if its columns were cut out, which is tried."""
    model = opened_graph(GRAPHS["groups"], tmp_path)
    offer = offered(model)
    assert model.case.channels is not None
    (one,) = [one for one in groups(offer) if one.group.key == "d"]
    assert not one.is_read_by_blocks
    (curve,) = [curve for curve in group_curves(offer) if curve.key == "d"]
    feeds = {"x": selected(model)}
    before = answers(model.case.model.proto, feeds)["y"]
    for count, damage in zip(curve.counts, curve.damages, strict=True):
        proto = cut(
            model.case.model, model.case.channels, one.removed(model.case.channels.count, count)
        )
        # Sums of some hundred float32 products, squared.
        assert damage == pytest.approx(squared_error(answers(proto, feeds)["y"], before), rel=1e-3)
    assert min(curve.damages) > 1e-3


def test_blocks_get_back_what_they_can(tmp_path: Path) -> None:
    """With consumers that are fitted less is lost than by cutting alone, in most of all cuts."""
    model = opened_graph(GRAPHS["chain"], tmp_path)
    offer = offered(model)
    assert model.case.channels is not None
    feeds = {"x": selected(model)}
    before = answers(model.case.model.proto, feeds)["y"]
    better = tries = 0
    for one in groups(offer):
        (curve,) = [curve for curve in group_curves(offer) if curve.key == one.group.key]
        for count, damage in zip(curve.counts, curve.damages, strict=True):
            proto = cut(
                model.case.model, model.case.channels, one.removed(model.case.channels.count, count)
            )
            plain = squared_error(answers(proto, feeds)["y"], before)
            better += damage < plain
            tries += 1
    assert better >= 0.8 * tries


def test_few_counts_are_measured() -> None:
    for units in (2, 3, 10, 500):
        counts = counts_to_measure(units, 5)
        assert 1 <= len(counts) <= 5
        assert list(counts) == sorted(set(counts))
        assert 1 <= counts[0] <= counts[-1] < units


def test_measured_damages_are_met_and_more_units_never_hurt() -> None:
    levels = np.array([0, 1e-3, 0.01, 0.05, 0.2, 0.6, 1.0])
    order = Elimination(np.arange(6), levels)
    curve = GroupCurve(key="a", counts=(2, 4), damages=(0.5, 0.01))
    found = damages(curve, order, 6)
    assert found[2] == pytest.approx(0.01)
    assert found[4] == pytest.approx(0.5)
    assert found[0] == 0
    assert np.all(np.diff(found) >= 0)
    # Beyond what was measured, damage goes with the level's square.
    assert found[1] == pytest.approx(0.01 * 0.1**2)
    assert found[5] == pytest.approx(0.5 * 3**2)


@given(st.lists(st.floats(1e-9, 10), min_size=3, max_size=3))
def test_noise_is_no_gain(measured: list[float]) -> None:
    order = Elimination(np.arange(8), np.linspace(0, 1, 9) ** 2)
    found = damages(GroupCurve(key="a", counts=(1, 4, 6), damages=tuple(measured)), order, 8)
    assert np.all(np.diff(found) >= 0)


def test_nothing_that_is_read_by_nobody_is_damaged() -> None:
    order = Elimination(np.arange(3), np.zeros(4))
    np.testing.assert_array_equal(damages(None, order, 3), np.zeros(3))
