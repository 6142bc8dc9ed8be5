"""The command `trace`: its files, its exit codes, and what it leaves behind."""

import json
from pathlib import Path

import command_line
import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from graphs import model_proto, normal

from onnx_relusv.checking.evaluate import ConfidenceReader
from onnx_relusv.cli.commands import cli

MODELS = Path(__file__).parents[2] / "models"
LENET = MODELS / "lenet_300_100.onnx"
TEST = MODELS / "fashion_test.npz"


def run(*arguments: object) -> Result:
    return command_line.run("trace", *arguments)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some hundred of the test images with their labels, so that tests are quick."""
    path = tmp_path_factory.mktemp("samples") / "few.npz"
    with np.load(TEST) as archive:
        np.savez(path, image=archive["image"][:300], labels=archive["labels"][:300])
    return path


def test_figures_and_report_are_written(tmp_path: Path, few: Path) -> None:
    figures, report = tmp_path / "figures.json", tmp_path / "report"
    result = run(LENET, "--samples", few, "--json", figures, "--report", report)
    assert result.exit_code == 0, result.output
    data = json.loads(figures.read_text(encoding="utf-8"))
    assert data["schema"] == "onnx-relusv/trace"
    assert [block["key"] for block in data["blocks"]] == ["fc1_relu", "fc2_relu"]
    assert all(len(block["width_lower"]) == 300 for block in data["blocks"])
    assert data["blocks"][0]["width"] == [None] * 300
    # What the model was trained to; measured here from the labels, not copied from its table.
    assert 0.85 <= data["answers"]["right"] / 300 <= 0.95
    assert data["provenance"]["command"].startswith("onnx-relusv")
    assert json.loads((report / "report.json").read_text(encoding="utf-8")) == data
    assert "<html" in (report / "report.html").read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figures.json", "report"]
    for words in ("fc1_relu", "max softmax", "logits"):
        assert words in result.output


def test_exact_widths_lie_in_their_brackets(tmp_path: Path) -> None:
    model, samples, figures = (tmp_path / name for name in ("m.onnx", "s.npy", "f.json"))
    text = "(float[N,5] x) => (float[N,6] y) { h = Gemm(x, w, b) y = Relu(h) }"
    onnx.save(model_proto(text, {"w": normal(5, 6), "b": normal(6)}), model)
    np.save(samples, normal(20, 5))
    result = run(model, "--samples", samples, "--exact", "--json", figures, "--seed", 3)
    assert result.exit_code == 0, result.output
    data = json.loads(figures.read_text(encoding="utf-8"))
    (block,) = data["blocks"]
    assert np.all(np.array(block["width_lower"]) <= block["width"])
    assert np.all(np.array(block["width"]) <= block["width_upper"])
    assert data["provenance"]["seed"] == 3
    assert data["answers"] is None
    assert "no labels" in " ".join(result.output.split())


def test_samples_are_needed() -> None:
    result = run(LENET)
    assert result.exit_code == 2
    assert "--samples" in result.output


@pytest.mark.parametrize("taken", ["figures.json", "report/report.json", "report/report.html"])
def test_an_existing_output_needs_force(taken: str, tmp_path: Path, few: Path) -> None:
    precious = tmp_path / taken
    precious.parent.mkdir(exist_ok=True)
    precious.write_text("precious", encoding="utf-8")
    options = (
        "--samples",
        few,
        "--json",
        tmp_path / "figures.json",
        "--report",
        tmp_path / "report",
    )
    result = run(LENET, *options)
    assert result.exit_code == 2
    assert "--force" in result.output
    assert precious.read_text(encoding="utf-8") == "precious"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [precious]
    assert run(LENET, *options, "--force").exit_code == 0
    assert precious.read_text(encoding="utf-8") != "precious"


def test_outputs_are_checked_before_any_work(tmp_path: Path) -> None:
    # The samples do not exist, but the output is what is complained about.
    result = run(LENET, "--samples", tmp_path / "none.npz", "--json", tmp_path / "no" / "f.json")
    assert result.exit_code == 2
    blocked = tmp_path / "file"
    blocked.write_text("", encoding="utf-8")
    result = run(LENET, "--samples", tmp_path / "none.npz", "--report", blocked)
    assert result.exit_code == 2
    assert "name a folder" in result.output


def test_inputs_are_never_overwritten(tmp_path: Path, few: Path) -> None:
    samples = tmp_path / "samples.npz"
    samples.write_bytes(few.read_bytes())
    result = run(LENET, "--samples", samples, "--json", samples, "--force")
    assert result.exit_code == 2
    assert samples.read_bytes() == few.read_bytes()


@pytest.mark.parametrize("damage", ["missing", "shape", "labels", "model"])
def test_inputs_that_do_not_fit_are_an_input_error(damage: str, tmp_path: Path) -> None:
    samples, model, figures = (tmp_path / name for name in ("s.npz", "m.onnx", "f.json"))
    model.write_bytes(b"no model" if damage == "model" else LENET.read_bytes())
    images = np.zeros((3, 1, 28, 27 if damage == "shape" else 28), np.uint8)
    if damage != "missing":
        np.savez(samples, image=images, labels=np.array([0, 1, 11 if damage == "labels" else 2]))
    result = run(model, "--samples", samples, "--json", figures)
    assert result.exit_code == 3, result.output
    assert not figures.exists()


def test_an_interrupted_run_leaves_nothing_behind(
    tmp_path: Path, few: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = tmp_path / "figures.json"
    figures.write_text("precious", encoding="utf-8")
    read, batches = ConfidenceReader.add, []

    def interrupted(reader: ConfidenceReader, scores: np.ndarray) -> None:
        batches.append(len(scores))
        if len(batches) == 3:
            raise KeyboardInterrupt
        read(reader, scores)

    monkeypatch.setattr(ConfidenceReader, "add", interrupted)
    result = run(
        LENET, "--samples", few, "--json", figures, "--report", tmp_path / "report", "--force"
    )
    assert result.exit_code == 130
    assert "interrupted" in result.output
    assert figures.read_text(encoding="utf-8") == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["figures.json"]


def test_a_run_repeats_itself(tmp_path: Path, few: Path) -> None:
    written = []
    for name in ("one.json", "two.json"):
        assert run(LENET, "--samples", few, "--json", tmp_path / name).exit_code == 0
        data = json.loads((tmp_path / name).read_text(encoding="utf-8"))
        del data["provenance"]["command"]
        written.append(data)
    assert written[0] == written[1]


def test_the_command_has_help() -> None:
    result = run("--help")
    assert result.exit_code == 0
    for option in ("--samples", "--json", "--report", "--exact", "--provider", "--seed", "--force"):
        assert option in result.output
    assert "trace" in CliRunner().invoke(cli, ["--help"]).output
