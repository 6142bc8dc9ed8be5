"""--max-drop on the command line: its file, its report, its exit codes."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from classified import COUNT, TEXT, classifier, samples, weights
from command_line import run, words
from graphs import model_proto

from onnx_relusv.measuring.bounds import Discordance


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return classifier(tmp_path)


@pytest.fixture
def data(tmp_path: Path, model: Path) -> Path:
    return samples(tmp_path, model)


def test_the_file_and_its_report(model: Path, data: Path, out: Path) -> None:
    options = ("--samples", data, "--max-drop", 8, "--confidence", 0.9, "--seed", 4)
    output, report = out / "small.onnx", out / "report"
    result = run("compress", model, "--output", output, *options, "--report", report)
    assert result.exit_code == 0, result.output
    onnx.checker.check_model(str(output), full_check=True)
    found = json.loads((report / "report.json").read_text(encoding="utf-8"))
    assert (found["budgets"]["max_drop"], found["budgets"]["confidence"]) == (8, 0.9)
    certificate = found["certificate"]
    parts = [certificate[f"{part}_samples"] for part in ("fit", "select", "certify")]
    assert sum(parts) == COUNT
    assert min(parts) > 0
    assert certificate["bound"] <= 8
    assert found["after"]["bytes"] == output.stat().st_size < found["before"]["bytes"]
    page = (report / "report.html").read_text(encoding="utf-8")
    for text in ("Certificate", "Sizes tried"):
        assert text in page
        assert text in result.output
    assert "at most 8 points lost" in words(result)


def test_without_labels_it_counts_answers(model: Path, tmp_path: Path, out: Path) -> None:
    blind = samples(tmp_path, model, labelled=False, name="blind")
    result = run("compress", model, "--output", out / "s.onnx", "--samples", blind, "--max-drop", 8)
    assert result.exit_code == 0, result.output
    assert "at most 8 points changed" in words(result)
    assert "certified at 95 %" in words(result)


def test_without_labels_probabilities_tell_what_changed_answers_cost(
    model: Path, data: Path, tmp_path: Path, out: Path
) -> None:
    blind, output = samples(tmp_path, model, labelled=False, name="blind"), out / "s.onnx"
    options = ("--samples", blind, "--max-drop", 6, "--drop-by", "probabilities")
    result = run("compress", model, "--output", output, *options, "--report", out / "report")
    assert result.exit_code == 0, result.output
    assert "at most 6 points lost on such samples, if the original's" in words(result)
    report = json.loads((out / "report" / "report.json").read_text(encoding="utf-8"))
    found = report["certificate"]
    assert report["budgets"]["drop_by"] == "probabilities"
    assert (found["presumed"], found["labelled"]) == (True, False)
    # With the same answers changed, a bound of their number would have been missed.
    counted = Discordance(found["certify_samples"], found["lost"], None).bound(0.05)
    assert found["drop"] < found["bound"] <= 6 < 100 * counted
    page = (out / "report" / "report.html").read_text(encoding="utf-8")
    assert "That is presumed: there are no labels to check it." in page
    labelled = run("compress", model, "--output", out / "t.onnx", "--samples", data, *options[2:])
    assert labelled.exit_code == 3
    assert "Leave --drop-by away" in words(labelled)
    assert not (out / "t.onnx").exists()


@pytest.mark.parametrize(
    "options",
    [
        ("--size", 0.5, "--drop-by", "probabilities"),
        ("--max-drop", 8, "--drop-by", "labels"),
        ("--max-drop", 0),
        ("--max-drop", 100),
        ("--max-drop", "nan"),
        ("--max-drop", 8, "--confidence", 0.5),
        ("--max-drop", 8, "--confidence", 1),
        ("--size", 0.5, "--confidence", 0.9),
        ("--max-drop", 8, "--allocation", "level"),
    ],
)
def test_settings_that_do_not_go(
    options: tuple[object, ...], model: Path, data: Path, out: Path
) -> None:
    result = run("compress", model, "--output", out / "s.onnx", "--samples", data, *options)
    assert result.exit_code == 2, result.output
    assert not any(out.iterdir())


def test_without_samples_it_is_a_usage_error(model: Path, out: Path) -> None:
    result = run("compress", model, "--output", out / "s.onnx", "--max-drop", 8)
    assert result.exit_code == 2
    assert "--max-drop needs --samples" in words(result)
    assert not any(out.iterdir())


def test_it_belongs_to_compress(model: Path, data: Path, out: Path) -> None:
    options = ("--samples", data, "--max-drop", 8)
    result = run("plan", model, "--output", out / "plan.json", *options)
    assert result.exit_code == 2
    assert "use it with compress" in words(result)
    assert not any(out.iterdir())
    assert "--max-drop" in run("compress", "--help").output
    # Known there only to be refused.
    assert "--max-drop" not in run("plan", "--help").output


def test_too_few_samples_are_an_unreachable_budget(model: Path, data: Path, out: Path) -> None:
    # ln(0.025) / ln(0.99) = 367.04, of 0.4 of the samples.
    result = run("compress", model, "--output", out / "s.onnx", "--samples", data, "--max-drop", 1)
    assert result.exit_code == 4
    assert "It takes 919, of which 368 are set aside" in words(result)
    assert not any(out.iterdir())


def test_nothing_is_left_behind_where_nothing_is_certified(tmp_path: Path, out: Path) -> None:
    model = classifier(tmp_path, decay=0.95)
    data = samples(tmp_path, model)
    options = ("--samples", data, "--max-drop", 3, "--report", out / "report")
    result = run("compress", model, "--output", out / "s.onnx", *options)
    assert result.exit_code == 4
    assert "the smallest bound is" in words(result)
    assert not any(out.iterdir())


def test_a_model_without_class_scores_is_an_input_error(tmp_path: Path, out: Path) -> None:
    number = weights(0.8)
    number["u"], number["g"] = number["u"][:, :1], number["g"][:1]
    model = tmp_path / "number.onnx"
    onnx.save(model_proto(TEXT.replace("N,4", "N,1"), number), model)
    np.savez(tmp_path / "x.npz", x=np.zeros((COUNT, 20), np.float32))
    options = ("--samples", tmp_path / "x.npz", "--max-drop", 8)
    result = run("compress", model, "--output", out / "s.onnx", *options)
    assert result.exit_code == 3
    assert "no output has class scores" in words(result)
    assert not any(out.iterdir())
