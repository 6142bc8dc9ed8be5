"""Models of which no unit can go: auto makes double layers, harmonic says why it cannot."""

from pathlib import Path

import numpy as np
import pytest
from graphs import model_proto, normal, saved

from onnx_relusv.commands.compress import compress, plan
from onnx_relusv.commands.sweep import sweep
from onnx_relusv.core.errors import BudgetError
from onnx_relusv.core.options import MeasureOptions, PlanOptions
from onnx_relusv.core.plans import Budgets
from onnx_relusv.core.sweeps import Sweep, SweepOptions

ONE = "(float[N,48] x) => (float[N,40] y) { p = MatMul(x, w) y = Relu(p) }"
NONE = "(float[N,48] x) => (float[N,48] y) { y = Sigmoid(x) }"
TWO = """(float[N,48] x) => (float[N,40] y) {
    a = MatMul(x, v)
    b = Relu(a)
    y = MatMul(b, w)
}"""
MEASURING = MeasureOptions(provider="cpu")


def written(folder: Path, text: str) -> tuple[Path, Path]:
    """A model and samples for it."""
    arrays = {"v": normal(48, 48), "w": normal(48, 40)}
    model = saved(model_proto(text, {k: v for k, v in arrays.items() if f"{k})" in text}), folder)
    np.savez(folder / "samples.npz", x=normal(60, 48, seed=1))
    return model.path, folder / "samples.npz"


@pytest.mark.parametrize("sampled", [True, False])
@pytest.mark.parametrize("budgets", [Budgets(size=0.7), Budgets(macs=0.6), Budgets(tolerance=0.6)])
def test_auto_makes_double_layers(budgets: Budgets, sampled: bool, tmp_path: Path) -> None:
    model, samples = written(tmp_path, ONE)
    files = []
    for method in ("auto", "double-layer"):
        files.append(tmp_path / f"{method}.onnx")
        compress(
            model,
            files[-1],
            samples=samples if sampled else None,
            planning=PlanOptions(method=method, budgets=budgets),  # type: ignore[arg-type]
            measuring=MEASURING,
        )
    first, second = (file.read_bytes() for file in files)
    assert first == second


def test_limits_on_units_do_not_stop_auto(tmp_path: Path) -> None:
    """They hold of themselves where no unit goes."""
    model, samples = written(tmp_path, ONE)
    planning = PlanOptions(
        budgets=Budgets(size=0.7), round_to=8, keep_at_least=3, input_range=(-100.0, 100.0)
    )
    found = plan(model, samples=samples, planning=planning, measuring=MEASURING)
    assert found.method == "double-layer"
    assert [choice.action for choice in found.choices] == ["double_layer"]


@pytest.mark.parametrize("sampled", [True, False])
@pytest.mark.parametrize(
    ("text", "options", "reason"),
    [
        (ONE, {}, "y is a graph output"),
        (NONE, {}, "no Gemm, MatMul or Conv"),
        (TWO, {"exclude": ("y",)}, "--include and --exclude leave no group"),
        (TWO, {"round_to": 64}, "--round-to and --keep-at-least leave every group"),
        (TWO, {"keep_at_least": 48}, "--round-to and --keep-at-least leave every group"),
    ],
)
def test_harmonic_says_why_before_anything_is_measured(
    text: str,
    options: dict[str, object],
    reason: str,
    sampled: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def measured(*arguments: object) -> None:
        raise AssertionError("moments were measured")

    monkeypatch.setattr("onnx_relusv.commands.stages.planning_moments", measured)
    model, samples = written(tmp_path, text)
    planning = PlanOptions(method="harmonic", budgets=Budgets(size=0.7), **options)  # type: ignore[arg-type]
    with pytest.raises(BudgetError, match=reason):
        plan(
            model,
            samples=samples if sampled else None,
            planning=planning,
            measuring=MEASURING,
        )


def swept(folder: Path, text: str, methods: tuple[str, ...]) -> Sweep:
    model, samples = written(folder, text)
    sweeping = SweepOptions(sizes=(0.7,), methods=methods)
    return sweep(model, samples=samples, sweeping=sweeping, measuring=MEASURING)


def test_a_sweep_goes_on_without_harmonic(tmp_path: Path) -> None:
    found = swept(tmp_path, ONE, ("auto", "harmonic", "damage", "level", "blind"))
    assert {point.method for point in found.points} == {"auto", "damage", "level", "blind"}
    (missed,) = found.missed
    assert missed.method == "harmonic"
    assert "y is a graph output" in missed.reason
    sizes = {point.method: point.after.bytes for point in found.points}
    # The method is told by its name in the file.
    assert sizes["auto"] == sizes["damage"]


def test_a_sweep_of_a_model_without_blocks(tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="no point is left"):
        swept(tmp_path, NONE, ("auto", "harmonic", "damage", "level", "blind"))
