"""From samples, budgets and an allocation to a plan: who decides, and on which samples."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graphs import model_proto, normal
from opened import divided
from probed import answers, divergence_of_logits, opened, rewritten, selected

from onnx_relusv import PlanOptions, plan
from onnx_relusv.core.errors import BudgetError, UsageError
from onnx_relusv.core.options import AllocationName, MeasureOptions
from onnx_relusv.core.plans import Budgets, Method, Plan
from onnx_relusv.measuring.case import block_moments
from onnx_relusv.rewrites.low_rank.forms import double_layer
from onnx_relusv.work.executors import Silent

TEXT = (
    "(float[N,40] x) => (float[N,10] y) {"
    " a = Gemm(x, w1) b = Relu(a) c = Gemm(b, w2) d = Relu(c) y = Gemm(d, w3) }"
)
WEIGHTS = {
    "w1": normal(40, 90, scale=0.2),
    "w2": normal(90, 80, scale=0.15),
    "w3": normal(80, 10, scale=0.3),
}
MEASURING = MeasureOptions(provider="cpu", seed=3)
SIZE = Budgets(size=0.5)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a model, many samples, two, and one."""
    onnx.save(model_proto(TEXT, WEIGHTS), tmp_path / "model.onnx")
    samples = normal(100, 40, seed=7)
    for name, count in (("many", 100), ("two", 2), ("one", 1)):
        np.save(tmp_path / f"{name}.npy", samples[:count])
    return tmp_path


def planned(
    files: Path,
    samples: str | None,
    budgets: Budgets = SIZE,
    allocation: AllocationName = "auto",
    method: Method = "double-layer",
    **others: Any,
) -> Plan:
    return plan(
        files / "model.onnx",
        samples=None if samples is None else files / f"{samples}.npy",
        planning=PlanOptions(budgets=budgets, allocation=allocation, method=method, **others),
        measuring=MEASURING,
    )


@pytest.mark.parametrize(
    ("samples", "budgets", "allocation", "expected"),
    [
        ("many", SIZE, "auto", "damage"),
        ("many", Budgets(macs=0.5), "auto", "damage"),
        ("many", SIZE, "damage", "damage"),
        ("two", SIZE, "auto", "damage"),
        # Nothing to spend, nothing to measure on, or so asked for.
        ("many", Budgets(tolerance=0.6), "auto", "level"),
        ("many", SIZE, "level", "level"),
        ("one", SIZE, "auto", "level"),
        (None, SIZE, "auto", "level"),
        (None, SIZE, "level", "level"),
    ],
)
def test_who_decides(
    samples: str | None, budgets: Budgets, allocation: AllocationName, expected: str, files: Path
) -> None:
    found = planned(files, samples, budgets, allocation)
    assert found.allocation == expected
    changed = [choice for choice in found.choices if choice.action == "double_layer"]
    assert changed
    if expected == "level":
        assert found.damage is None
        assert found.curves == ()
        assert {choice.damage for choice in found.choices} == {None}
        return
    damages = [choice.damage for choice in changed]
    assert None not in damages
    assert found.damage == pytest.approx(sum(damages), rel=1e-12)  # type: ignore[arg-type]
    assert {choice.damage for choice in found.choices if choice.action == "keep"} <= {None}
    assert {curve.key for curve in found.curves} == {"b", "d", "y"}
    assert found.level == max(choice.level for choice in changed)


@pytest.mark.parametrize(
    ("samples", "budgets", "allocation", "method"),
    [
        ("many", SIZE, "auto", "auto"),
        # Nothing that both kinds of change could be weighed by.
        ("many", Budgets(tolerance=0.6), "auto", "double-layer"),
        ("many", SIZE, "level", "double-layer"),
        ("one", SIZE, "auto", "double-layer"),
        (None, SIZE, "auto", "double-layer"),
    ],
)
def test_auto_is_both_kinds_where_damage_is_measured(
    samples: str | None, budgets: Budgets, allocation: AllocationName, method: str, files: Path
) -> None:
    found = planned(files, samples, budgets, allocation, "auto")
    assert found.method == method
    assert bool(found.groups) == (method == "auto")
    assert bool(found.group_curves) == (method == "auto")


def test_numbers_of_channels_are_not_forgotten_where_no_units_go(files: Path) -> None:
    with pytest.raises(UsageError, match="auto removes units only where damage is measured"):
        planned(files, None, SIZE, "auto", "auto", round_to=8)


def test_with_auto_what_is_left_out_stays(files: Path) -> None:
    found = planned(files, "many", Budgets(size=0.8), "auto", "auto", exclude=("b",))
    why = {choice.key: choice.why for choice in found.choices if choice.action == "keep"}
    assert why["b"] == "left out by --include or --exclude"
    with pytest.raises(BudgetError, match="can"):
        planned(files, "many", Budgets(size=0.8), "auto", "auto", exclude=("*",))


@pytest.mark.parametrize("samples", [None, "one"])
def test_damage_needs_samples(samples: str | None, files: Path) -> None:
    with pytest.raises(UsageError, match="--allocation damage needs --samples, two at least"):
        planned(files, samples, allocation="damage")


def test_damage_needs_a_budget() -> None:
    for budgets in (Budgets(), Budgets(tolerance=0.1)):
        with pytest.raises(UsageError, match="--allocation damage needs a --size"):
            PlanOptions(budgets=budgets, allocation="damage")


@pytest.mark.parametrize("allocation", ["level", "damage"])
def test_what_is_left_out_is_neither_changed_nor_measured(
    allocation: AllocationName, files: Path
) -> None:
    roomy = Budgets(size=0.8)
    found = planned(files, "many", roomy, allocation, include=("b", "d"), exclude=("b",))
    assert [choice.action for choice in found.choices] == ["keep", "double_layer", "keep"]
    assert found.choices[0].why == "left out by --include or --exclude"
    assert {curve.key for curve in found.curves} <= {"d"}
    with pytest.raises(BudgetError, match="can"):
        planned(files, "many", roomy, allocation, exclude=("*",))


def test_curves_are_those_of_held_out_samples(files: Path) -> None:
    """The file's curves, from the split of its seed, against models that are really rewritten."""
    found = planned(files, "many")
    model = opened(onnx.load(files / "model.onnx"), files, {"x": normal(100, 40, seed=7)})
    assert model.workspace.options.seed == MEASURING.seed
    feeds = {"x": selected(model)}
    assert len(feeds["x"]) == 20
    exact = answers(model.case.model.path, feeds)["y"]
    blocks = {block.key: block for block in model.case.blocks}
    with block_moments(*model, Silent()) as moments:
        for curve in found.curves:
            block = blocks[curve.key]
            for rank, damage in zip(curve.ranks, curve.damages, strict=True):
                linear, seen = model.case.folding(block), moments[block.key]
                factors = double_layer(curve.form, block.geometry, linear, seen, rank)
                after = answers(rewritten(model, {block.key: factors}), feeds)["y"]
                expected = divergence_of_logits(exact, after)
                assert damage == pytest.approx(expected, rel=1e-4, abs=1e-10)


def test_the_seed_splits(files: Path) -> None:
    one, again, other = (
        plan(
            files / "model.onnx",
            samples=files / "many.npy",
            planning=PlanOptions(budgets=SIZE),
            measuring=replace(MEASURING, seed=seed),
        )
        for seed in (3, 3, 4)
    )
    assert [curve.ranks for curve in one.curves] == [curve.ranks for curve in again.curves]
    for first, second in zip(one.curves, again.curves, strict=True):
        assert first.damages == pytest.approx(second.damages, rel=1e-6, abs=1e-12)
    assert one.curves[0].damages != pytest.approx(other.curves[0].damages, rel=1e-3)


def test_without_samples_there_is_nothing_to_split(files: Path) -> None:
    model = opened(onnx.load(files / "model.onnx"), files, {"x": normal(100, 40, seed=7)})
    blind = model.with_inputs(samples=None, split=None)
    assert divided(blind).inputs.split is None
    assert divided(blind).inputs.data_free
    assert not model.inputs.data_free
    assert model.inputs.split is not None
    assert model.inputs.split.certify is None
    assert model.inputs.calibration is model.inputs.split.fit
    certifying = divided(model, certifying=True)
    assert certifying.inputs.split is not None
    assert certifying.inputs.split.certify is not None
