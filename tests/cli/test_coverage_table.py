"""Where the bytes are: at the end of `inspect`, and beside the message of exit code 4."""

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import run, words
from graphs import model_proto, normal, saved

TEXT = "(int64[N] x) => (float[N,24] y) { a = Gather(table, x) y = MatMul(a, w) }"
TITLE = "Where the bytes are"


@pytest.fixture
def embedding(tmp_path: Path) -> Path:
    proto = model_proto(TEXT, {"table": normal(100, 24), "w": normal(24, 24)})
    return saved(proto, tmp_path).path


def test_a_budget_out_of_reach_says_what_stays(embedding: Path, tmp_path: Path) -> None:
    result = run("compress", embedding, "--output", tmp_path / "small.onnx", "--size", 0.2)
    said = words(result)
    assert result.exit_code == 4
    assert TITLE in said
    assert "looked up" in said
    assert said.index(TITLE) < said.index("error: 0.2 of the bytes cannot be reached")
    assert not (tmp_path / "small.onnx").exists()


def test_inspect_ends_with_it(embedding: Path, tmp_path: Path) -> None:
    folder = tmp_path / "report"
    result = run("inspect", embedding, "--report", folder)
    assert result.exit_code == 0
    said = words(result)
    assert "Gather" in said[said.index(TITLE) :]
    coverage = json.loads((folder / "report.json").read_text(encoding="utf-8"))["coverage"]
    rows = coverage["rows"]
    assert [row["operator"] for row in rows] == ["MatMul", "Gather"]
    total = sum(row["bytes"] for row in rows) + coverage["other_bytes"]
    assert total == coverage["total_bytes"] == embedding.stat().st_size
    assert TITLE in (folder / "report.html").read_text(encoding="utf-8")


def test_what_may_be_lost_is_not_explained_by_bytes(tmp_path: Path) -> None:
    proto = model_proto(
        "(float[N,24] x) => (float[N,24] y) { y = MatMul(x, w) }", {"w": normal(24, 24)}
    )
    model = saved(proto, tmp_path).path
    np.savez(tmp_path / "samples.npz", x=normal(40, 24))
    options = ("--samples", tmp_path / "samples.npz", "--max-drop", 0.01)
    result = run("compress", model, "--output", tmp_path / "small.onnx", *options)
    assert result.exit_code == 4
    assert TITLE not in words(result)
