"""Arguments from Python: paths may be text, and of another type is a TypeError that says so."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import model_proto, normal

import onnx_relusv
from onnx_relusv import Budgets, MeasureOptions, PlanOptions, SweepOptions
from onnx_relusv.core.arguments import as_path
from onnx_relusv.core.errors import InputError, UsageError

CPU = MeasureOptions(provider="cpu")
WRONG = [b"model.onnx", 3, 1.5, True, ["model.onnx"], object()]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    text = "(float[N,6] x) => (float[N,5] y) { h = Gemm(x, w) y = Relu(h) }"
    onnx.save(model_proto(text, {"w": normal(6, 5)}), path)
    return path


def test_paths_may_be_text(model: Path, tmp_path: Path) -> None:
    samples = tmp_path / "samples.npz"
    np.savez(samples, x=normal(20, 6))
    as_text = onnx_relusv.inspect(str(model), samples=str(samples), measuring=CPU)
    as_paths = onnx_relusv.inspect(model, samples=samples, measuring=CPU)
    assert as_text.rows[0].spectrum.mean_width == as_paths.rows[0].spectrum.mean_width
    assert as_text.provenance.samples_sha256 == as_paths.provenance.samples_sha256
    onnx_relusv.trace(str(model), samples=str(samples), measuring=CPU)
    onnx_relusv.compare(str(model), str(model), str(samples), measuring=CPU)
    assert MeasureOptions(cache="folder").cache == Path("folder")  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [*WRONG, None])
def test_what_is_no_path(value: object, model: Path) -> None:
    calls = {
        "model": [
            lambda: onnx_relusv.inspect(value),  # type: ignore[arg-type]
            lambda: onnx_relusv.plan(value),  # type: ignore[arg-type]
            lambda: onnx_relusv.trace(value, samples=model),  # type: ignore[arg-type]
            lambda: onnx_relusv.sweep(value, samples=model),  # type: ignore[arg-type]
            lambda: onnx_relusv.compress(value, "x"),  # type: ignore[arg-type]
            lambda: onnx_relusv.apply(value, "x", "x"),  # type: ignore[arg-type]
        ],
        "samples": [
            lambda: onnx_relusv.trace(model, samples=value),  # type: ignore[arg-type]
            lambda: onnx_relusv.sweep(model, samples=value),  # type: ignore[arg-type]
            lambda: onnx_relusv.compare(model, model, value),  # type: ignore[arg-type]
        ],
        "before": [lambda: onnx_relusv.compare(value, model, model)],  # type: ignore[arg-type]
        "after": [lambda: onnx_relusv.compare(model, value, model)],  # type: ignore[arg-type]
        "plan": [lambda: onnx_relusv.apply(model, value, "x")],  # type: ignore[arg-type]
    }
    for name, listed in calls.items():
        for call in listed:
            with pytest.raises(TypeError, match=f"^{name} is .*: give a path"):
                call()


@pytest.mark.parametrize("value", WRONG)
def test_what_is_no_path_where_none_may_be(value: object, model: Path) -> None:
    for name, call in {
        "samples": lambda: onnx_relusv.inspect(model, samples=value),  # type: ignore[arg-type]
        "output": lambda: onnx_relusv.compress(model, value),  # type: ignore[arg-type]
        "report": lambda: onnx_relusv.compress(model, "x", report=value),  # type: ignore[arg-type]
        "test": lambda: onnx_relusv.sweep(model, samples=model, test=value),  # type: ignore[arg-type]
        "cache": lambda: MeasureOptions(cache=value),  # type: ignore[arg-type]
    }.items():
        with pytest.raises(TypeError, match=f"^{name} is .*: give a path"):
            call()


@pytest.mark.parametrize("value", WRONG)
def test_an_output_of_apply_that_is_no_path(value: object, model: Path) -> None:
    with pytest.raises(TypeError, match=r"^output is .*: give a path"):
        onnx_relusv.apply(model, "x", value)  # type: ignore[arg-type]


def test_what_is_no_record(model: Path) -> None:
    for name, call in {
        "measuring": lambda: onnx_relusv.inspect(model, measuring={"seed": 1}),  # type: ignore[arg-type]
        "planning": lambda: onnx_relusv.plan(model, planning=Budgets(size=0.5)),  # type: ignore[arg-type]
        "budgets": lambda: PlanOptions(budgets=0.5),  # type: ignore[arg-type]
        "metric": lambda: PlanOptions(metric=len),  # type: ignore[arg-type]
        "seed": lambda: MeasureOptions(seed="1"),  # type: ignore[arg-type]
        "memory": lambda: MeasureOptions(memory=512.0),  # type: ignore[arg-type]
        "provider": lambda: MeasureOptions(provider=None),  # type: ignore[arg-type]
        "max_samples": lambda: MeasureOptions(max_samples=True),
        "size": lambda: Budgets(size="0.5"),  # type: ignore[arg-type]
        "confidence": lambda: Budgets(confidence=True),
        "include": lambda: PlanOptions(include="fc1"),  # type: ignore[arg-type]
        "an entry of exclude": lambda: PlanOptions(exclude=(1,)),  # type: ignore[arg-type]
        "batch": lambda: PlanOptions(batch=1.0),  # type: ignore[arg-type]
        "input_range": lambda: PlanOptions(input_range="01"),  # type: ignore[arg-type]
        "sizes": lambda: SweepOptions(sizes=0.5),  # type: ignore[arg-type]
        "an entry of methods": lambda: SweepOptions(methods=(None,)),  # type: ignore[arg-type]
    }.items():
        with pytest.raises(TypeError, match=f"^{name} is .*: give "):
            call()


def test_numbers_of_numpy_become_python_s() -> None:
    options = MeasureOptions(seed=np.int64(3), memory=np.uint16(512))  # type: ignore[arg-type]
    assert (type(options.seed), options.seed, type(options.memory)) == (int, 3, int)
    size = Budgets(size=np.float32(0.5)).size  # type: ignore[arg-type]
    assert (type(size), size) == (float, 0.5)
    assert PlanOptions(include=["a"]).include == ("a",)  # type: ignore[arg-type]


def test_sizes_out_of_range() -> None:
    for size in (0, 1, -0.5, float("nan"), float("inf"), 10**400):
        with pytest.raises(UsageError, match=r"--size .*: use a number above 0 and below 1"):
            PlanOptions(budgets=Budgets(size=size))


def test_what_no_path_can_be() -> None:
    for path, words in (
        ("", "the path is empty"),
        ("a\0b", "no path looks so"),
        ("\ud800", "no path looks so"),
        ("a" * 5000, "too long, 5000 characters"),
    ):
        with pytest.raises(UsageError, match=f"^model.*{words}"):
            as_path("model", path)


def test_what_is_not_there_is_looked_for_where_it_is_used(tmp_path: Path) -> None:
    missing = tmp_path / "missing" / "model.onnx"
    assert as_path("model", str(missing)) == missing
    with pytest.raises(InputError, match="there is no such file"):
        onnx_relusv.inspect(missing)


def test_all_functions_write_their_results(model: Path, tmp_path: Path) -> None:
    samples = tmp_path / "samples.npz"
    np.savez(samples, x=normal(20, 6))
    for name, call in {
        "inspect": lambda **to: onnx_relusv.inspect(model, measuring=CPU, **to),
        "trace": lambda **to: onnx_relusv.trace(model, samples=samples, measuring=CPU, **to),
        "compare": lambda **to: onnx_relusv.compare(model, model, samples, measuring=CPU, **to),
    }.items():
        report, figures = tmp_path / name, tmp_path / f"{name}.json"
        call(report=report, json=figures)
        assert (report / "report.html").exists()
        assert figures.read_bytes() == (report / "report.json").read_bytes()
        with pytest.raises(UsageError, match=f"{name}.json: exists already"):
            call(json=str(figures))
        call(json=figures, force=True)


def test_what_is_read_is_not_written(model: Path) -> None:
    with pytest.raises(UsageError, match="the output is an input too"):
        onnx_relusv.plan(model, output=model, force=True)
