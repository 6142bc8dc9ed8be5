"""What a plan says of bytes, against the files that are written."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import model_proto, normal, saved

from onnx_relusv.commands.compress import apply, plan
from onnx_relusv.core.errors import BudgetError
from onnx_relusv.core.options import ApplyOptions, MeasureOptions, PlanOptions
from onnx_relusv.core.plans import Budgets

TEXT = """(float[N,40] x) => (float[N,10] y) {
    a = Gemm(x, u, s) b = Relu(a) c = MatMul(b, v) d = Relu(c) y = Gemm(d, w, t)
}"""
ARRAYS = {
    "u": normal(40, 64),
    "s": normal(64),
    "v": normal(64, 64),
    "w": normal(64, 10),
    "t": normal(10),
}
# Of the largest step that a rank or a unit takes: 128 numbers and a bias, of some 31 kB.
LARGEST_STEP = 0.02


@pytest.mark.parametrize("sampled", [True, False])
@pytest.mark.parametrize("method", ["double-layer", "harmonic"])
def test_a_plan_has_the_bytes_of_its_file(method: str, sampled: bool, tmp_path: Path) -> None:
    model = saved(model_proto(TEXT, ARRAYS), tmp_path).path
    np.savez(tmp_path / "samples.npz", x=normal(80, 40, seed=1))
    samples = tmp_path / "samples.npz" if sampled else None
    planning = PlanOptions(method=method, budgets=Budgets(size=0.6))  # type: ignore[arg-type]
    found = plan(
        model, samples=samples, planning=planning, measuring=MeasureOptions(provider="cpu")
    )
    apply(
        model,
        found,
        tmp_path / "small.onnx",
        samples=samples,
        measuring=ApplyOptions(provider="cpu"),
    )
    total, size = model.stat().st_size, (tmp_path / "small.onnx").stat().st_size
    assert abs(round(found.size * total) - size) <= 64
    assert (0.6 - 2 * LARGEST_STEP) * total < size <= 0.6 * total


@pytest.mark.parametrize("method", ["double-layer", "harmonic"])
def test_small_external_data_takes_no_pages(method: str, tmp_path: Path) -> None:
    """Were there a page for each tensor that is new, some would take more than they save."""
    proto = model_proto(TEXT, ARRAYS)
    path = tmp_path / "model.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="model.data", size_threshold=0)
    total = path.stat().st_size + (tmp_path / "model.data").stat().st_size
    planning = PlanOptions(method=method, budgets=Budgets(size=0.7))  # type: ignore[arg-type]
    found = plan(path, planning=planning, measuring=MeasureOptions(provider="cpu"))
    # Every tensor names its file; as long as names are expected to be at most.
    target = tmp_path / "out" / f"{'x' * 59}.onnx"
    target.parent.mkdir()
    apply(path, found, target, measuring=ApplyOptions(provider="cpu"))
    size = sum(file.stat().st_size for file in target.parent.iterdir())
    assert round(found.size * total) == size
    assert (0.7 - 2 * LARGEST_STEP) * total < size <= 0.7 * total


def test_a_file_that_would_grow_is_refused_by_its_plan(tmp_path: Path) -> None:
    """Nodes, names and the entry on where it comes from outweigh a few numbers."""
    text = "(float[N,6] x) => (float[N,4] y) { a = Gemm(x, u, s) b = Relu(a) y = MatMul(b, v) }"
    arrays = {"u": normal(6, 8), "s": normal(8), "v": normal(8, 4)}
    model = saved(model_proto(text, arrays), tmp_path).path
    planning = PlanOptions(method="harmonic", budgets=Budgets(macs=0.5))
    with pytest.raises(BudgetError, match="the file would have"):
        plan(model, planning=planning, measuring=MeasureOptions(provider="cpu"))
