"""--latency and --batch from the command line, with times that the tests decide."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from command_line import run
from graphs import model_proto, normal
from timed_runs import timed_runs

TEXT = (
    "(float[N,200] x) => (float[N,10] y) {"
    " a = Gemm(x, w1) b = Relu(a) c = Gemm(b, w2) d = Relu(c) y = Gemm(d, w3) }"
)
WEIGHTS = {
    "w1": normal(200, 450, scale=0.1),
    "w2": normal(450, 400, scale=0.07),
    "w3": normal(400, 10, scale=0.15),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("inputs")
    onnx.save(model_proto(TEXT, WEIGHTS), made / "model.onnx")
    np.save(made / "few.npy", normal(60, 200, seed=7))
    return made


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    return folder / "model.onnx"


@pytest.fixture(scope="module")
def few(folder: Path) -> Path:
    return folder / "few.npy"


@pytest.mark.parametrize("way", ["damage", "level"])
def test_compress_keeps_the_budget_and_says_so(
    way: str, tmp_path: Path, model: Path, few: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A plan over the budget, and one that keeps it, timed twice. Then the file.
    machine = timed_runs(monkeypatch, [0.8, 0.58, 0.58, 0.5])
    output, report = tmp_path / "small.onnx", tmp_path / "report"
    samples = ("--samples", few) if way == "damage" else ()
    result = run(
        *("compress", model, "--output", output, "--latency", 0.6, "--batch", 8),
        *("--report", report, "--provider", "cpu"),
        *samples,
    )
    assert result.exit_code == 0, result.output
    data = json.loads((report / "report.json").read_text(encoding="utf-8"))
    assert (data["allocation"], data["budgets"]["latency"]) == (way, 0.6)
    outcome = data["latency"]
    assert machine.raced == 4
    assert (outcome["asked"], outcome["measured"], outcome["batch"]) == (0.6, 0.5, 8)
    assert outcome["planned"] == 0.58
    assert any(row["choice"]["action"] in ("double_layer", "prune") for row in data["blocks"])
    layers = [row for row in data["blocks"] if row["choice"]["action"] == "double_layer"]
    # What loses channels too depends on its neighbours, and is not timed by itself.
    assert {row["latency_before"] for row in layers} <= {1.0, None}
    assert layers or way == "damage"
    assert "A run takes 1e+03 ms instead of 2e+03 ms" in " ".join(result.output.split())


def test_plan_then_apply(
    tmp_path: Path, model: Path, few: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed_runs(monkeypatch, [0.58])
    plan, one, two = (tmp_path / name for name in ("plan.json", "one.onnx", "two.onnx"))
    options = ("--latency", 0.6, "--size", 0.5, "--batch", 4, "--samples", few)
    # By damage, compress corrects the plan once, which apply does not.
    options += ("--allocation", "level")
    result = run("plan", model, "--output", plan, *options)
    assert result.exit_code == 0, result.output
    assert "% of the time." in " ".join(result.output.split())
    data = json.loads(plan.read_text(encoding="utf-8"))
    assert (data["batch"], data["budgets"]["latency"]) == (4, 0.6)
    assert data["latency"] == 0.58
    assert data["size"] <= 0.5
    assert run("apply", model, plan, "--output", one, "--samples", few).exit_code == 0
    assert run("compress", model, "--output", two, *options).exit_code == 0
    assert one.read_bytes() == two.read_bytes()


def test_what_cannot_be_reached_is_not_written(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No plan is fast enough, whatever its estimate.
    timed_runs(monkeypatch, [0.9, 0.8, 0.85])
    result = run("compress", model, "--output", tmp_path / "small.onnx", "--latency", 0.5)
    assert result.exit_code == 4
    assert "0.5 of the latency cannot be reached: the smallest share that was measured is 0.8" in (
        " ".join(result.output.split())
    )
    # By what was timed, the rest of the model alone is more than that.
    result = run("compress", model, "--output", tmp_path / "small.onnx", "--latency", 0.01)
    assert result.exit_code == 4
    assert "0.01 of the latency cannot be reached: by what was timed" in (
        " ".join(result.output.split())
    )
    # A plan is fast enough, but the file is not.
    timed_runs(monkeypatch, [0.5, 0.5, 0.9])
    result = run("compress", model, "--output", tmp_path / "small.onnx", "--latency", 0.5)
    assert result.exit_code == 4
    assert "over the budget of 0.5; nothing was written" in " ".join(result.output.split())
    assert not any(tmp_path.iterdir())


def test_a_busy_moment_does_not_cost_the_file(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = timed_runs(monkeypatch, [0.5, 0.5, 0.9, 0.7, 0.49])
    output = tmp_path / "small.onnx"
    assert run("compress", model, "--output", output, "--latency", 0.5).exit_code == 0
    assert machine.raced == 5
    assert output.exists()


def test_slower_blocks_are_named_under_any_budget(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed_runs(monkeypatch, [1.0], layer=1.5)
    report = tmp_path / "report"
    result = run(
        *("compress", model, "--output", tmp_path / "small.onnx", "--size", 0.5),
        *("--batch", 16, "--report", report),
    )
    assert result.exit_code == 0, result.output
    data = json.loads((report / "report.json").read_text(encoding="utf-8"))
    (warning,) = (one for one in data["warnings"] if one.startswith("Smaller, but slower"))
    changed = [row["key"] for row in data["blocks"] if row["choice"]["form"] is not None]
    assert changed
    assert all(f"{key} (1e+03 ms -> 1.5e+03 ms)" in warning for key in changed)
    assert "at batch 16" in warning
    assert data["latency"] is None
    assert "slower by themselves" in " ".join(result.output.split())
    timed_runs(monkeypatch, [1.0], layer=0.5)
    result = run(
        *("compress", model, "--output", tmp_path / "small.onnx", "--size", 0.5, "--force")
    )
    assert "slower by themselves" not in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--latency", 1.5), "--latency 1.5: use a number above 0 and below 1"),
        (("--latency", 0), "--latency 0: use a number above 0 and below 1"),
        (("--latency", 0.5, "--batch", 0), "--batch"),
    ],
)
def test_bad_options_are_refused(
    options: tuple[object, ...], reason: str, tmp_path: Path, model: Path
) -> None:
    for command in ("plan", "compress"):
        result = run(command, model, "--output", tmp_path / "out", *options)
        assert result.exit_code == 2
        assert reason in " ".join(result.output.split())
