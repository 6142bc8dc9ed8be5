"""--samples pictures/ with --preprocess, from the command line to the settings that repeat it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from command_line import run, words
from graphs import model_proto, normal
from pictures import pixels
from PIL import Image

TEXT = """(float[N,3,8,8] x) => (float[N,4] y) {
    c = Conv<kernel_shape = [3, 3]>(x, k) d = Relu(c) e = GlobalAveragePool(d)
    f = Flatten(e) y = Gemm(f, w) }"""
COUNT = 24


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    proto = model_proto(TEXT, {"k": normal(16, 3, 3, 3), "w": normal(16, 4)})
    onnx.save(proto, tmp_path / "model.onnx")
    for number in range(COUNT):
        place = tmp_path / "pictures" / "abcd"[number % 4]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(number, 12, 10)).save(place / f"{number:02}.png")
    (tmp_path / "pictures" / "a" / "99.png").write_bytes(b"broken")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def figures(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return data


GIVEN = (
    "--samples", "pictures", "--preprocess", "scale=1/255", "--preprocess", "mean=0.5",
    "--preprocess", "classes=sorted",
)  # fmt: skip


def test_the_settings_repeat_the_run(folder: Path) -> None:
    budget = ("--size", 0.8, "--method", "double-layer", "--provider", "cpu")
    first = run("compress", "model.onnx", "--output", "a.onnx", *GIVEN, *budget, "--json", "a.json")
    assert first.exit_code == 0, first.output
    found = figures(folder / "a.json")
    assert f"1 of {COUNT + 1} pictures in pictures cannot be read" in words(first)
    assert any(one.startswith("1 of 25 pictures") for one in found["warnings"])
    made = found["provenance"]
    assert (made["sample_count"], made["samples"]) == (COUNT, "pictures")
    assert '"scale=1/255", "mean=0.5", "classes=sorted"' in made["settings"]
    (folder / "relusv.toml").write_text(made["settings"], encoding="utf-8")
    again = run(
        "compress",
        "model.onnx",
        "--output",
        "b.onnx",
        "--config",
        "relusv.toml",
        "--json",
        "b.json",
    )
    assert again.exit_code == 0, again.output
    assert (folder / "a.onnx").read_bytes() == (folder / "b.onnx").read_bytes()
    assert figures(folder / "b.json")["provenance"]["settings"] == made["settings"]
    # Other settings are other samples.
    assert run("plan", "model.onnx", "--output", "p.json", *GIVEN, *budget).exit_code == 0
    other = ("--samples", "pictures", "--preprocess", "scale=1/255", "--preprocess", "mean=0.4")
    applied = run("apply", "model.onnx", "p.json", "--output", "c.onnx", *other)
    assert "These are not the samples that the plan was made with" in words(applied)
    same = run("apply", "model.onnx", "p.json", "--output", "d.onnx", *GIVEN)
    assert "not the samples" not in words(same)
    assert (folder / "d.onnx").read_bytes() == (folder / "a.onnx").read_bytes()


def test_compare_says_what_it_could_not_read(folder: Path) -> None:
    found = run("compare", "model.onnx", "model.onnx", *GIVEN, "--json", "a.json")
    assert found.exit_code == 0, found.output
    data = figures(folder / "a.json")
    assert data["evaluation"]["samples"] == COUNT
    assert data["evaluation"]["accuracy_before"] is not None
    assert data["warnings"][0].startswith("1 of 25 pictures in pictures cannot be read")
    assert "warning: 1 of 25 pictures" in words(found)


def test_a_file_of_settings_starts_at_the_folder_of_the_configuration(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "prepared.toml").write_text("scale = '1/255'\nmean = 0.5\n", encoding="utf-8")
    (folder / "relusv.toml").write_text(
        "samples = 'pictures'\npreprocess = ['prepared.toml', 'classes=sorted']\n", encoding="utf-8"
    )
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    model = folder / "model.onnx"
    found = run("inspect", model, "--config", folder / "relusv.toml", "--json", "a.json")
    assert found.exit_code == 0, found.output
    monkeypatch.chdir(folder)
    assert run("inspect", model, *GIVEN, "--json", "b.json").exit_code == 0
    hashes = [
        figures(place / name)["provenance"]["samples_sha256"]
        for place, name in ((elsewhere, "a.json"), (folder, "b.json"))
    ]
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("--samples", "pictures"), 3, "say how they become inputs, as in --preprocess imagenet"),
        (("--samples", "missing", "--preprocess", "imagenet"), 3, "missing: there is no such file"),
        (("--samples", "x.npz", "--preprocess", "imagenet"), 2, "--preprocess is for --samples"),
        (("--preprocess", "imagenet"), 2, "--preprocess is for --samples"),
        (("--samples", "pictures", "--preprocess", "sise=3"), 2, "there is no such setting"),
        (("--samples", "pictures", "--preprocess", "a.toml"), 3, "a.toml: there is no such file"),
        (("--samples", "pictures", "--preprocess", "imagenet"), 3, "the model takes (samples, 3,"),
    ],
)
def test_what_does_not_go(arguments: tuple[str, ...], code: int, text: str, folder: Path) -> None:
    np.savez(folder / "x.npz", x=normal(4, 3, 8, 8))
    found = run("inspect", "model.onnx", *arguments)
    assert (found.exit_code, text in words(found)) == (code, True), found.output


def test_no_picture_is_overwritten(folder: Path) -> None:
    place = "pictures/a/00.png"
    before = (folder / place).read_bytes()
    found = run("compress", "model.onnx", "--output", place, *GIVEN, "--force")
    assert found.exit_code == 2
    assert "lies among the samples of pictures" in words(found)
    assert (folder / place).read_bytes() == before
