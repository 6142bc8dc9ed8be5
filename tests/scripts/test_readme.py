"""The README's commands and its Python examples run as they stand there."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from onnx_relusv.cli.commands import cli

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def code(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def files() -> dict[str, str]:
    """The examples that begin with their own name."""
    named = [one for one in code("python") if one.startswith("# ")]
    return {one.splitlines()[0].removeprefix("# "): one for one in named}


# Enough to certify a drop of a point.
SAMPLES = 760


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the models and fewer samples, so that outputs do not land in the real one."""
    models = tmp_path / "models"
    models.mkdir()
    for model in (ROOT / "models").glob("*.onnx"):
        (models / model.name).symlink_to(model)
    for samples in (ROOT / "models").glob("fashion_*.npz"):
        with np.load(samples) as arrays:
            np.savez(models / samples.name, **{name: arrays[name][:SAMPLES] for name in arrays})
    for name, text in files().items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_commands_run_one_after_the_other(checkout: Path) -> None:
    lines = [line for block in code("sh") for line in block.splitlines()]
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("onnx-relusv ")]
    assert {arguments[0] for arguments in commands} == {
        "inspect",
        "measure-latency",
        "plan",
        "apply",
        "compress",
        "compare",
        "trace",
        "sweep",
    }
    for arguments in commands:
        result = CliRunner().invoke(cli, arguments)
        assert result.exit_code == 0, result.output
    assert (checkout / "small.onnx").stat().st_size < 0.25 * (
        ROOT / "models" / "fashion_vgg.onnx"
    ).stat().st_size


def test_the_python_examples_run(checkout: Path) -> None:
    compressing, measuring, beyond_relu = (
        run(example) for example in code("python") if example not in files().values()
    )
    assert float(compressing.split()[0]) <= 0.25
    assert (checkout / "quarter.onnx").exists()
    lower, estimate, upper, width, relu_width = map(float, measuring.split())
    assert lower <= estimate <= upper
    assert width / 2 <= relu_width <= width
    lipschitz, lower, estimate, upper = map(float, beyond_relu.split())
    assert 1.128 < lipschitz < 1.129
    assert lower <= estimate <= upper


def run(example: str) -> str:
    """What an example prints."""
    done = subprocess.run(
        [sys.executable, "-c", example], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_linked_page_and_script_exists() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / target.partition("#")[0]).exists(), target
    for script in re.findall(r"bash (scripts/\w+)", README):
        assert (ROOT / script).exists(), script
