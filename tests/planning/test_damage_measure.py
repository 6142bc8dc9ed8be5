"""What damage is: forced divergences and a metric, against models that are really rewritten."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pytest
from classified import FIT, minus_error, regressor, targets
from graphs import run
from opened import Opened
from probed import answers, classifier, opened, rewritten, selected

from onnx_relusv import Budgets, MeasureOptions, PlanOptions, plan
from onnx_relusv.core.blocks import Block
from onnx_relusv.core.errors import InputError, UsageError
from onnx_relusv.core.metric import Metric
from onnx_relusv.core.options import DivergenceName
from onnx_relusv.core.plans import Factors, Plan
from onnx_relusv.planning.objective import MEASURES, check_measures, damage_measure
from onnx_relusv.planning.plan_file import plan_text, read_plan
from onnx_relusv.planning.probe import Try, probe
from onnx_relusv.rewrites.low_rank.factors import as_stored
from onnx_relusv.rewrites.low_rank.forms import double_layer

SIZE = Budgets(size=0.6)
MEASURING = MeasureOptions(provider="cpu", seed=3)


def factors_of(model: Opened, block: Block) -> Factors:
    form = "pair" if block.geometry.kind != "conv" else "channel"
    return double_layer(form, block.geometry, model.case.folding(block), None, 2)  # type: ignore[arg-type]


def tried(model: Opened, planning: PlanOptions) -> dict[str, float]:
    """The damage at rank 2, by block key."""

    def examine(block: Block, damage: Try) -> float:
        return damage(as_stored(block, factors_of(model, block)))

    assert model.inputs.split is not None
    select = model.inputs.split.select
    assert select is not None
    measure = damage_measure(*model, select, planning)
    return probe(
        model.case,
        model.workspace,
        select,
        model.case.blocks,
        {},
        examine,
        lambda steps: None,
        measure,
    )


def with_labels(model: Opened) -> tuple[Opened, np.ndarray]:
    """The classifier with a number for every held-out sample, as any metric may have."""
    assert model.inputs.split is not None
    assert model.inputs.split.select is not None
    labels = np.linspace(-1, 1, model.inputs.split.select.count)
    select = replace(model.inputs.split.select, labels=labels)
    parts = replace(model.inputs.split, select=select)
    return model.with_inputs(split=parts, metric=MARGIN), labels


def margin(outputs: list[np.ndarray], labels: np.ndarray | None) -> float:
    assert labels is not None
    return float(np.mean(outputs[0][:, 0] * labels))


MARGIN = Metric("margin", margin)
BY_METRIC = PlanOptions(budgets=SIZE, divergence="metric", metric=MARGIN)


@pytest.mark.parametrize("batch", [None, 3])
def test_damage_by_a_metric_is_what_it_loses(batch: int | None, tmp_path: Path) -> None:
    """With batches of three, the last of which is padded, or in one."""
    model, labels = with_labels(classifier(tmp_path, batch=batch))
    feeds = {"x": selected(model)}
    before = margin([answers(model.case.model.path, feeds, batch)["y"]], labels)
    found, lost = tried(model, BY_METRIC), {}
    for block in model.case.blocks:
        smaller = rewritten(model, {block.key: factors_of(model, block)})
        lost[block.key] = before - margin([answers(smaller, feeds, batch)["y"]], labels)
        # Outputs are around 1, and equal to about 1e-6.
        assert found[block.key] == pytest.approx(max(lost[block.key], 0), abs=1e-5)
    # Where it gains, nothing is damaged; both kinds are among them.
    assert min(lost.values()) < -1e-3
    assert max(lost.values()) > 1e-3


def test_l2_takes_no_heed_of_class_scores(tmp_path: Path) -> None:
    model = classifier(tmp_path)
    feeds = {"x": selected(model)}
    exact = answers(model.case.model.path, feeds)["y"]
    found = tried(model, PlanOptions(budgets=SIZE, divergence="l2"))
    automatic = tried(model, PlanOptions(budgets=SIZE))
    assert tried(model, PlanOptions(budgets=SIZE, divergence="kl")) == automatic
    for block in model.case.blocks:
        smaller = rewritten(model, {block.key: factors_of(model, block)})
        gap = answers(smaller, feeds)["y"].astype(float) - exact
        expected = np.sum(gap**2) / np.sum(exact.astype(float) ** 2)
        assert found[block.key] == pytest.approx(expected, rel=1e-4)
        assert automatic[block.key] != pytest.approx(expected, rel=1e-2)


def planned(model: Path, data: Path, **options: object) -> Plan:
    options.setdefault("budgets", SIZE)
    planning = PlanOptions(**options)  # type: ignore[arg-type]
    return plan(model, samples=data, planning=planning, measuring=MEASURING)


def test_a_plan_says_what_damage_is(tmp_path: Path) -> None:
    model = regressor(tmp_path)
    data = targets(tmp_path, model, count=60)
    with pytest.raises(InputError, match="labels are float32"):
        planned(model, data)
    l2 = planned(model, data, metric=FIT)
    assert l2.damage_measure == "squared relative L2 error of the outputs"
    # A metric alone judges what is done, and not what single changes do.
    bare = dict(np.load(data))
    np.savez(tmp_path / "bare.npz", x=bare["x"])
    assert planned(model, tmp_path / "bare.npz").curves == l2.curves
    own = planned(model, data, metric=FIT, divergence="metric")
    assert own.damage_measure == "loss of fit"
    assert own.curves != l2.curves
    path = tmp_path / "plan.json"
    path.write_text(plan_text(own), encoding="utf-8")
    assert read_plan(path) == own
    by_level = planned(model, tmp_path / "bare.npz", allocation="level")
    assert by_level.damage_measure is None


def test_a_plan_without_the_words_is_a_plan(tmp_path: Path) -> None:
    model = regressor(tmp_path)
    found = planned(model, targets(tmp_path, model, count=60), metric=FIT)
    path = tmp_path / "plan.json"
    text = plan_text(found)
    kept = [line for line in text.splitlines() if '"damage_measure"' not in line]
    path.write_text("\n".join(kept), encoding="utf-8")
    assert read_plan(path) == replace(found, damage_measure=None)


def test_curves_by_a_metric_are_of_the_samples_for_choosing(tmp_path: Path) -> None:
    """Its value on the original is that of numpy on these samples and no others."""
    path, values = regressor(tmp_path), []

    def remembered(outputs: list[np.ndarray], labels: np.ndarray | None) -> float:
        assert labels is not None
        values.append(float(np.sum(labels)))
        return minus_error(outputs, labels)

    data = targets(tmp_path, path, count=60)
    planned(path, data, metric=Metric("remembered", remembered), divergence="metric")
    arrays = dict(np.load(data))
    model = opened(onnx.load(path), tmp_path, {"x": arrays["x"]})
    where = np.isin(arrays["x"][:, 0], selected(model)[:, 0])
    assert where.sum() == 12
    assert set(values) == {float(np.sum(arrays["labels"][where]))}
    assert run(path, {"x": arrays["x"]}, ["y"])["y"].shape == (60, 1)


def test_settings_that_do_not_go() -> None:
    for options, match in (
        ({"divergence": "metric"}, "--divergence metric needs a --metric"),
        ({"divergence": "tv"}, "use auto, kl, l2 or metric"),
        ({"divergence": "l2", "allocation": "level"}, "leave --allocation level away"),
        ({"divergence": "l2", "budgets": Budgets()}, "give one"),
        ({"metric": FIT, "budgets": Budgets(max_drop=0.0)}, "--max-drop 0: .* its units, above 0"),
        ({"metric": FIT, "budgets": Budgets(max_drop=float("nan"))}, "above 0"),
        ({"metric": FIT, "budgets": Budgets(max_drop=float("inf"))}, "above 0"),
    ):
        options.setdefault("budgets", SIZE)
        with pytest.raises(UsageError, match=match):
            PlanOptions(**options)  # type: ignore[arg-type]


def test_a_metric_s_drop_has_its_own_units() -> None:
    found = PlanOptions(budgets=Budgets(max_drop=250.0), metric=FIT)
    assert found.budgets.max_drop == 250


def test_what_cannot_be_measured_is_said_before_any_measuring(tmp_path: Path) -> None:
    model = classifier(tmp_path)
    check_measures(*model, PlanOptions(budgets=SIZE, divergence="kl"))
    blind = model.with_inputs(samples=None, split=None)
    for options in (
        PlanOptions(budgets=SIZE, divergence="kl"),
        PlanOptions(budgets=SIZE, metric=MARGIN),
    ):
        with pytest.raises(UsageError, match=r"needs --samples, two at least"):
            check_measures(*blind, options)
    path = regressor(tmp_path)
    data = targets(tmp_path, path, count=60)
    with pytest.raises(InputError, match=r"no output has class scores.*--divergence kl"):
        planned(path, data, metric=FIT, divergence="kl")
    failing = Metric("failing", lambda outputs, labels: 1 / 0)
    with pytest.raises(InputError, match=r"--metric failing: .*ZeroDivisionError"):
        planned(path, data, metric=failing)


def test_every_divergence_that_can_be_asked_for_has_its_measure() -> None:
    assert set(MEASURES) == set(get_args(DivergenceName))
