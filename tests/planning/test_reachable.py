"""The least that can be reached, from shapes alone, beside what plans and files really reach."""

from pathlib import Path

import numpy as np
import pytest
from cut_graphs import GRAPHS
from cut_plans import opened_graph
from graphs import model_proto, normal, saved

from onnx_relusv.commands.compress import compress
from onnx_relusv.commands.sweep import sweep
from onnx_relusv.core.errors import BudgetError
from onnx_relusv.core.options import MeasureOptions, PlanOptions
from onnx_relusv.core.plans import Budgets
from onnx_relusv.core.sweeps import SweepOptions
from onnx_relusv.measuring.blocks import Ground, measure_blocks
from onnx_relusv.measuring.without_samples import planning_moments
from onnx_relusv.planning.offer import make_offer
from onnx_relusv.planning.settling import cut_cost, least_cost, searched
from onnx_relusv.work.executors import Silent

TWO = """(float[N,48] x) => (float[N,40] y) {
    a = Gemm(x, v, c)
    b = Relu(a)
    y = MatMul(b, w)
}"""
ARRAYS = {"v": normal(48, 64), "c": normal(64), "w": normal(64, 40)}
MEASURING = MeasureOptions(provider="cpu")


def written(folder: Path) -> tuple[Path, Path]:
    path = saved(model_proto(TWO, ARRAYS), folder).path
    np.savez(folder / "samples.npz", x=normal(60, 48, seed=1))
    return path, folder / "samples.npz"


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("chain", "auto"),
        ("concat", "harmonic"),
        ("residual", "harmonic"),
        ("groups", "double-layer"),
    ],
)
def test_no_plan_goes_below_it(name: str, method: str, tmp_path: Path) -> None:
    """And plans come near to it, so that it is worth something."""
    model = opened_graph(GRAPHS[name], tmp_path)
    planning = PlanOptions(method=method, budgets=Budgets(size=0.999))  # type: ignore[arg-type]
    least = least_cost(model.case, planning, cut_cost(model.case, model.workspace, planning))
    with planning_moments(*model, Silent()) as moments:
        measured = measure_blocks(*model, moments, Silent())
        offer = make_offer(Ground(*model, moments, measured), planning, Silent())
        total = model.case.facts
        for budgets in (Budgets(size=1e-6), Budgets(macs=1e-6)):
            with pytest.raises(BudgetError):
                offer.plan(budgets)
        low, high = least.bytes / total.bytes, 1.0
        for _ in range(4):
            middle = (low + high) / 2
            try:
                high = min(middle, offer.plan(Budgets(size=middle)).size)
            except BudgetError:
                low = middle
        assert least.bytes <= high * total.bytes
        # The nodes, names and the entry that a file gains, which the bound leaves out.
        assert high * total.bytes <= least.bytes + 2500 + 0.2 * total.bytes


@pytest.mark.parametrize("method", ["auto", "harmonic", "double-layer"])
def test_budgets_below_it_are_refused_before_anything_is_measured(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(*arguments: object) -> None:
        raise AssertionError("moments were measured")

    monkeypatch.setattr("onnx_relusv.commands.stages.planning_moments", measured)
    model, samples = written(tmp_path)
    for budgets in (Budgets(size=0.001), Budgets(macs=0.001, size=0.9)):
        planning = PlanOptions(method=method, budgets=budgets)  # type: ignore[arg-type]
        for given in (samples, None):
            with pytest.raises(
                BudgetError, match=r"cannot be reached: .* of the bytes and .* are left"
            ):
                compress(
                    model,
                    tmp_path / "small.onnx",
                    samples=given,
                    planning=planning,
                    measuring=MEASURING,
                )


def test_a_sweep_passes_over_sizes_below_it(tmp_path: Path) -> None:
    model, samples = written(tmp_path)
    methods = ("auto", "damage", "blind")
    found = sweep(
        model,
        samples=samples,
        sweeping=SweepOptions(sizes=(0.8, 0.001), methods=methods),
        measuring=MEASURING,
    )
    assert [point.size for point in found.points] == [0.8] * 3
    assert [(one.method, one.size) for one in found.missed] == [(name, 0.001) for name in methods]
    assert all("cannot be reached" in one.reason for one in found.missed)


def test_a_sweep_without_a_size_to_reach_measures_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(*arguments: object) -> None:
        raise AssertionError("moments were measured")

    monkeypatch.setattr("onnx_relusv.commands.stages.planning_moments", measured)
    model, samples = written(tmp_path)
    with pytest.raises(BudgetError, match=r"no point is left.*cannot be reached"):
        sweep(
            model,
            samples=samples,
            sweeping=SweepOptions(sizes=(0.001, 0.002)),
            measuring=MEASURING,
        )


def test_a_budget_above_it_goes_on(tmp_path: Path) -> None:
    """The bound refuses nothing by itself that could be kept."""
    graph = opened_graph(GRAPHS["chain"], tmp_path)
    planning = PlanOptions(method="harmonic", budgets=Budgets(size=0.9))
    model, found = searched(*graph, planning)
    least = least_cost(model, found, cut_cost(model, graph.workspace, found))
    share = (least.bytes + 1) / model.facts.bytes
    assert searched(*graph, PlanOptions(method="harmonic", budgets=Budgets(size=share)))
    with pytest.raises(BudgetError):
        searched(*graph, PlanOptions(method="harmonic", budgets=Budgets(size=share * 0.9)))
