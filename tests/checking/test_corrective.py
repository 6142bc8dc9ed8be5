"""The corrective round against outputs of rewritten files, run by onnxruntime alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opened import Opened
from probed import answers, divergence_of_logits, rewritten, selected
from residual_networks import BRANCHES, residual_network

from onnx_relusv.checking import corrective
from onnx_relusv.checking.corrective import (
    DEFAULT_CORRECTION,
    CorrectionSettings,
    fitted_by_damage,
    joint_ratios,
)
from onnx_relusv.core.blocks import LinearMap
from onnx_relusv.core.measures import Correction
from onnx_relusv.core.options import PlanOptions
from onnx_relusv.core.plans import Budgets, Factors
from onnx_relusv.core.reduction import Change, FittedPlan
from onnx_relusv.fitting.fit import fit, fitted_alike
from onnx_relusv.fitting.plan import fit_plan
from onnx_relusv.graph.reference import reference
from onnx_relusv.measuring.blocks import Ground, measure_blocks
from onnx_relusv.measuring.case import BlockMoments, block_moments
from onnx_relusv.planning.offer import Offer, make_offer
from onnx_relusv.rewrites.low_rank.factors import as_stored
from onnx_relusv.rewrites.low_rank.method import LayerItem
from onnx_relusv.runtime.session import CPU, Session
from onnx_relusv.work.executors import Silent

BUDGETS = Budgets(size=0.6)
# Another way through the network, in float32 too.
ROUNDING = 1e-4


@dataclass(frozen=True, eq=False)
class Case:
    opened: Opened
    moments: BlockMoments
    offer: Offer


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    opened = residual_network(tmp_path, "identity")
    planning = PlanOptions(budgets=BUDGETS)
    with block_moments(*opened, Silent()) as moments:
        measured = measure_blocks(*opened, moments, Silent())
        offer = make_offer(Ground(*opened, moments, measured), planning, Silent())
        yield Case(opened, moments, offer)


def damage(case: Case, factors: dict[str, Factors]) -> float:
    """Of a rewritten file, on the samples for choosing."""
    x = {"x": selected(case.opened)}
    before = answers(case.opened.case.model.path, x)["y"]
    return divergence_of_logits(before, answers(rewritten(case.opened, factors), x)["y"])


def corrected(
    case: Case, settings: CorrectionSettings = DEFAULT_CORRECTION
) -> tuple[FittedPlan, Correction]:
    return fitted_by_damage(*case.opened, case.offer, BUDGETS, case.moments, Silent(), settings)


def test_the_damage_is_that_of_the_file(case: Case) -> None:
    first = fit_plan(*case.opened, case.offer.plan(BUDGETS), case.moments, Silent())
    _, correction = corrected(case)
    assert correction.damage == pytest.approx(damage(case, dict(first.factors)), rel=ROUNDING)


@pytest.mark.parametrize("furthest", [2.0, 50.0])
def test_the_better_plan_is_taken(furthest: float, case: Case) -> None:
    first = fit_plan(*case.opened, case.offer.plan(BUDGETS), case.moments, Silent())
    found, correction = corrected(case, CorrectionSettings(furthest, least_gain=-np.inf))
    assert correction.corrected is not None
    least = min(correction.damage, correction.corrected)
    assert damage(case, dict(found.factors)) == pytest.approx(least, rel=ROUNDING)
    assert correction.taken == (correction.corrected < correction.damage)
    if not correction.taken:
        assert found.plan.choices == first.plan.choices
    assert found.plan.size <= 0.6
    # Each choice says what it does by itself, whatever it was chosen by; what keeps its form,
    # fitted anew or not, was never tried.
    assert {"double_layer", "refit"} <= {choice.action for choice in found.plan.choices}
    for choice in found.plan.choices:
        if choice.action in ("keep", "refit"):
            assert choice.damage is None
        else:
            item = next(item for item in case.offer.offered.items if item.key == choice.key)
            assert isinstance(item, LayerItem)
            assert choice.damage == next(
                damage
                for layer, damage in zip(item.layers, item.damages, strict=True)
                if layer is not None and (layer.form, layer.rank) == (choice.form, choice.rank)
            )


def test_without_a_promise_nothing_is_fitted_again(case: Case) -> None:
    first = fit_plan(*case.opened, case.offer.plan(BUDGETS), case.moments, Silent())
    found, correction = corrected(case, CorrectionSettings(least_gain=1.0))
    assert (correction.corrected, correction.taken) == (None, False)
    assert found.plan.choices == first.plan.choices
    for key, factors in found.factors.items():
        np.testing.assert_array_equal(factors.matrices[0], first.factors[key].matrices[0])


def test_what_is_spared_is_that_of_a_network_with_the_block_restored(case: Case) -> None:
    opened = case.opened
    fitted = fit_plan(*opened, case.offer.plan(BUDGETS), case.moments, Silent())
    blocks = [block for block in opened.case.blocks if block.key in fitted.factors]
    whole, recovered = corrective._joint_damages(
        *opened, case.offer, fitted, blocks, case.moments, lambda steps: None
    )
    dense = {block.key: as_stored(block, fitted.factors[block.key]) for block in blocks}

    def without(key: str) -> float:
        others: dict[str, LinearMap] = {k: v for k, v in dense.items() if k != key}
        session = Session(reference(opened.case.model, opened.case.blocks, others), CPU)
        x = selected(opened)
        before = answers(opened.case.model.path, {"x": x})["y"]
        return divergence_of_logits(before, session.run({"x": x})["y"])

    expected = {key: whole - without(key) for key in dense}
    assert recovered == pytest.approx(expected, rel=1e-2)


def test_ratios_by_hand() -> None:
    isolated = {"a": 1.0, "b": 2.0, "c": 1.0, "nothing": 0.0}
    joint = {"a": 0.5, "b": 8.0, "c": -3.0, "nothing": 1.0}
    # The median of 0.5, 4 and -3 is 0.5; the others are kept within twice and half of it.
    assert joint_ratios(isolated, joint) == {"a": 0.5, "b": 1.0, "c": 0.25}


def test_no_direction_is_read_from_harm() -> None:
    for joint in ({"a": -1.0, "b": -0.1}, {"a": 0.0, "b": 0.0}):
        assert joint_ratios({"a": 1.0, "b": 1.0}, joint) == {"a": 1.0, "b": 1.0}


@given(st.lists(st.tuples(st.floats(1e-6, 1e3), st.floats(-1e3, 1e3)), min_size=1, max_size=12))
def test_ratios_stay_near_the_median(pairs: list[tuple[float, float]]) -> None:
    isolated = {str(place): one for place, (one, _) in enumerate(pairs)}
    joint = {str(place): other for place, (_, other) in enumerate(pairs)}
    found = list(joint_ratios(isolated, joint).values())
    assert min(found) > 0
    # Twice and half of one and the same number, and rounding.
    assert max(found) <= 4 * min(found) * (1 + 1e-12)


@pytest.mark.parametrize("kind", list(BRANCHES))
def test_what_two_fits_share_is_found_alike(kind: str, tmp_path: Path) -> None:
    opened = residual_network(tmp_path, kind)
    blocks = [block for block in opened.case.blocks if block.geometry.kind == "conv"]

    def changes(last: int, moved: str | None) -> list[Change]:
        return [Change(block, "channel", last if block.key == moved else 3) for block in blocks[:5]]

    def found(wanted: list[Change]) -> dict[str, Factors]:
        with block_moments(*opened, Silent()) as moments:
            return fit(*opened, wanted, moments, Silent(), lambda change, fitted: None)

    moved = blocks[2].key
    before, after = changes(4, None), changes(4, moved)
    one, other = found(before), found(after)
    same = fitted_alike(opened.case.model, before, after)
    assert same
    assert moved not in same
    for key in same:
        np.testing.assert_array_equal(one[key].matrices[0], other[key].matrices[0])
        np.testing.assert_array_equal(one[key].bias, other[key].bias)
    # The last block sees what the moved one delivers.
    last = blocks[-1].key
    assert last not in same
    assert not np.array_equal(one[last].matrices[0], other[last].matrices[0])


def test_fits_of_other_blocks_share_nothing(tmp_path: Path) -> None:
    opened = residual_network(tmp_path, "identity")
    changes = [Change(block, "channel", 3) for block in opened.case.blocks[:3]]
    assert fitted_alike(opened.case.model, changes, changes) == {c.block.key for c in changes}
    assert fitted_alike(opened.case.model, changes, changes[:2]) == set()
