"""A folder as the model: out comes a folder, whole or not at all."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from command_line import run, words
from graphs import model_proto, normal

import onnx_relusv
from onnx_relusv import Budgets, MeasureOptions, PlanOptions
from onnx_relusv.core.errors import BudgetError, UsageError
from onnx_relusv.graph.model import data_files
from onnx_relusv.work.executors import Silent

CPU = MeasureOptions(provider="cpu")
HALF = PlanOptions(budgets=Budgets(size=0.6), method="double-layer")
TEXT = """(float[N,8] x) => (float[N,4] y) {
    a = Gemm(x, w) b = Relu(a) c = Gemm(b, u) d = Relu(c) y = Gemm(d, v) }"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    weights = {"w": normal(8, 48, seed=3), "u": normal(48, 48, seed=4), "v": normal(48, 4, seed=5)}
    place = tmp_path / "net"
    (place / "words").mkdir(parents=True)
    proto = model_proto(TEXT, weights)
    onnx.save(
        proto, place / "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=0
    )
    (place / "config.json").write_text('{"labels": 4}', encoding="utf-8")
    (place / "words" / "vocab.txt").write_text("a\nb\n", encoding="utf-8")
    np.savez(tmp_path / "samples.npz", x=normal(60, 8, seed=1))
    return place


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_folder_with_the_model_replaced(folder: Path, tmp_path: Path) -> None:
    before, small, samples = content(folder), tmp_path / "small", tmp_path / "samples.npz"
    found = onnx_relusv.compress(
        folder, small, planning=HALF, measuring=CPU, report=tmp_path / "report"
    )
    assert found.after.path == small / "model.onnx"
    made = content(small)
    assert set(before) - set(made) == {"w.bin"}
    assert made["config.json"] == before["config.json"]
    assert made["words/vocab.txt"] == before["words/vocab.txt"]
    # It is the file that is made of the file, data included.
    (tmp_path / "alone").mkdir()
    onnx_relusv.compress(
        folder / "model.onnx",
        tmp_path / "alone" / "model.onnx",
        planning=HALF,
        measuring=CPU,
    )
    alone = content(tmp_path / "alone")
    assert {name: made[name] for name in alone} == alone
    assert {path.parent for path in data_files(small / "model.onnx")} == {small}
    assert set(made) == set(alone) | {"config.json", "words/vocab.txt"}
    # All functions take folders.
    compared = onnx_relusv.compare(folder, small, samples, measuring=CPU)
    assert compared.shares.size == pytest.approx(found.shares.size)
    assert content(folder) == before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_nothing_is_there_after_an_error(folder: Path, tmp_path: Path) -> None:
    tiny = PlanOptions(budgets=Budgets(size=0.01), method="double-layer")
    with pytest.raises(BudgetError):
        onnx_relusv.compress(folder, tmp_path / "small", planning=tiny, measuring=CPU)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net", "samples.npz"]
    # Nor where something takes the place while the run works.
    made = onnx_relusv.plan(folder, planning=HALF, measuring=CPU)

    class Appearing:
        """Silent, but for what it does when the file is validated."""

        def stage(self, name: str, total: int) -> object:
            if name == "Validation":
                (tmp_path / "small").mkdir(exist_ok=True)
                (tmp_path / "small" / "mine.txt").write_text("mine", encoding="utf-8")
            return Silent().stage(name, total)

    with pytest.raises(UsageError, match="small: exists already"):
        onnx_relusv.apply(
            folder,
            made,
            tmp_path / "small",
            report=tmp_path / "report",
            progress=Appearing(),  # type: ignore[arg-type]
        )
    assert content(tmp_path / "small") == {"mine.txt": b"mine"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net", "samples.npz", "small"]


def test_the_command_line(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = ("--size", 0.6, "--method", "double-layer", "--provider", "cpu")
    first = run("compress", "net", "--output", "small", *options)
    assert first.exit_code == 0, first.output
    made = content(tmp_path / "small")
    again = run("compress", "net", "--output", "small", *options)
    assert (again.exit_code, "replace it with --force" in words(again)) == (2, True)
    # Files of ours that are no longer needed go, and what is not ours keeps it from going.
    (tmp_path / "small" / "model.onnx.0123abcd.data").write_bytes(b"old")
    assert run("compress", "net", "--output", "small", *options, "--force").exit_code == 0
    assert content(tmp_path / "small") == made
    (tmp_path / "small" / "mine.txt").write_text("mine", encoding="utf-8")
    kept = run("compress", "net", "--output", "small", *options, "--force")
    assert (kept.exit_code, "small: holds mine.txt" in words(kept)) == (2, True)
    assert content(tmp_path / "small") == {**made, "mine.txt": b"mine"}
    config = run(
        "compress", "net", "--output", "new", *options, "--json", "net/config.json", "--force"
    )
    assert (config.exit_code, "the output is an input too" in words(config)) == (2, True)
    assert run("inspect", "net", "--provider", "cpu").exit_code == 0
    assert run("inspect", "net/words").exit_code == 3


def test_without_an_output_the_model_comes_back(folder: Path, tmp_path: Path) -> None:
    found = onnx_relusv.compress(folder, planning=HALF, measuring=CPU)
    assert found.model is not None
    onnx.checker.check_model(found.model)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net", "samples.npz"]
