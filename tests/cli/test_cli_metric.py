"""--metric and --divergence on the command line: what is said, and the exit codes."""

import json
from pathlib import Path

import numpy as np
import pytest
from classified import classifier, metric_file, regressor, samples, targets
from command_line import run, words


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A file of metrics."""
    return metric_file(tmp_path)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return regressor(tmp_path)


@pytest.fixture
def data(tmp_path: Path, model: Path) -> Path:
    return targets(tmp_path, model)


def test_a_drop_of_a_metric_is_estimated_and_never_certified(
    model: Path, data: Path, own: Path, out: Path
) -> None:
    most = 0.5 * float(np.var(np.load(data)["labels"]))
    output, report = out / "small.onnx", out / "report"
    options = ("--samples", data, "--metric", f"{own}:fit", "--max-drop", most, "--include", "f")
    result = run("compress", model, "--output", output, *options, "--report", report, "--verbose")
    assert result.exit_code == 0, result.output
    found = json.loads((report / "report.json").read_text(encoding="utf-8"))
    assert found["certificate"] is None
    assert found["drop_estimate"]["bound"] <= most
    assert found["metric"]["name"] == "own_metric.py:fit"
    assert found["metric"]["part"] == "certifying"
    assert found["damage_measure"] == "squared relative L2 error of the outputs"
    page = (report / "report.html").read_text(encoding="utf-8")
    for text in (page, words(result)):
        assert "Estimate, not exact" in text
        assert "Sizes tried" in text
        assert "change measured as" in text
        assert "certified at" not in text
        assert "Certificate" not in text
        assert "points" not in text.split("Sizes tried")[1].split("Measures")[0]


def test_a_metric_without_a_drop(model: Path, data: Path, own: Path, out: Path) -> None:
    options = ("--samples", data, "--metric", f"{own}:fit", "--size", 0.5)
    result = run("compress", model, "--output", out / "s.onnx", *options)
    assert result.exit_code == 0, result.output
    assert "own_metric.py:fit" in words(result)
    assert "samples for choosing" in words(result)
    figures = out / "figures.json"
    judged = ("--samples", data, "--metric", f"{own}:fit", "--json", figures)
    result = run("compare", model, out / "s.onnx", *judged)
    assert result.exit_code == 0, result.output
    assert "own_metric.py:fit" in words(result)
    found = json.loads(figures.read_text(encoding="utf-8"))["evaluation"]["metric"]
    assert found["loss"] == pytest.approx(found["before"] - found["after"])
    assert f"{found['before']:.5g} -> {found['after']:.5g}" in words(result)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ((), "squared relative L2 error of the outputs"),
        (("--divergence", "metric"), "loss of own_metric.py:fit"),
    ],
)
def test_a_plan_says_what_damage_is(
    options: tuple[str, ...], text: str, model: Path, data: Path, own: Path, out: Path
) -> None:
    metric = ("--samples", data, "--metric", f"{own}:fit", "--size", 0.6, *options)
    result = run("plan", model, "--output", out / "plan.json", *metric)
    assert result.exit_code == 0, result.output
    assert f"Damage measured as {text}." in words(result)
    assert json.loads((out / "plan.json").read_text())["damage_measure"] == text


def test_class_scores_decide_and_can_be_overruled(tmp_path: Path, out: Path) -> None:
    model = classifier(tmp_path)
    data = samples(tmp_path, model)
    for divergence, text in (
        ("auto", "KL divergence of the class scores y"),
        ("kl", "KL divergence of the class scores y"),
        ("l2", "squared relative L2 error of the outputs"),
    ):
        options = ("--samples", data, "--size", 0.6, "--divergence", divergence, "--force")
        result = run("plan", model, "--output", out / "plan.json", *options)
        assert result.exit_code == 0, result.output
        assert f"Damage measured as {text}." in words(result)


@pytest.mark.parametrize(
    ("function", "code", "text"),
    [
        ("fit()", 2, "write FILE.py:function"),
        ("precision", 3, "has no precision"),
        ("number", 3, "not a function"),
        ("fails", 3, "ValueError: no such thing"),
        ("says_nothing", 3, "let it return a float"),
        ("not_a_number", 3, "it returned nan"),
    ],
)
def test_metrics_that_do_not_go(
    function: str, code: int, text: str, model: Path, data: Path, own: Path, out: Path
) -> None:
    metric = ("--samples", data, "--metric", f"{own}:{function}")
    for command in (
        ("compress", model, "--output", out / "s.onnx", "--size", 0.5, "--report", out / "r"),
        ("plan", model, "--output", out / "plan.json", "--size", 0.5),
        ("compare", model, model, "--json", out / "figures.json"),
    ):
        result = run(*command, *metric)
        assert (result.exit_code, text in words(result)) == (code, True), result.output
        assert not any(out.iterdir())


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (("--divergence", "metric", "--size", 0.5), 2, "--divergence metric needs a --metric"),
        (("--divergence", "kl", "--size", 0.5), 3, "no output has class scores"),
        (("--divergence", "l2"), 2, "give one"),
        (("--divergence", "tv", "--size", 0.5), 2, "tv"),
        (("--max-drop", 8), 3, "Give a --metric to judge by"),
    ],
)
def test_settings_that_do_not_go(
    options: tuple[object, ...], code: int, text: str, model: Path, tmp_path: Path, out: Path
) -> None:
    np.savez(tmp_path / "x.npz", x=np.load(targets(tmp_path, model))["x"])
    given = ("--samples", tmp_path / "x.npz", *options)
    result = run("compress", model, "--output", out / "s.onnx", *given)
    assert (result.exit_code, text in words(result)) == (code, True), result.output
    assert not any(out.iterdir())


def test_a_missing_file_and_missing_samples(model: Path, own: Path, out: Path) -> None:
    output = ("--output", out / "s.onnx", "--size", 0.5)
    result = run("compress", model, *output, "--metric", f"{own}:fit")
    assert result.exit_code == 2
    assert "--metric needs --samples" in words(result)
    result = run("compress", model, *output, "--metric", f"{own}x:fit")
    assert result.exit_code == 3
    assert not any(out.iterdir())


def test_the_metric_s_file_is_never_overwritten(model: Path, data: Path, own: Path) -> None:
    before = own.read_bytes()
    metric = ("--samples", data, "--metric", f"{own}:fit", "--force")
    for command in (
        ("compress", model, "--output", own, "--size", 0.5),
        ("plan", model, "--output", own, "--size", 0.5),
        ("compare", model, model, "--json", own),
    ):
        result = run(*command, *metric)
        assert result.exit_code == 2, result.output
        assert "an input too" in words(result)
        assert own.read_bytes() == before


def test_help_says_that_code_is_executed() -> None:
    for command in ("compress", "plan", "compare"):
        assert "The file's code is executed" in words(run(command, "--help"))
