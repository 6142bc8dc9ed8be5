"""--input-range: on the command line, in a file, in a plan and in a report's settings."""

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from command_line import run, words
from graphs import model_proto, normal
from plan_files import GROUPED, refused, written

from onnx_relusv import PlanOptions
from onnx_relusv.core.errors import UsageError
from onnx_relusv.planning.plan_file import plan_text, read_plan

TEXT = "(float[N,100] x) => (float[N,4] y) { h = Gemm(x, w, b) r = Relu(h) y = MatMul(r, v) }"
HARMONIC = "--method harmonic --size 0.85"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model of which units 2 and 5 are zero for inputs from 0 to 1, where commands are run."""
    monkeypatch.chdir(tmp_path)
    weight, bias = np.abs(normal(100, 12)), np.zeros(12, np.float32)
    weight[:, [2, 5]] *= -1
    bias[[2, 5]] = -0.1
    onnx.save(model_proto(TEXT, {"w": weight, "b": bias, "v": normal(12, 4)}), "model.onnx")
    return tmp_path


def report(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        (folder / "report" / "report.json").read_text(encoding="utf-8")
    )
    return found


def test_units_go_by_it(folder: Path) -> None:
    line = f"model.onnx {HARMONIC} --input-range 0 1 --output"
    planned = run("plan", *line.split(), "plan.json")
    assert planned.exit_code == 0, planned.output
    plan = read_plan(Path("plan.json"))
    assert plan.input_range == (0.0, 1.0)
    assert not {2, 5} & set(plan.groups[0].kept)
    assert run("compress", *line.split(), "one.onnx").exit_code == 0
    assert run("apply", "model.onnx", "plan.json", "--output", "two.onnx").exit_code == 0
    assert Path("one.onnx").read_bytes() == Path("two.onnx").read_bytes()
    # Whoever runs the file can see what it was made for.
    (entry,) = onnx.load("one.onnx").metadata_props
    assert json.loads(entry.value)["input_range"] == [0, 1]


def test_a_report_s_settings_repeat_the_run(folder: Path) -> None:
    line = f"compress model.onnx {HARMONIC} --input-range -0.5 1e-3 --report report --output"
    first = run(*line.split(), "one.onnx")
    assert first.exit_code == 0, first.output
    text = report(folder)["provenance"]["settings"]
    assert tomllib.loads(text)["input-range"] == [-0.5, 0.001]
    Path("relusv.toml").write_text(text, encoding="utf-8")
    again = run("compress", "model.onnx", "--output", "two.onnx", "--config", "relusv.toml")
    assert again.exit_code == 0, again.output
    assert Path("one.onnx").read_bytes() == Path("two.onnx").read_bytes()
    # The command line wins.
    line = "compress model.onnx --output other.onnx --config relusv.toml --input-range -1 1"
    other = run(*line.split())
    assert other.exit_code == 0, other.output
    assert Path("other.onnx").read_bytes() != Path("one.onnx").read_bytes()


@pytest.mark.parametrize(
    "value", ["1", "true", "'0 1'", "[0]", "[0, 1, 2]", "[0, true]", "['0', '1']", "[]"]
)
def test_what_a_file_may_not_say(value: str, folder: Path) -> None:
    Path("relusv.toml").write_text(f"input-range = {value}", encoding="utf-8")
    result = run("compress", "model.onnx", "--output", "one.onnx", "--config", "relusv.toml")
    assert result.exit_code == 2
    assert "relusv.toml: input-range = " in words(result)
    assert words(result).endswith("use a list of 2 numbers.")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("1 0 --method harmonic", "--input-range 1 0: use two finite numbers, the lower one first"),
        ("1 1 --method harmonic", "the lower one first"),
        ("0 inf --method harmonic", "--input-range 0 inf: use two finite numbers"),
        ("nan 1 --method harmonic", "use two finite numbers"),
        ("0 1 --method double-layer", "is for units that are removed: use --method harmonic"),
        # Without samples auto makes double layers, which would take no notice of it.
        ("0 1", "is for units that are removed: use --method harmonic"),
        ("0 --method harmonic", "--method"),
    ],
)
def test_ranges_that_are_refused(given: str, message: str, folder: Path) -> None:
    for command in ("plan", "compress"):
        result = run(command, "model.onnx", "--output", "one", "--input-range", *given.split())
        assert result.exit_code == 2
        assert message in words(result)


def test_samples_outside_of_it_are_refused(folder: Path) -> None:
    np.save("samples.npy", 2 * np.ones((5, 100), np.float32))
    line = f"plan model.onnx {HARMONIC} --input-range 0 1 --samples samples.npy --output plan.json"
    result = run(*line.split())
    assert result.exit_code == 3
    assert "samples.npy: input x has the value 2, outside --input-range 0 1." in words(result)


def test_options() -> None:
    for method in ("auto", "harmonic"):
        assert PlanOptions(method=method, input_range=(-1, 2)).input_range == (-1, 2)
    with pytest.raises(UsageError, match="the lower one first"):
        PlanOptions(method="harmonic", input_range=(2, -1))


@pytest.mark.parametrize(
    ("value", "field", "message"),
    [
        ("0 1", "input_range", "use a list of 2 numbers, or null"),
        ([0], "input_range", "use a list of 2 numbers, or null"),
        ([0, 1, 2], "input_range", "use a list of 2 numbers, or null"),
        (1, "input_range", "use a list of 2 numbers, or null"),
        ([1, 0], "input_range", "use increasing numbers"),
        ([0, 0], "input_range", "use increasing numbers"),
        ([0, "1"], "input_range[1]", "use a number"),
        ([False, True], "input_range[0]", "use a number"),
        ([0, 1e400], "input_range[1]", "use a"),
    ],
)
def test_a_plan_with_a_wrong_range(value: object, field: str, message: str, tmp_path: Path) -> None:
    data = {**json.loads(plan_text(GROUPED)), "input_range": value}
    refused(tmp_path, json.dumps(data).replace("Infinity", "1e400"), field, message)


def test_a_plan_without_a_range(tmp_path: Path) -> None:
    data = json.loads(plan_text(GROUPED))
    assert data.pop("input_range") is None
    assert read_plan(written(tmp_path, data)) == GROUPED


@pytest.mark.parametrize("numbers", [(), (1.0,), (0.0, 1.0, 2.0)])
def test_a_range_of_other_than_two_numbers_is_refused(numbers: tuple[float, ...]) -> None:
    options: dict[str, Any] = {"input_range": numbers}
    with pytest.raises(UsageError, match=f"input_range has {len(numbers)} numbers: use two"):
        PlanOptions(method="harmonic", **options)
