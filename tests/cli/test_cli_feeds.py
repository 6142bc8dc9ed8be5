"""--samples own.py:feeds: a function of the user's gives the feeds."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from command_line import run, words
from graphs import model_proto, normal

FILE = """
import numpy as np

def feeds():
    print("on their way")
    x = np.load(__file__.replace("own.py", "x.npy"))
    for start in range(0, len(x), 7):
        yield {"x": x[start : start + 7]}

class Reader:
    def __init__(self):
        self.feeds = feeds()

    def get_next(self):
        return next(self.feeds, None)

def fails():
    yield {"x": np.zeros((1, 6), np.float32)}
    raise ValueError("no more")

number = 3
"""
TEXT = "(float[N,6] x) => (float[N,5] y) { h = Gemm(x, w) y = Relu(h) }"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    onnx.save(model_proto(TEXT, {"w": normal(6, 5)}), tmp_path / "model.onnx")
    np.save(tmp_path / "x.npy", normal(40, 6))
    (tmp_path / "own.py").write_text(FILE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_function_gives_what_a_file_has(folder: Path) -> None:
    found = run("inspect", "model.onnx", "--samples", "own.py:feeds", "--json", "a.json")
    assert found.exit_code == 0, found.output
    assert "on their way" in found.stderr
    assert run("inspect", "model.onnx", "--samples", "x.npy", "--json", "b.json").exit_code == 0
    by_function, by_file = (figures(folder / name) for name in ("a.json", "b.json"))
    assert by_function["blocks"] == by_file["blocks"]
    made = by_function["provenance"]
    assert made["samples_sha256"] == by_file["provenance"]["samples_sha256"]
    # The settings repeat the run, from anywhere.
    (folder / "relusv.toml").write_text(made["settings"], encoding="utf-8")
    assert f'samples = "{folder}/own.py:feeds"' in made["settings"]
    again = run("inspect", "model.onnx", "--config", "relusv.toml", "--json", "c.json")
    assert again.exit_code == 0, again.output
    assert figures(folder / "c.json")["blocks"] == by_file["blocks"]


def figures(path: Path) -> dict[str, dict[str, str]]:
    data: dict[str, dict[str, str]] = json.loads(path.read_text(encoding="utf-8"))
    return data


def test_a_class_of_readers_is_a_function_too(folder: Path) -> None:
    found = run("inspect", "model.onnx", "--samples", "own.py:Reader", "--json", "a.json")
    assert found.exit_code == 0, found.output
    assert figures(folder / "a.json")["provenance"]["sample_count"] == 40


@pytest.mark.parametrize(
    ("value", "code", "text"),
    [
        ("own.py:fails", 3, "own.py:fails: feed 1 cannot be made: line 19 of"),
        ("own.py:number", 3, "--samples own.py:number: number in own.py is int, not a function"),
        ("own.py:missing", 3, "own.py has no missing. Define it there."),
        ("other.py:feeds", 3, "other.py: there is no such file"),
        ("own.txt:feeds", 3, "own.txt:feeds: there is no such file"),
    ],
)
def test_what_gives_none(value: str, code: int, text: str, folder: Path) -> None:
    found = run("inspect", "model.onnx", "--samples", value)
    assert (found.exit_code, text in words(found)) == (code, True), found.output


def test_the_file_is_no_output(folder: Path) -> None:
    found = run(
        "compress", "model.onnx", "--output", "own.py", "--samples", "own.py:feeds", "--force"
    )
    assert found.exit_code == 2
    assert "own.py: the output is an input too" in words(found)
    assert (folder / "own.py").read_text(encoding="utf-8") == FILE
