"""The judge of refactorings: what two revisions have made differs where it does, and only there."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from graphs import model_proto

SCRIPTS = Path(__file__).parents[2] / "scripts"
RESULT = {
    "version": "0.1.0",
    "assessment": {"conclusion": "97 % stay; it takes 0.96 of the time.", "seconds": 1.5},
    "points": [{"latencies": [{"before": 1e-5}], "size": 0.5}],
    "warnings": ["few samples", "Smaller, but slower by themselves at batch 1: y."],
}


@pytest.fixture(scope="module", autouse=True)
def _scripts_on_the_path() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS / "same_results"))
        yield


def _part(name: str) -> ModuleType:
    return importlib.import_module(name)


def made(folder: Path, result: object, scale: float = 1.0, version: str = "0.1.0") -> Path:
    folder.mkdir()
    weight = scale * np.arange(6, dtype=np.float32).reshape(2, 3)
    proto = model_proto("(float[N, 2] x) => (float[N, 3] y) { y = MatMul(x, w) }", {"w": weight})
    proto.metadata_props.add(key="onnx_relusv", value=json.dumps({"version": version, "level": 1}))
    onnx.save(proto, folder / "small.onnx")
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "command_0.txt").write_text("exit code 0\n")
    return folder


def test_versions_and_times_are_no_difference(tmp_path: Path) -> None:
    other = json.loads(json.dumps(RESULT))
    other["version"] = "0.2.0"
    other["assessment"] = {"conclusion": "97 % stay; it takes as long.", "seconds": 9.0}
    other["points"][0]["latencies"] = []
    other["warnings"] = ["few samples"]
    old, new = made(tmp_path / "old", RESULT), made(tmp_path / "new", other, version="0.2.0")
    assert list(_part("differences").differences(old, new)) == []


def _conclusion(result: dict[str, dict[str, object]]) -> None:
    result["assessment"]["conclusion"] = "96 % stay; it takes 0.96 of the time."


def _size(result: dict[str, list[dict[str, object]]]) -> None:
    result["points"][0]["size"] = 0.5000000001


def _warning(result: dict[str, list[str]]) -> None:
    result["warnings"].append("another")


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (_conclusion, "result.json: assessment.conclusion"),
        (_size, "result.json: points[0].size"),
        (_warning, "result.json: warnings"),
        (lambda result: result.pop("points"), "result.json: points: only in the old one"),
    ],
)
def test_other_figures_are_found(
    tmp_path: Path, change: Callable[[object], object], place: str
) -> None:
    other = json.loads(json.dumps(RESULT))
    change(other)
    old, new = made(tmp_path / "old", RESULT), made(tmp_path / "new", other)
    (found,) = _part("differences").differences(old, new)
    assert found.startswith(place)


def test_other_weights_and_missing_files_are_found(tmp_path: Path) -> None:
    old, new = made(tmp_path / "old", RESULT), made(tmp_path / "new", RESULT, scale=1 + 1e-6)
    assert list(_part("differences").differences(old, new)) == ["small.onnx: other bytes"]
    (new / "result.json").unlink()
    (new / "command_0.txt").write_text("exit code 4\n")
    assert list(_part("differences").differences(old, new)) == [
        "command_0.txt: other bytes",
        "result.json: only in the old one",
        "small.onnx: other bytes",
    ]


@pytest.mark.parametrize("size", ["quick", "whole"])
def test_cases_have_names_of_their_own_and_models_that_are_there(size: str) -> None:
    cases = _part("cases")
    found = list(getattr(cases, size)())
    assert len({case.name for case in found}) == len(found)
    for case in found:
        for command in case.commands:
            assert (SCRIPTS.parent / command[1]).exists()
            assert case.name.startswith((command[0], "plan_apply"))
