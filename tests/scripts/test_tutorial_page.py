"""The Python of docs/tutorial.md runs, and its commands are ones that the command line takes.

A bundled network stands in for the tutorial's, which the repository does not hold.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from onnx_relusv.cli.commands import cli

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")


def code(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with images of the shape that the stand-in takes."""
    zoo = tmp_path / "zoo"
    zoo.mkdir()
    with np.load(ROOT / "models" / "fashion_test.npz") as arrays:
        images, labels = arrays["image"][:6000], arrays["labels"][:6000]
    for name in ("train", "test"):
        np.savez(zoo / f"cifar10_{name}.npz", image=images, labels=labels)
    for name in ("zoo/cifar10_cnn.onnx", "small.onnx"):
        (tmp_path / name).symlink_to(ROOT / "models" / "lenet_300_100.onnx")
    return tmp_path


def test_samples_are_divided_and_served(folder: Path) -> None:
    divide, serve = code("python")
    for text in (divide, serve):
        done = subprocess.run(
            [sys.executable, "-c", text], cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    # The network's own accuracy is 0.8973.
    assert 0.87 < float(done.stdout) < 0.92
    sizes = {}
    for name in ("calibration", "choose", "judge"):
        with np.load(folder / f"{name}.npz") as arrays:
            sizes[name] = (len(arrays["image"]), "labels" in arrays)
    assert sizes == {"calibration": (2000, False), "choose": (2000, True), "judge": (1000, True)}


def test_the_command_line_takes_the_commands(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    commands = [shlex.split(line)[1:] for text in code("sh") for line in text.splitlines()]
    assert [name for name, *_ in commands] == ["inspect", "sweep", "plan", "apply", "compare"]
    for name, *arguments in commands:
        cli.commands[name].make_context(name, arguments)
