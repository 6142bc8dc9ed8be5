"""The commands of docs/usage.md run as they stand there, one after the other."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from onnx_relusv.cli.commands import cli

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "usage.md").read_text(encoding="utf-8")


def code(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def files() -> dict[str, str]:
    """The examples that begin with their own name."""
    named = [one for one in code("python") if one.startswith("# ")]
    return {one.splitlines()[0].removeprefix("# "): one for one in named}


# Enough to certify a drop of two points.
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
    assert {arguments[0] for arguments in commands} == set(cli.commands)
    for arguments in commands:
        result = CliRunner().invoke(cli, arguments)
        assert result.exit_code == 0, result.output
    whole = (ROOT / "models" / "lenet_300_100.onnx").stat().st_size
    assert (checkout / "small.onnx").stat().st_size <= 0.25 * whole
