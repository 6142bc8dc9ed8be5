"""Whole runs with blocks whose square arrays of columns would not fit into memory."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import model_proto, normal
from opened import open_model

from onnx_relusv import Budgets, MeasureOptions, PlanOptions, compress, inspect
from onnx_relusv.core.linear_algebra import dense
from onnx_relusv.measuring.case import block_moments
from onnx_relusv.rewrites.prune import elimination
from onnx_relusv.spectra import passes
from onnx_relusv.work.executors import Silent

# The second Conv has 36 columns and the Gemm 48, the first Conv 9.
NETWORK = (
    "(float[N,1,6,6] x) => (float[N,3] y) {"
    " a = Conv<pads=[1,1,1,1]>(x, k) b = Relu(a) c = Conv<pads=[1,1,1,1], strides=[2,2]>(b, l)"
    " d = Relu(c) e = MaxPool<kernel_shape=[2,2], pads=[0,0,1,1], strides=[2,2]>(d)"
    " f = Flatten(e) g = Gemm<transB=1>(f, w) h = Relu(g) y = Gemm<transB=1>(h, v) }"
)
WEIGHTS = {
    "k": normal(4, 1, 3, 3, scale=0.5),
    "l": normal(12, 4, 3, 3, scale=0.3),
    "w": normal(20, 48, scale=0.3),
    "v": normal(3, 20, scale=0.5),
}
_COUNT = 60


@pytest.fixture
def model(tmp_path: Path) -> Path:
    onnx.save(model_proto(NETWORK, WEIGHTS), tmp_path / "model.onnx")
    np.savez(tmp_path / "samples.npz", x=normal(_COUNT, 1, 6, 6, seed=1))
    return tmp_path / "model.onnx"


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Blocks of more than 30 columns count as wide, and no square array of as many is made."""
    monkeypatch.setattr(passes, "is_wide", lambda geometry, memory: geometry.columns > 30)
    inverted = elimination.scipy.linalg.inv

    def inv(matrix: np.ndarray, **further: object) -> np.ndarray:
        assert len(matrix) <= 30
        return np.asarray(inverted(matrix, **further))

    monkeypatch.setattr(elimination.scipy.linalg, "inv", inv)
    return


@pytest.mark.usefixtures("wide")
def test_moments_with_few_rows_are_the_dense_ones(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = open_model(model, model.parent / "samples.npz", MeasureOptions(provider="cpu"))
    keys = [block.key for block in opened.case.blocks if block.geometry.columns > 30]
    assert len(keys) == 2
    with block_moments(*opened, Silent()) as found:
        factored = {key: found[key] for key in keys}
        assert all(one is not None and one.factored for one in factored.values())
        monkeypatch.undo()
        with block_moments(*opened, Silent()) as wanted:
            for key, one in factored.items():
                other = wanted[key]
                assert one is not None
                assert other is not None
                assert not other.factored
                assert one.rows == other.rows
                np.testing.assert_allclose(one.mean, other.mean, atol=1e-12)
                np.testing.assert_allclose(one.shrinkage, other.shrinkage, rtol=1e-9)
                np.testing.assert_allclose(
                    dense(one.of_group(0)), other.of_group(0), rtol=1e-9, atol=1e-12
                )


@pytest.mark.usefixtures("wide")
def test_the_cache_has_factored_moments_too(model: Path, tmp_path: Path) -> None:
    samples, cache = model.parent / "samples.npz", tmp_path / "cache"
    options = MeasureOptions(provider="cpu", cache=cache)
    first = inspect(model, samples=samples, measuring=options)
    kept = {path.name for path in cache.rglob("*") if path.is_file()}
    second = inspect(model, samples=samples, measuring=options)
    assert {path.name for path in cache.rglob("*") if path.is_file()} == kept
    for one, other in zip(first.rows, second.rows, strict=True):
        assert one.statistics == other.statistics == "samples"
        np.testing.assert_array_equal(one.spectrum.sigma, other.spectrum.sigma)


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize(
    ("method", "given"),
    [("auto", True), ("double-layer", True), ("harmonic", True), ("auto", False)],
)
def test_every_method_works_on_them(model: Path, method: str, given: bool) -> None:
    """The result has passed its validation, which knows nothing of how it was measured."""
    done = compress(
        model,
        model.parent / "small.onnx",
        samples=model.parent / "samples.npz" if given else None,
        planning=PlanOptions(budgets=Budgets(size=0.8), method=method),  # type: ignore[arg-type]
        measuring=MeasureOptions(provider="cpu"),
    )
    assert done.after.bytes <= 0.8 * done.before.bytes
    expected = "samples" if given else "synthetic"
    assert {row.statistics for row in done.rows} == {expected}
