"""--method harmonic and auto from the command line: budgets, limits, and which units went."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from command_line import run, words
from onnx import numpy_helper

MODELS = Path(__file__).parents[2] / "models"
LENET = MODELS / "lenet_300_100.onnx"
HARMONIC = ("--method", "harmonic")
AUTO = ("--method", "auto")


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few hundred of the calibration images, so that tests are quick."""
    path = tmp_path_factory.mktemp("samples") / "few.npz"
    with np.load(MODELS / "fashion_calibration.npz") as archive:
        np.savez(path, image=archive["image"][:400])
    return path


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("samples") / "labelled.npz"
    with np.load(MODELS / "fashion_test.npz") as archive:
        np.savez(path, **{name: archive[name][:1000] for name in archive.files})
    return path


def compressed(folder: Path, *options: object) -> dict[str, Any]:
    """The report of a run that has to succeed; its model is small.onnx.

    What is measured of the network is the same in all tests, and measured once.
    """
    result = run(
        *("compress", LENET, "--output", folder / "small.onnx", "--report", folder / "report"),
        *("--cache", folder.parent / "measured"),
        *options,
    )
    assert result.exit_code == 0, result.output
    text = (folder / "report" / "report.json").read_text(encoding="utf-8")
    data: dict[str, Any] = json.loads(text)
    return data


def arrays(path: Path) -> dict[str, np.ndarray]:
    return {one.name: numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer}


def counts(data: dict[str, Any]) -> dict[str, int]:
    """Units that are left, by group."""
    return {group["key"]: len(group["kept"]) for group in data["groups"]}


def test_the_named_units_are_what_is_left(tmp_path: Path, few: Path) -> None:
    data = compressed(tmp_path, *HARMONIC, "--size", 0.25, "--samples", few)
    assert (data["method"], data["allocation"]) == ("harmonic", "damage")
    assert data["shares"]["size"] <= 0.25
    fc1, fc2 = data["groups"]
    assert (fc1["key"], fc1["producers"], fc1["consumers"]) == ("fc1", ["fc1"], ["fc2"])
    assert (fc1["units"], fc2["units"]) == (300, 100)
    assert len(fc1["kept"]) < 300
    # The kept rows of the first layer tell of others too, and still are most like themselves.
    before, after = arrays(LENET), arrays(tmp_path / "small.onnx")
    whole, own = before["fc1_weight"], after["fc1_relu/weight"]
    likeness = own @ (whole / np.linalg.norm(whole, axis=1, keepdims=True)).T
    np.testing.assert_array_equal(np.argmax(likeness, axis=1), fc1["kept"])
    assert np.abs(own - whole[fc1["kept"]]).max() > 1e-3
    rows = {block["key"]: block["choice"] for block in data["blocks"]}
    assert (rows["fc1_relu"]["action"], rows["fc1_relu"]["inputs"]) == ("prune", None)
    left = (len(fc1["kept"]), len(fc2["kept"]))
    assert rows["fc2_relu"]["inputs"] == left[0]
    assert after["fc2_relu/weight"].shape == left[::-1]
    assert data["channel_refusals"] == [
        {"key": "logits", "operator": "Gemm", "reason": "logits is a graph output"}
    ]


def test_without_samples_it_is_fitted_to_synthetic_ones_and_says_that_it_is_blind(
    tmp_path: Path,
) -> None:
    data = compressed(tmp_path, *HARMONIC, "--size", 0.3)
    assert data["allocation"] == "damage"
    assert data["shares"]["size"] <= 0.3
    assert any(one.startswith("No samples: ") for one in data["warnings"])
    assert data["provenance"]["samples"] is None
    # Kept units are refined, so their rows are the original's no more.
    before, after = arrays(LENET), arrays(tmp_path / "small.onnx")
    kept = data["groups"][0]["kept"]
    assert (after["fc1_relu/weight"] != before["fc1_weight"][kept]).any()


def test_without_samples_one_level_can_be_asked_for(tmp_path: Path) -> None:
    data = compressed(tmp_path, *HARMONIC, "--size", 0.3, "--allocation", "level")
    assert (data["allocation"], data["damage"]) == ("level", None)
    assert {group["planned_damage"] for group in data["groups"]} == {None}
    assert all(group["planned_level"] <= data["level"] for group in data["groups"])


def test_macs_are_a_budget(tmp_path: Path, few: Path) -> None:
    data = compressed(tmp_path, *HARMONIC, "--macs", 0.3, "--samples", few)
    assert data["shares"]["macs"] <= 0.3


def test_channels_in_multiples_and_no_fewer_than_asked_for(tmp_path: Path, few: Path) -> None:
    options = (*HARMONIC, "--round-to", 4, "--allocation", "level", "--samples", few)
    kept = counts(compressed(tmp_path, *options, "--size", 0.1))
    assert all(count % 4 == 0 for count in kept.values())
    assert kept["fc2"] < 32
    # 32 of either take a little more.
    options = (*options, "--size", 0.105)
    more = counts(compressed(tmp_path, *options, "--keep-at-least", 32, "--force"))
    assert all(count % 4 == 0 and count >= 32 for count in more.values())
    result = run(
        *("compress", LENET, "--output", tmp_path / "none.onnx", *options, "--keep-at-least", 99)
    )
    assert result.exit_code == 4
    assert "cannot be reached" in result.output
    assert not (tmp_path / "none.onnx").exists()


def test_a_tolerance_limits_every_group(tmp_path: Path, few: Path) -> None:
    data = compressed(tmp_path, *HARMONIC, "--tolerance", 0.2, "--samples", few)
    levels = [group["planned_level"] for group in data["groups"]]
    assert 0 < max(levels) <= 0.2
    result = run(
        *("compress", LENET, "--output", tmp_path / "none.onnx", *HARMONIC, "--tolerance", 1e-6)
    )
    assert result.exit_code == 4


def test_globs_keep_every_group_that_runs_through_a_block(tmp_path: Path, few: Path) -> None:
    options = (*HARMONIC, "--size", 0.5, "--samples", few)
    data = compressed(tmp_path, *options, "--exclude", "logits")
    assert counts(data)["fc1"] < 300
    fc2 = data["groups"][1]
    assert (len(fc2["kept"]), fc2["why"]) == (100, "not in the plan")
    assert data["blocks"][2]["choice"]["action"] == "keep"
    # Its units are what the next block reads, which may not change.
    result = run(
        *("compress", LENET, "--output", tmp_path / "none.onnx", *options, "--include", "fc1*")
    )
    assert result.exit_code == 4
    assert "no units of this model can be removed" in words(result)


def test_a_drop_is_certified(tmp_path: Path, labelled: Path) -> None:
    data = compressed(tmp_path, *HARMONIC, "--max-drop", 4, "--samples", labelled)
    assert data["certificate"]["bound"] <= 4
    assert sum(counts(data).values()) < 400


# With the larger of the two, the plain factors of the first layer are the best that is found.
@pytest.mark.parametrize("size", [0.3, 0.1])
def test_auto_does_both_where_that_is_better(size: float, tmp_path: Path, few: Path) -> None:
    data = compressed(tmp_path, *AUTO, "--size", size, "--samples", few)
    assert data["shares"]["size"] <= size
    kept = counts(data)
    choice = data["blocks"][0]["choice"]
    assert (choice["action"], choice["form"]) == ("double_layer", "pair")
    assert choice["outputs"] == kept["fc1"] < 300
    shapes = {name: one.shape for name, one in arrays(tmp_path / "small.onnx").items()}
    assert shapes["fc1_relu/second_weight"] == (choice["rank"], kept["fc1"])


@pytest.mark.parametrize("method", [HARMONIC, AUTO])
def test_what_the_cache_knows_gives_the_same_file(
    method: tuple[str, str], tmp_path: Path, few: Path
) -> None:
    options = (*method, "--size", 0.2, "--samples", few, "--cache", tmp_path / "kept", "--force")
    compressed(tmp_path, *options)
    first = (tmp_path / "small.onnx").read_bytes()
    compressed(tmp_path, *options)
    assert (tmp_path / "small.onnx").read_bytes() == first


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--method", "svd"), "'svd' is not one of 'auto', 'double-layer', 'harmonic'"),
        (("--round-to", 8), "--round-to is for units that are removed"),
        (("--keep-at-least", 8), "--keep-at-least is for units that are removed"),
        ((*HARMONIC, "--round-to", 0), "0 is not in the range x>=1"),
        ((*HARMONIC, "--keep-at-least", -1), "-1 is not in the range x>=1"),
        ((*AUTO, "--round-to", 8), "--method auto removes units only where damage is measured"),
    ],
)
def test_what_does_not_go_together(
    options: tuple[object, ...], reason: str, tmp_path: Path
) -> None:
    for command in ("plan", "compress"):
        result = run(command, LENET, "--output", tmp_path / "out", *options)
        assert result.exit_code == 2, result.output
        assert reason in words(result)
    assert not any(tmp_path.iterdir())
