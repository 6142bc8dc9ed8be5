"""The corrective round where units are removed too, against rewritten files run by themselves."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cut_graphs import CutGraph
from cut_plans import opened_graph
from graphs import normal, run
from opened import Opened
from probed import divergence_of_logits, selected

from onnx_relusv.checking import corrective
from onnx_relusv.checking.corrective import CorrectionSettings, fitted_by_damage
from onnx_relusv.core.options import PlanOptions
from onnx_relusv.core.plans import Budgets, Factors, Plan
from onnx_relusv.core.reduction import FittedPlan, compensated_map
from onnx_relusv.fitting.plan import fit_plan
from onnx_relusv.measuring.blocks import Ground, measure_blocks
from onnx_relusv.measuring.case import BlockMoments
from onnx_relusv.measuring.without_samples import planning_moments
from onnx_relusv.planning.offer import Offer, make_offer
from onnx_relusv.rewrites.apply import rewritten
from onnx_relusv.rewrites.low_rank.forms import FORMS
from onnx_relusv.work.executors import Silent

BUDGETS = Budgets(size=0.5)
# The same network in float32 by another way, and a difference of two damages.
ROUNDING = 1e-3
# Half of the first units nearly repeat the others, and the second map is nearly of rank six: one
# layer is for removed units, the other for a double layer.
TEXT = (
    "(float[N,40] x) => (float[N,12] y) {"
    " a = Gemm<transB=1>(x, k, b) r = Relu(a) c = Gemm<transB=1>(r, l, d) s = Relu(c)"
    " y = Gemm<transB=1>(s, m, e) }"
)
HALF = normal(32, 40, scale=0.3)
ARRAYS = {
    "k": np.concatenate([HALF, HALF]) + normal(64, 40, scale=0.05, seed=1),
    "b": normal(64, scale=0.1),
    "l": normal(64, 6, scale=0.3, seed=2) @ normal(6, 64, scale=0.5, seed=3)
    + normal(64, 64, scale=0.03, seed=4),
    "d": normal(64, scale=0.1, seed=5),
    "m": normal(12, 64, scale=0.2, seed=6),
    "e": normal(12, scale=0.1, seed=7),
}


@pytest.fixture
def case(tmp_path: Path) -> tuple[Opened, Offer, BlockMoments]:
    model = opened_graph(CutGraph(TEXT, ARRAYS, (5, 40), {}), tmp_path)
    planning = PlanOptions(method="auto", budgets=BUDGETS)
    with planning_moments(*model, Silent()) as moments:
        known: BlockMoments = {block.key: moments[block.key] for block in model.case.blocks}
        measured = measure_blocks(*model, known, Silent())
        return model, make_offer(Ground(*model, known, measured), planning, Silent()), known


def damage(model: Opened, fitted: FittedPlan) -> float:
    """Of a rewritten file, on the samples for choosing."""
    x = {"x": selected(model)}
    before, after = run(model.case.model.path, x)["y"], run(rewritten(*model, fitted), x)["y"]
    return divergence_of_logits(before, after)


def mixed(offer: Offer) -> Plan:
    """The least damage within the budget, with units gone and a double layer."""
    plan = offer.plan(BUDGETS)
    assert any(len(group.kept) < group.units for group in plan.groups)
    assert any(choice.action == "double_layer" for choice in plan.choices)
    return plan


def test_the_damage_is_that_of_the_file(case: tuple[Opened, Offer, BlockMoments]) -> None:
    model, offer, moments = case
    fitted = fit_plan(*model, mixed(offer), moments, Silent())
    _, correction = fitted_by_damage(*model, offer, BUDGETS, moments, Silent())
    assert correction.damage == pytest.approx(damage(model, fitted), rel=ROUNDING)


def test_what_a_double_layer_spares_leaves_removed_channels_out(
    case: tuple[Opened, Offer, BlockMoments],
) -> None:
    model, offer, moments = case
    fitted = fit_plan(*model, mixed(offer), moments, Silent())
    layers = {choice.key for choice in fitted.plan.choices if choice.action == "double_layer"}
    blocks = [block for block in model.case.blocks if block.key in layers]
    whole, recovered = corrective._joint_damages(
        *model, offer, fitted, blocks, moments, lambda steps: None
    )
    assert set(recovered) == layers
    for block in blocks:
        now = fitted.factors[block.key]
        left = compensated_map(
            block.geometry, model.case.folding(block), moments[block.key], now.kept
        )
        rank = FORMS["dense"].largest_rank(block.geometry)
        back = Factors(
            form="dense",
            rank=rank,
            matrices=(left.weight,),
            bias=left.bias,
            kept=now.kept,
        )
        restored = replace(fitted, factors={**fitted.factors, block.key: back})
        expected = whole - damage(model, restored)
        assert recovered[block.key] == pytest.approx(expected, abs=ROUNDING * whole)


def test_the_better_plan_is_taken(
    case: tuple[Opened, Offer, BlockMoments], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, offer, moments = case
    # Beside double layers that are as dear as this, units are cheap, and another plan is made.
    dear = dict.fromkeys((block.key for block in model.case.blocks), 1e3)
    others = offer.scaled(dear, 1.0)
    monkeypatch.setattr(Offer, "scaled", lambda *_: others)
    settings = CorrectionSettings(least_gain=-np.inf)
    found, correction = fitted_by_damage(*model, offer, BUDGETS, moments, Silent(), settings)
    assert correction.corrected is not None
    assert correction.corrected != correction.damage
    least = min(correction.damage, correction.corrected)
    assert damage(model, found) == pytest.approx(least, rel=ROUNDING)
    assert found.plan.size <= 0.5
    # Whatever it was chosen by, a plan says what its changes do by themselves.
    assert offer.with_damages(found.plan).damage == pytest.approx(found.plan.damage, rel=1e-12)


def test_ratios_of_both_kinds_by_hand(case: tuple[Opened, Offer, BlockMoments]) -> None:
    _, offer, _ = case
    plan = mixed(offer)
    layers = [choice for choice in plan.choices if choice.action == "double_layer"]
    groups = tuple(replace(group, damage=1.0 / len(plan.groups)) for group in plan.groups)
    choices = tuple(replace(choice, damage=1.0) for choice in layers)
    plan = replace(plan, choices=choices, groups=groups)
    recovered = {choice.key: 0.5 for choice in layers}
    # Half of what each layer does by itself, and what is left of the whole for the units.
    whole = 0.5 * len(layers) + 0.7
    assert corrective._ratios(plan, whole, recovered) == (recovered, pytest.approx(0.7))
    # No further than twice and half of the layers'.
    assert corrective._ratios(plan, whole + 3, recovered)[1] == pytest.approx(1.0)
    assert corrective._ratios(plan, whole - 0.6, recovered)[1] == pytest.approx(0.25)


def test_scaled_damages(case: tuple[Opened, Offer, BlockMoments]) -> None:
    _, offer, _ = case
    plan = mixed(offer)
    (key, *_) = [choice.key for choice in plan.choices if choice.action == "double_layer"]
    scaled = offer.scaled({key: 3.0}, 2.0).with_damages(plan)
    for before, after in zip(plan.choices, scaled.choices, strict=True):
        if before.damage is not None:
            factor = 3.0 if before.key == key else 2.0
            assert after.damage == pytest.approx(factor * before.damage)
    for one, other in zip(plan.groups, scaled.groups, strict=True):
        assert other.damage == pytest.approx(2 * (one.damage or 0.0))
