import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from command_line import run
from onnx import TensorProto, helper

MODELS = Path(__file__).parents[2] / "models"
LENET = MODELS / "lenet_300_100.onnx"
CALIBRATION = MODELS / "fashion_calibration.npz"
TEST = MODELS / "fashion_test.npz"


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few hundred of the calibration images, so that tests are quick."""
    path = tmp_path_factory.mktemp("samples") / "few.npz"
    with np.load(CALIBRATION) as archive:
        np.savez(path, image=archive["image"][:400])
    return path


def empty(folder: Path) -> bool:
    """Nothing is left in a folder, hidden temporary files included."""
    return not any(folder.iterdir())


def test_compress_writes_a_smaller_valid_file_and_its_report(tmp_path: Path, few: Path) -> None:
    output, report = tmp_path / "small.onnx", tmp_path / "report"
    result = run(
        "compress", LENET, "--output", output, "--size", 0.25, "--samples", few, "--report", report
    )
    assert result.exit_code == 0, result.output
    assert output.stat().st_size <= 0.25 * LENET.stat().st_size
    onnx.checker.check_model(str(output), full_check=True)
    data = json.loads((report / "report.json").read_text(encoding="utf-8"))
    assert data["schema"] == "onnx-relusv/compression"
    assert data["after"]["bytes"] == output.stat().st_size
    assert "<html" in (report / "report.html").read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report", "small.onnx"]


def test_compare_reports_accuracy_with_labels(tmp_path: Path, few: Path) -> None:
    output, figures = tmp_path / "small.onnx", tmp_path / "figures.json"
    assert run("compress", LENET, "--output", output, "--size", 0.5).exit_code == 0
    result = run(
        "compare", LENET, output, "--samples", TEST, "--json", figures, "--report", tmp_path / "r"
    )
    assert result.exit_code == 0, result.output
    evaluation = json.loads(figures.read_text(encoding="utf-8"))["evaluation"]
    assert evaluation["samples"] == 10_000
    # What the model was trained to; measured here from the labels, not copied from its table.
    assert 0.885 <= evaluation["accuracy_before"] <= 0.92
    assert abs(evaluation["accuracy_before"] - evaluation["accuracy_after"]) < 0.01
    assert (tmp_path / "r" / "report.html").exists()
    assert "points" in result.output
    unlabelled = run("compare", LENET, output, "--samples", few)
    assert unlabelled.exit_code == 0
    assert "agreement" in unlabelled.output
    assert "accuracy" not in unlabelled.output


def test_plan_then_apply_equals_compress(tmp_path: Path, few: Path) -> None:
    plan, one, two = (tmp_path / name for name in ("plan.json", "one.onnx", "two.onnx"))
    options = ("--size", 0.3, "--samples", few, "--seed", 3, "--allocation", "level")
    assert run("plan", LENET, "--output", plan, *options).exit_code == 0
    assert run("apply", LENET, plan, "--output", one, "--samples", few).exit_code == 0
    assert run("compress", LENET, "--output", two, *options).exit_code == 0
    assert one.read_bytes() == two.read_bytes()


def test_a_plan_by_damage_has_its_curves(tmp_path: Path, few: Path) -> None:
    plan = tmp_path / "plan.json"
    assert run("plan", LENET, "--output", plan, "--size", 0.3, "--samples", few).exit_code == 0
    data = json.loads(plan.read_text(encoding="utf-8"))
    assert data["allocation"] == "damage"
    assert {curve["key"] for curve in data["curves"]} == {"fc1_relu", "fc2_relu", "logits"}


def test_the_allocation_can_be_chosen(tmp_path: Path, few: Path) -> None:
    plan = tmp_path / "plan.json"
    by_level = ("--size", 0.3, "--samples", few, "--allocation", "level")
    assert run("plan", LENET, "--output", plan, *by_level).exit_code == 0
    data = json.loads(plan.read_text(encoding="utf-8"))
    assert (data["allocation"], data["damage"], data["curves"]) == ("level", None, [])
    for options, reason in (
        (("--allocation", "damage"), "needs a --size"),
        (("--allocation", "damage", "--size", 0.3), "needs --samples"),
        (("--allocation", "thrift", "--size", 0.3), "thrift"),
    ):
        result = run("plan", LENET, "--output", plan, "--force", *options)
        assert result.exit_code == 2
        assert reason in " ".join(result.output.split())
    assert json.loads(plan.read_text(encoding="utf-8")) == data


def test_an_edited_plan_is_carried_out(tmp_path: Path) -> None:
    plan, output = tmp_path / "plan.json", tmp_path / "small.onnx"
    assert run("plan", LENET, "--output", plan, "--tolerance", 0.2).exit_code == 0
    data = json.loads(plan.read_text(encoding="utf-8"))
    changed = next(choice for choice in data["choices"] if choice["key"] == "fc1_relu")
    changed["rank"] = 17
    plan.write_text(json.dumps(data), encoding="utf-8")
    assert run("apply", LENET, plan, "--output", output).exit_code == 0
    shapes = {tensor.name: tuple(tensor.dims) for tensor in onnx.load(output).graph.initializer}
    assert shapes["fc1_relu/first_weight"] == (784, 17)


def test_a_plan_is_refused_for_another_model(tmp_path: Path) -> None:
    plan, output = tmp_path / "plan.json", tmp_path / "small.onnx"
    assert run("plan", LENET, "--output", plan, "--size", 0.5).exit_code == 0
    result = run("apply", MODELS / "fashion_mlp.onnx", plan, "--output", output)
    assert result.exit_code == 3
    assert "another model" in result.output
    assert not output.exists()


def test_other_samples_than_the_plans_give_a_warning(tmp_path: Path, few: Path) -> None:
    plan, output, other = tmp_path / "plan.json", tmp_path / "small.onnx", tmp_path / "other.npz"
    with np.load(few) as archive:
        np.savez(other, image=archive["image"][::-1])
    assert run("plan", LENET, "--output", plan, "--size", 0.5, "--samples", few).exit_code == 0
    result = run("apply", LENET, plan, "--output", output, "--samples", other)
    assert result.exit_code == 0
    assert "not the samples" in " ".join(result.output.split())
    same = run("apply", LENET, plan, "--output", output, "--samples", few, "--force")
    assert "not the samples" not in " ".join(same.output.split())


def test_inspect_writes_its_figures(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    result = run("inspect", LENET, "--json", figures)
    assert result.exit_code == 0
    blocks = json.loads(figures.read_text(encoding="utf-8"))["blocks"]
    assert [block["key"] for block in blocks] == ["fc1_relu", "fc2_relu", "logits"]
    assert "fc1_relu" in result.output


def test_include_and_exclude_name_the_blocks_that_may_change(tmp_path: Path) -> None:
    output = tmp_path / "small.onnx"
    options = ("--tolerance", 0.3, "--include", "fc*", "--exclude", "fc1*", "--force")
    assert run("compress", LENET, "--output", output, *options).exit_code == 0
    names = {tensor.name for tensor in onnx.load(output).graph.initializer}
    assert "fc2_relu/first_weight" in names
    assert "fc1_relu/first_weight" not in names


@pytest.mark.parametrize(
    "option", [("--size", 0), ("--size", 1.5), ("--macs", -1), ("--tolerance", 1), ("--seed", -1)]
)
def test_settings_out_of_range_are_a_usage_error(tmp_path: Path, option: tuple[str, float]) -> None:
    result = run("compress", LENET, "--output", tmp_path / "small.onnx", *option)
    assert result.exit_code == 2
    assert empty(tmp_path)


def test_an_existing_output_needs_force(tmp_path: Path) -> None:
    output = tmp_path / "small.onnx"
    output.write_text("precious", encoding="utf-8")
    assert run("compress", LENET, "--output", output, "--size", 0.5).exit_code == 2
    assert output.read_text(encoding="utf-8") == "precious"
    assert run("compress", LENET, "--output", output, "--size", 0.5, "--force").exit_code == 0
    onnx.checker.check_model(str(output))


def test_the_original_is_never_overwritten(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(LENET.read_bytes())
    result = run("compress", model, "--output", model, "--size", 0.5, "--force")
    assert result.exit_code == 2
    assert model.read_bytes() == LENET.read_bytes()


def test_an_output_that_cannot_be_written_is_a_usage_error(tmp_path: Path) -> None:
    assert run("compress", LENET, "--output", tmp_path / "no" / "x.onnx").exit_code == 2
    assert run("compress", LENET, "--output", tmp_path).exit_code == 2
    blocked = tmp_path / "file"
    blocked.write_text("", encoding="utf-8")
    output = tmp_path / "x.onnx"
    assert run("compress", LENET, "--output", output, "--report", blocked).exit_code == 2
    assert not output.exists()


def test_an_unreachable_budget_says_how_far_it_got(tmp_path: Path) -> None:
    result = run("compress", LENET, "--output", tmp_path / "small.onnx", "--size", 0.0005)
    assert result.exit_code == 4
    assert "of the MACs are left. Nothing was written." in " ".join(result.output.split())
    limited = run(
        "compress", LENET, "--output", tmp_path / "x.onnx", "--size", 0.2, "--tolerance", 0.01
    )
    assert limited.exit_code == 4
    assert empty(tmp_path)


def test_a_tolerance_at_which_nothing_shrinks_is_a_budget_error(tmp_path: Path) -> None:
    result = run("compress", LENET, "--output", tmp_path / "small.onnx", "--tolerance", 1e-4)
    assert result.exit_code == 4
    assert empty(tmp_path)


def write_model(path: Path, nodes: list[onnx.NodeProto]) -> Path:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:])
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def test_a_model_without_blocks_is_a_budget_error(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.onnx", [helper.make_node("Relu", ["x"], ["y"])])
    result = run("compress", model, "--output", tmp_path / "small.onnx", "--size", 0.5)
    assert result.exit_code == 4
    assert "no block" in result.output
    assert not (tmp_path / "small.onnx").exists()
    assert run("inspect", model).exit_code == 0


@pytest.mark.parametrize("damage", ["missing", "truncated", "text", "empty file", "empty graph"])
def test_a_model_that_cannot_be_read_is_an_input_error(tmp_path: Path, damage: str) -> None:
    model = tmp_path / "model.onnx"
    if damage == "truncated":
        model.write_bytes(LENET.read_bytes()[:500_000])
    elif damage == "text":
        model.write_text("this is no model", encoding="utf-8")
    elif damage == "empty file":
        model.write_bytes(b"")
    elif damage == "empty graph":
        write_model(model, [])
    for command in (("compress", model, "--output", tmp_path / "x.onnx"), ("inspect", model)):
        result = run(*command)
        assert result.exit_code == 3, result.output
        assert "model.onnx" in result.output
    assert not (tmp_path / "x.onnx").exists()


@pytest.mark.parametrize("damage", ["name", "shape", "nan", "zero rows", "missing", "text"])
def test_samples_that_do_not_fit_are_an_input_error(tmp_path: Path, damage: str) -> None:
    samples = tmp_path / "samples.npz"
    images = np.zeros((4, 1, 28, 28), np.float32)
    if damage == "name":
        np.savez(samples, picture=images)
    elif damage == "shape":
        np.savez(samples, image=images[:, 0])
    elif damage == "nan":
        np.savez(samples, image=np.full_like(images, np.nan))
    elif damage == "zero rows":
        np.savez(samples, image=images[:0])
    elif damage == "text":
        samples.write_text("no archive", encoding="utf-8")
    output = tmp_path / "x.onnx"
    result = run("compress", LENET, "--output", output, "--size", 0.5, "--samples", samples)
    assert result.exit_code == 3, result.output
    assert "samples" in result.output
    assert not output.exists()


@pytest.mark.skipif(os.name != "posix", reason="sends a signal to another process")
def test_a_run_that_is_told_to_end_leaves_nothing_behind(tmp_path: Path) -> None:
    output, temporary = tmp_path / "small.onnx", tmp_path / "temporary"
    output.write_text("precious", encoding="utf-8")
    temporary.mkdir()
    vgg = MODELS / "fashion_vgg.onnx"
    command = ["compress", vgg, "--output", output, "--size", 0.25, "--samples", CALIBRATION]
    process = subprocess.Popen(
        [sys.executable, "-m", "onnx_relusv", *map(str, command), "--force"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    # Long after the start and long before the end.
    assert process.stderr is not None
    assert any(line.startswith("Moments of") for line in process.stderr)
    process.send_signal(signal.SIGTERM)
    _, message = process.communicate(timeout=120)
    assert process.returncode == 143
    assert "interrupted; nothing was written" in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small.onnx", "temporary"]
    assert not any(temporary.glob("onnx-relusv-*"))
    assert output.read_text(encoding="utf-8") == "precious"


def test_every_command_has_help() -> None:
    for command in ("inspect", "plan", "apply", "compress", "compare"):
        result = run(command, "--help")
        assert result.exit_code == 0
        assert "Usage" in result.output
    assert run("--help").exit_code == 0
    assert run("nonsense").exit_code == 2
