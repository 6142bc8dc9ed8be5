"""--input-shape: read, checked against a model's inputs, and taken by every command."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from command_line import run, words
from graphs import model_proto, normal

from onnx_relusv import (
    ApplyOptions,
    Budgets,
    MeasureOptions,
    PlanOptions,
    apply,
    inspect,
    plan,
)
from onnx_relusv.core.arguments import parsed_shape
from onnx_relusv.core.blocks import InputSpec
from onnx_relusv.core.errors import InputError, UsageError
from onnx_relusv.measuring.ready import with_requested
from onnx_relusv.planning.plan_file import plan_text, read_plan

FLOAT = np.dtype(np.float32)
INPUTS = (
    InputSpec("x:0", FLOAT, (None, 3, None), named=("n", None, "t")),
    InputSpec("state", FLOAT, (2, None), named=(None, "n")),
    InputSpec("any", FLOAT, (), has_rank=False),
)
TEXT = "(float[n,3,t] x) => (float[n,4,t] y) { c = Conv<pads=[1,1]>(x, v) y = Relu(c) }"


def test_the_form() -> None:
    for text, expected in (
        ("x=1x80x200", ("x", (1, 80, 200))),
        ("a=b=7", ("a=b", (7,))),
        ("rate=scalar", ("rate", ())),
    ):
        assert parsed_shape(text) == expected


def test_other_forms_are_refused_when_the_options_are_made() -> None:
    for text in ("x", "x=", "=1x2", "x=1,2", "x=1x-2", "x=1x?", "x=0x3", "x=1xx2"):
        with pytest.raises(UsageError, match=r"--input-shape"):
            MeasureOptions(input_shape=(text,))


def test_shapes_that_fit() -> None:
    found = with_requested(INPUTS, ["x:0=4x3x50", "any=2x2"])
    assert [spec.requested for spec in found] == [(4, 3, 50), None, (2, 2)]
    assert [spec.shape for spec in found] == [spec.shape for spec in INPUTS]


def test_shapes_that_do_not() -> None:
    for texts in (
        ["z=1"],
        ["x:0=1x3"],
        ["x:0=1x4x50"],
        ["x:0=1x3x50", "x:0=1x3x50"],
        # The axis n is in both.
        ["x:0=1x3x50", "state=2x5"],
    ):
        with pytest.raises(UsageError, match=r"inputs are x:0 \?x3x\?, state 2x\?|give one"):
            with_requested(INPUTS, texts)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m.onnx"
    onnx.save(model_proto(TEXT, {"v": normal(4, 3, 3)}), path)
    return path


def test_macs_are_those_of_the_shape(model: Path) -> None:
    macs = {
        text: inspect(model, measuring=MeasureOptions(input_shape=text)).model.macs
        for text in ((), ("x=1x3x50",), ("x=5x3x50",))
    }
    assert list(macs.values()) == [4 * 3 * 3 * 224, 4 * 3 * 3 * 50, 4 * 3 * 3 * 50]


def test_on_the_command_line_and_from_a_file(model: Path, tmp_path: Path) -> None:
    shape = ("--input-shape", "x=1x3x50")
    report = tmp_path / "report"
    assert run("inspect", model, *shape, "--report", report).exit_code == 0
    assert "input-shape = [" in (report / "report.html").read_text()
    output = tmp_path / "o.onnx"
    assert run("plan", model, "--output", tmp_path / "p.json", "--size", 0.9, *shape).exit_code in (
        0,
        4,
    )
    wrong = run("compress", model, "--output", output, "--input-shape", "x=1x7x50")
    assert wrong.exit_code == 2
    assert "its inputs are x ?x3x?" in words(wrong)
    config = tmp_path / "relusv.toml"
    config.write_text('input-shape = ["x=1x9"]\n')
    assert run("inspect", model, "--config", config).exit_code == 2
    config.write_text('input-shape = ["x=1x3x50"]\n')
    assert run("inspect", model, "--config", config).exit_code == 0


def test_a_plan_knows_its_shapes(tmp_path: Path) -> None:
    path, file, output = (tmp_path / name for name in ("m.onnx", "plan.json", "small.onnx"))
    text = TEXT.replace("[n,3,t]", "[n,32,t]").replace("[n,4,t]", "[n,32,t]")
    onnx.save(model_proto(text, {"v": normal(32, 32, 3)}), path)
    made = plan(
        path,
        planning=PlanOptions(budgets=Budgets(macs=0.8)),
        measuring=MeasureOptions(input_shape=("x=1x32x50",)),
        output=file,
    )
    assert read_plan(file) == made
    assert "input_shape" not in plan_text(replace(made, input_shape=()))
    for options, length in (
        (None, 50),
        (ApplyOptions(input_shape=("x=1x32x60",)), 60),
    ):
        done = apply(path, file, output, measuring=options, force=True)
        assert done.before.macs == 32 * 32 * 3 * length
        assert done.provenance.settings["input-shape"] == [f"x=1x32x{length}"]
    edited = file.read_text(encoding="utf-8").replace("x=1x32x50", "x=1x32x-1")
    file.write_text(edited, encoding="utf-8")
    with pytest.raises(InputError, match=r"plan\.json: input_shape: --input-shape x=1x32x-1"):
        read_plan(file)
