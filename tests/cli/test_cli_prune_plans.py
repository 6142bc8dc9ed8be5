"""Plans of removed units: written, read, edited by hand, and carried out."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import Result
from command_line import run, words
from graphs import model_proto, normal

TEXT = (
    "(float[N,40] x) => (float[N,10] y) {"
    " a = Gemm(x, w1) b = Relu(a) c = Gemm(b, w2) d = Relu(c) y = Gemm(d, w3) }"
)
WEIGHTS = {
    "w1": normal(40, 90, scale=0.2),
    "w2": normal(90, 80, scale=0.15),
    "w3": normal(80, 10, scale=0.3),
}
Fields = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("inputs")
    onnx.save(model_proto(TEXT, WEIGHTS), made / "model.onnx")
    np.save(made / "few.npy", normal(60, 40, seed=7))
    # One plan for all tests that edit it.
    result = planned(made, made / "plan.json", "--method", "harmonic")
    assert result.exit_code == 0, result.output
    return made


def planned(folder: Path, plan: Path, *options: object) -> Result:
    return run(
        *("plan", folder / "model.onnx", "--output", plan, "--size", 0.5),
        *("--samples", folder / "few.npy", *options),
    )


def applied(folder: Path, plan: Path, output: Path, *options: object) -> Result:
    return run(
        *("apply", folder / "model.onnx", plan, "--output", output),
        *("--samples", folder / "few.npy", *options),
    )


def edited(folder: Path, tmp_path: Path, edit: Callable[[Fields], None]) -> Result:
    """Carries the plan out after an edit, with a report."""
    data = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    edit(data)
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(data), encoding="utf-8")
    report = ("--report", tmp_path / "report")
    return applied(folder, plan, tmp_path / "small.onnx", *report)


def report(tmp_path: Path) -> Fields:
    text = (tmp_path / "report" / "report.json").read_text(encoding="utf-8")
    data: Fields = json.loads(text)
    return data


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    return {one.name: tuple(one.dims) for one in onnx.load(path).graph.initializer}


@pytest.mark.parametrize("method", ["harmonic", "auto"])
def test_plan_then_apply_equals_compress(method: str, folder: Path, tmp_path: Path) -> None:
    plan, one, two = (tmp_path / name for name in ("plan.json", "one.onnx", "two.onnx"))
    result = planned(folder, plan, "--method", method)
    assert result.exit_code == 0, result.output
    assert "Groups of units" in result.output
    data = json.loads(plan.read_text(encoding="utf-8"))
    assert (data["schema_version"], data["method"]) == (7, method)
    assert [group["key"] for group in data["groups"]] == ["a", "c"]
    assert [curve["key"] for curve in data["group_curves"]] == ["a", "c"]
    result = applied(folder, plan, one)
    assert result.exit_code == 0, result.output
    result = run(
        *("compress", folder / "model.onnx", "--output", two, "--size", 0.5),
        *("--samples", folder / "few.npy", "--method", method),
    )
    assert result.exit_code == 0, result.output
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("kept", [[3], [0, 7, 8, 40, 89], list(range(60))])
def test_units_chosen_by_hand(kept: list[int], folder: Path, tmp_path: Path) -> None:
    def edit(plan: Fields) -> None:
        plan["groups"][0]["kept"] = kept
        plan["budgets"] = {}

    result = edited(folder, tmp_path, edit)
    assert result.exit_code == 0, result.output
    data = report(tmp_path)
    assert data["groups"][0]["kept"] == kept
    first, second, _ = (block["choice"] for block in data["blocks"])
    assert (first["outputs"], second["inputs"]) == (len(kept), len(kept))
    # The units that are left may tell of others too, and still are more like themselves than any.
    weights = onnx.load(tmp_path / "small.onnx").graph.initializer
    stored = [onnx.numpy_helper.to_array(one) for one in weights]
    (first_left,) = (one for one in stored if one.shape == (40, len(kept)))
    lengths = np.linalg.norm(WEIGHTS["w1"], axis=0)
    np.testing.assert_array_equal(np.argmax(first_left.T @ WEIGHTS["w1"] / lengths, axis=1), kept)


def test_a_group_that_the_plan_kept_may_be_cut(folder: Path, tmp_path: Path) -> None:
    def edit(plan: Fields) -> None:
        whole, cut = plan["groups"]
        whole["kept"] = list(range(90))
        cut["kept"] = list(range(0, 80, 4))
        plan["choices"] = []
        plan["budgets"] = {}

    result = edited(folder, tmp_path, edit)
    assert result.exit_code == 0, result.output
    first, second, last = (block["choice"] for block in report(tmp_path)["blocks"])
    assert first["action"] == "keep"
    assert (second["action"], second["outputs"]) == ("prune", 20)
    assert (last["action"], last["inputs"]) == ("prune", 20)
    # Without a fit, what reads the units would have lost them without compensation.
    assert shapes(tmp_path / "small.onnx")["y/weight"] == (20, 10)


def group(**changes: object) -> Callable[[Fields], None]:
    def edit(plan: Fields) -> None:
        plan["groups"][0].update(changes)

    return edit


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (group(key="other"), "the plan cuts other, which is no group of this model"),
        (group(kept=[]), "groups[0], of a: kept is empty; one unit at least has to stay"),
        (group(kept=[0, 90]), "groups[0], of a: kept has 90, but its units are 0 to 89"),
        (group(kept=[5, 4]), "groups[0].kept, of a: 4 stands behind 5"),
        (group(kept=[-1]), "groups[0].kept[0], of a: -1; use a whole number from 0 on"),
        (group(units=91), "but it has 90"),
        (lambda plan: plan["groups"].append(plan["groups"][0]), "group a is listed twice"),
    ],
)
def test_a_wrong_edit_is_an_input_error(
    edit: Callable[[Fields], None], reason: str, folder: Path, tmp_path: Path
) -> None:
    result = edited(folder, tmp_path, edit)
    assert result.exit_code == 3, result.output
    assert reason in words(result)
    assert not (tmp_path / "small.onnx").exists()
