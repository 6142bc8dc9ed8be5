"""Variants that are timed: what they are, that they run, and what is known of them afterwards."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from cut_graphs import GRAPHS
from cut_plans import opened_graph
from integer_networks import network, samples
from opened import Opened
from probed import classifier
from timed_runs import of_kernels, on_machine, timed_runs

from onnx_relusv import Budgets, MeasureOptions, PlanOptions, compress
from onnx_relusv.core.blocks import Block
from onnx_relusv.core.plans import Plan
from onnx_relusv.measuring.case import open_model, split_inputs
from onnx_relusv.planning.latency import timed as module
from onnx_relusv.planning.latency.kernels import Kernels
from onnx_relusv.planning.latency.models import Race
from onnx_relusv.planning.latency.timed import timed_variants
from onnx_relusv.planning.latency.variants import changed_blocks, variants
from onnx_relusv.planning.settling import with_channels
from onnx_relusv.rewrites.prune.units import removes_units
from onnx_relusv.runtime.session import CPU
from onnx_relusv.work.cache import Cache
from onnx_relusv.work.executors import Silent

MEASURING = MeasureOptions(provider="cpu")


def with_integers(folder: Path) -> Opened:
    case, inputs, workspace = open_model(network(folder), None, MEASURING, for_integers=True)
    inputs = split_inputs(case, inputs, MEASURING)
    return Opened(with_channels(case, inputs, workspace), inputs, workspace)


def kernels(race: Race, plan: Plan, folder: Path) -> list[str]:
    options, path = onnxruntime.SessionOptions(), folder / "optimized.onnx"
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 4
    onnxruntime.InferenceSession(race.stand_in(plan).model, options, providers=[CPU])
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.mark.parametrize("name", GRAPHS)
def test_all_variants_run_and_are_the_same_every_time(name: str, tmp_path: Path) -> None:
    model = opened_graph(GRAPHS[name], tmp_path)
    plans = list(variants(model.case, None))
    assert plans == list(variants(model.case, None))
    assert any(removes_units(plan) for plan in plans)
    assert any(choice.is_double_layer for plan in plans for choice in plan.choices)
    described = [changed_blocks(model.case, model.inputs, plan) for plan in plans]
    assert any(described)
    assert all(time > 0 for time in Race(*model, 2).undisturbed(plans))


def test_what_is_left_of_a_block_is_described(tmp_path: Path) -> None:
    model = opened_graph(GRAPHS["chain"], tmp_path)
    half = next(variants(model.case, None))
    kept = {group.key: len(group.kept) for group in half.groups}
    assert all(len(group.kept) == round(group.units / 2) for group in half.groups)
    found = {one.key: one for one in changed_blocks(model.case, model.inputs, half)}
    first = next(block for block in model.case.blocks if block.source == "x")
    assert found[first.key].inputs == first.geometry.in_channels
    assert found[first.key].outputs in kept.values()
    assert found[first.key].form == "dense"


def test_variants_of_integers_have_integer_kernels(tmp_path: Path) -> None:
    model = with_integers(tmp_path)
    race = Race(*model, 1)
    plans = list(variants(model.case, "u8s8"))
    everywhere = next(plan for plan in plans if all(choice.is_int8 for choice in plan.choices))
    found = kernels(race, everywhere, tmp_path)
    assert found.count("QLinearConv") == 4
    # The last one's answers are floats.
    assert (found.count("QGemm"), found.count("Gemm")) == (1, 1)
    assert not {"Conv", "Relu"} & set(found)
    mixed = [{choice.is_int8 for choice in plan.choices} for plan in plans]
    assert {True, False} in mixed
    assert not any(plan.uses_int8 for plan in variants(model.case, None))


def test_what_is_known_is_not_timed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = classifier(tmp_path).with_workspace(cache=Cache(tmp_path / "cache"))
    runs = on_machine(monkeypatch, of_kernels)

    def found(batch: int = 2, model: Opened = opened) -> object:
        return timed_variants(*model, Race(*model, batch), None, Silent())

    first = found()
    assert found() == first
    (count,) = runs
    assert len(first) == count  # type: ignore[arg-type]
    found(3)
    monkeypatch.setattr(module.platform, "node", lambda: "elsewhere")
    found()
    assert runs == [count] * 3
    # An entry that is gone is timed anew, beside the original.
    next((tmp_path / "cache").glob("timing*")).unlink()
    found()
    found(3)
    assert sorted(runs[3:]) in ([1, count], [1, 1, count], [count])


def test_a_block_that_integers_make_slower_keeps_its_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network(tmp_path)
    seen = samples(tmp_path, model, count=60)
    timed_runs(monkeypatch, [0.5])

    def seconds(
        key: str, block: Block, form: str | None, rank: int | None, integers: bool
    ) -> float:
        return of_kernels(key, block, form, rank, integers) * (9 if integers and key == "d" else 1)

    on_machine(monkeypatch, seconds)
    done = compress(
        model,
        tmp_path / "small.onnx",
        samples=seen,
        planning=PlanOptions(precision="int8", budgets=Budgets(latency=0.6)),
        measuring=MEASURING,
    )
    found = {choice.key: choice for choice in done.plan.choices}
    assert found["d"].precision == "keep"
    assert any(choice.is_int8 for choice in found.values())
    assert done.latency is not None
    assert done.latency.share == 0.5


def test_a_budget_on_time_is_shared_out_over_units_and_ranks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is asked for, expected and within the budget; more of it costs more."""
    model = network(tmp_path)
    seen = samples(tmp_path, model, count=60)
    # With many samples in a run, a node's start is nothing beside what it does.
    batch = 100
    products = Kernels(batch, 16)

    def seconds(
        key: str, block: Block, form: str | None, rank: int | None, integers: bool
    ) -> float:
        return products.of_form(block, form, rank, integers=integers)

    damages = []
    for asked in (0.8, 0.6):
        timed_runs(monkeypatch, [0.97 * asked])
        on_machine(monkeypatch, seconds)
        done = compress(
            model,
            tmp_path / f"{asked}.onnx",
            samples=seen,
            planning=PlanOptions(budgets=Budgets(latency=asked), batch=batch),
            measuring=MEASURING,
        )
        assert done.plan.method == "auto"
        assert done.plan.groups
        assert done.plan.latency is not None
        assert done.plan.latency <= asked
        damages.append(done.plan.damage)
    assert np.isfinite(damages).all()
    assert damages[0] <= damages[1]
