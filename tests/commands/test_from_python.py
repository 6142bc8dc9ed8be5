"""The seven functions on objects of Python: the same files and figures as from paths."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import model_proto, normal

import onnx_relusv
from onnx_relusv import Budgets, MeasureOptions, PlanOptions, SweepOptions
from onnx_relusv.core.errors import InputError, UsageError
from onnx_relusv.core.results import Compression
from onnx_relusv.report.files import report_data
from onnx_relusv.samples.sources import SamplesLike

CPU = MeasureOptions(provider="cpu")
HALF = PlanOptions(budgets=Budgets(size=0.6))
TEXT = """(float[N,8] x) => (float[N,4] y) {
    a = Gemm(x, w) b = Relu(a) c = Gemm(b, u) d = Relu(c) y = Gemm(d, v) }"""
X = normal(60, 8, seed=1)
LABELS = np.arange(60) % 4
SAMPLES = {"x": X, "labels": LABELS}
TEST = {"x": normal(40, 8, seed=2), "labels": np.arange(40) % 4}


@pytest.fixture(scope="module")
def proto() -> onnx.ModelProto:
    weights = {"w": normal(8, 24, seed=3), "u": normal(24, 24, seed=4), "v": normal(24, 4, seed=5)}
    return model_proto(TEXT, weights)


@pytest.fixture(scope="module")
def folder(proto: onnx.ModelProto, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model and samples as files."""
    place = tmp_path_factory.mktemp("files")
    onnx.save(proto, place / "model.onnx")
    np.savez_compressed(place / "samples.npz", **SAMPLES)
    np.savez(place / "test.npz", **TEST)
    return place


@pytest.fixture(scope="module")
def from_files(folder: Path) -> Compression:
    """What is made of the files."""
    return onnx_relusv.compress(
        folder / "model.onnx",
        folder / "small.onnx",
        samples=folder / "samples.npz",
        test=folder / "test.npz",
        planning=HALF,
        measuring=CPU,
    )


def feeds() -> Iterator[dict[str, np.ndarray]]:
    for start in range(0, 60, 13):
        yield {name: values[start : start + 13] for name, values in SAMPLES.items()}


def test_compress_gives_the_same_model(
    proto: onnx.ModelProto, from_files: Compression, tmp_path: Path
) -> None:
    assert from_files.model is None
    before, report = proto.SerializeToString(), tmp_path / "report"
    found = onnx_relusv.compress(
        proto, samples=SAMPLES, test=TEST, planning=HALF, measuring=CPU, report=report
    )
    assert found.model is not None
    assert found.model.SerializeToString() == from_files.after.path.read_bytes()
    assert replace(found.after, path=from_files.after.path) == from_files.after
    assert found.assessment.evaluation.outputs == from_files.assessment.evaluation.outputs
    assert proto.SerializeToString() == before
    # What comes from Python has no path that a command line could take.
    lacking = {*from_files.provenance.settings} - {*found.provenance.settings}
    assert lacking == {"samples", "test"}
    data = report_data(found)
    assert (data["before"]["path"], data["after"]["path"]) == ("model", "result")
    assert "model" not in data
    page = (report / "report.html").read_text(encoding="utf-8")
    assert "arrays in memory" in page
    assert "onnx-relusv-" not in page  # no temporary folder
    with pytest.raises(UsageError, match="exists already"):
        onnx_relusv.compress(proto, samples=SAMPLES, planning=HALF, measuring=CPU, report=report)


def test_a_cache_knows_the_same_content(
    proto: onnx.ModelProto, folder: Path, tmp_path: Path
) -> None:
    def entries(model: Path | onnx.ModelProto, samples: SamplesLike) -> list[Path]:
        cached = replace(CPU, cache=tmp_path / "cache")
        onnx_relusv.inspect(model, samples=samples, measuring=cached)
        return sorted((tmp_path / "cache").rglob("*"))

    first = entries(folder / "model.onnx", folder / "samples.npz")
    assert first
    assert entries(proto, SAMPLES) == entries(proto, feeds()) == first
    assert len(entries(proto, {**SAMPLES, "x": X + np.float32(1)})) > len(first)


def test_plan_and_apply(proto: onnx.ModelProto, from_files: Compression) -> None:
    plan = onnx_relusv.plan(proto, samples=SAMPLES, planning=HALF, measuring=CPU)
    found = onnx_relusv.apply(proto, plan, samples=feeds())
    assert found.model is not None
    assert not [one for one in found.warnings if "samples that the plan was made" in one]
    assert found.model.SerializeToString() == from_files.after.path.read_bytes()
    other = model_proto(TEXT, {"w": X[:8, :8], "u": X[:8, :8], "v": X[:8, :4]})
    with pytest.raises(InputError, match=r"^model: the plan was made for another model"):
        onnx_relusv.apply(other, plan, samples=SAMPLES)


def test_the_other_functions(
    proto: onnx.ModelProto, folder: Path, from_files: Compression, tmp_path: Path
) -> None:
    path, small = folder / "model.onnx", from_files.after.path
    inspected = onnx_relusv.inspect(proto, samples=X, measuring=CPU)
    np.save(tmp_path / "x.npy", X)
    beside = onnx_relusv.inspect(path, samples=tmp_path / "x.npy", measuring=CPU)
    assert inspected.rows[0].spectrum.mean_width == beside.rows[0].spectrum.mean_width
    traced = onnx_relusv.trace(proto, samples=feeds(), measuring=CPU)
    assert traced.correct is not None
    by_path = onnx_relusv.trace(path, samples=folder / "samples.npz", measuring=CPU)
    np.testing.assert_array_equal(traced.correct, by_path.correct)
    compared = onnx_relusv.compare(proto, onnx.load(small), TEST, measuring=CPU)
    wanted = onnx_relusv.compare(path, small, folder / "test.npz", measuring=CPU)
    assert compared.evaluation.outputs == wanted.evaluation.outputs
    assert compared.evaluation.drop == wanted.evaluation.drop
    assert (str(compared.before.path), str(compared.after.path)) == ("before", "after")


def test_sweep(proto: onnx.ModelProto, folder: Path) -> None:
    sweeping = SweepOptions(sizes=(0.6,), methods=("damage",))
    found = onnx_relusv.sweep(proto, samples=SAMPLES, test=TEST, sweeping=sweeping, measuring=CPU)
    beside = onnx_relusv.sweep(
        folder / "model.onnx",
        samples=folder / "samples.npz",
        test=folder / "test.npz",
        sweeping=sweeping,
        measuring=CPU,
    )
    (point,), (other,) = found.points, beside.points
    assert (point.after.sha256, point.drop) == (other.after.sha256, other.drop)
    assert point.command.startswith("onnx-relusv compress model --output model-damage-0.6.onnx")
    assert "--samples samples" in point.command
    with pytest.raises(UsageError, match=r"^test: these are the samples that are fitted to"):
        onnx_relusv.sweep(proto, samples=SAMPLES, test=feeds(), sweeping=sweeping, measuring=CPU)


def test_external_data_comes_back_in_the_model(proto: onnx.ModelProto, tmp_path: Path) -> None:
    path = tmp_path / "apart.onnx"
    apart = onnx.ModelProto.FromString(proto.SerializeToString())  # saving so empties it
    onnx.save(apart, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    found = onnx_relusv.compress(path, samples=SAMPLES, planning=HALF, measuring=CPU).model
    assert found is not None
    onnx.checker.check_model(found)
    assert not any(tensor.external_data for tensor in found.graph.initializer)
    assert onnx_relusv.compare(proto, found, TEST, measuring=CPU).evaluation.samples == 40


def test_nothing_is_left_when_it_fails(
    proto: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(InputError, match=r"^samples: x has shape \(60, 7\)"):
        onnx_relusv.compress(proto, samples=X[:, :7], planning=HALF, measuring=CPU)
    onnx_relusv.inspect(proto, samples=feeds(), measuring=CPU)
    assert list(tmp_path.iterdir()) == []
