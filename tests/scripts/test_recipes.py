"""The blocks of docs/recipes.md run as they stand there, each where its tool is installed."""

import json
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
# Enough that accuracies tell a working model from a broken one.
SAMPLES = 1000


def blocks(heading: str, language: str) -> list[str]:
    """The blocks of a section."""
    section = next(part for part in PAGE.split("\n## ") if part.startswith(heading))
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a model and some samples."""
    models = tmp_path / "models"
    models.mkdir()
    (models / "lenet_300_100.onnx").symlink_to(ROOT / "models" / "lenet_300_100.onnx")
    for samples in (ROOT / "models").glob("fashion_*.npz"):
        with np.load(samples) as arrays:
            np.savez(models / samples.name, **{name: arrays[name][:SAMPLES] for name in arrays})
    return tmp_path


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def own_command(line: str) -> list[str]:
    """A line of a shell, with commands from beside this interpreter."""
    name, *arguments = shlex.split(line)
    return [str(Path(sys.executable).with_name(name)), *arguments]


def size(path: Path) -> int:
    return path.stat().st_size


@pytest.mark.skipif(find_spec("onnxslim") is None, reason="onnxslim is not installed")
def test_simplified_before(folder: Path) -> None:
    (text,) = blocks("Simplified", "sh")
    for line in text.splitlines():
        run(own_command(line), folder)
    assert size(folder / "small.onnx") <= 0.25 * size(folder / "slim.onnx")


def test_quantised_afterwards(folder: Path) -> None:
    (text,) = blocks("Quantised", "python")
    done = run([sys.executable, "-c", text], folder)
    before, after = map(float, done.stdout.split()[-2:])
    # A broken model of ten classes has a tenth right.
    assert before > 0.85
    assert after > before - 0.05
    assert size(folder / "eighth.onnx") < 0.3 * size(folder / "half.onnx")


@pytest.fixture
def olive_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same with the package configuration and the data's script."""
    if find_spec("olive") is None:
        pytest.skip("olive-ai is not installed; bash scripts/olive has it")
    # Tests are no use of Olive that its authors want to hear of.
    monkeypatch.setenv("OLIVE_DISABLE_TELEMETRY", "1")
    packages, data = blocks("A pass", "python")
    run([sys.executable, "-c", packages], folder)
    (folder / "own_data.py").write_text(data, encoding="utf-8")
    names, texts = ("workflow.json", "search.json"), blocks("A pass", "json")
    for name, text in zip(names, texts, strict=True):
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_a_pass_of_olive(olive_folder: Path) -> None:
    text, _ = blocks("A pass", "sh")
    made, _ = (run(own_command(line), olive_folder) for line in text.splitlines())
    assert "get the same answer" in made.stdout + made.stderr
    assert (olive_folder / "report" / "report.html").exists()
    # Of a quarter of the numbers, a byte each instead of four.
    whole = size(ROOT / "models" / "lenet_300_100.onnx")
    assert size(olive_folder / "optimised" / "model.onnx") < 0.1 * whole
    gate = "compare models/lenet_300_100.onnx optimised/model.onnx --samples"
    limit = "models/fashion_test.npz --fail-below-agreement 0.9"
    run(own_command(f"onnx-relusv {gate} {limit}"), olive_folder)


def test_a_search_of_olive(olive_folder: Path) -> None:
    _, text = blocks("A pass", "sh")
    run(own_command(text.strip()), olive_folder)
    found = json.loads((olive_folder / "searched" / "footprint.json").read_text("utf-8"))
    points = {
        (one["pass_run_config"]["size"], one["pass_run_config"]["precision"]): one.get("metrics")
        for one in found.values()
        if one["pass_run_config"]
    }
    assert set(points) == {(size, to) for size in (0.25, 0.125, 0.001) for to in ("keep", "int8")}
    # No file has a thousandth of the bytes.
    assert {point for point, metrics in points.items() if not metrics} == {
        (0.001, "keep"),
        (0.001, "int8"),
    }
    whole = size(ROOT / "models" / "lenet_300_100.onnx")
    assert size(olive_folder / "searched" / "model.onnx") < 0.25 * whole


def test_a_gate(folder: Path) -> None:
    (text,) = blocks("A gate", "yaml")
    commands = re.findall(r"- run: (onnx-relusv .*)", text)
    assert [shlex.split(line)[1] for line in commands] == ["compress", "compare"]
    for line in commands:
        run(own_command(line), folder)
    assert (folder / "report" / "report.html").exists()
    # The gate closes: of all answers, some do differ.
    closed = own_command(commands[1].replace("0.9 ", "1.0 "))
    failed = subprocess.run(closed, cwd=folder, capture_output=True, check=False)
    assert failed.returncode == 6


@pytest.mark.skipif(find_spec("mlflow") is None, reason="mlflow is not installed")
def test_figures_in_mlflow(folder: Path) -> None:
    (text,) = blocks("Figures", "python")
    done = run([sys.executable, "-c", text], folder)
    assert "'bytes_left': 0.2" in done.stdout


@pytest.mark.skipif(
    not Path(sys.executable).with_name("hadolint").exists(), reason="hadolint is not installed"
)
def test_a_container(folder: Path) -> None:
    (text,) = blocks("In a container", "dockerfile")
    (folder / "Dockerfile").write_text(text, encoding="utf-8")
    run(own_command("hadolint Dockerfile"), folder)
