"""Files in half precision, as a user makes them: what they are, and what stays float32."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from command_line import run as command
from graphs import model_proto, normal
from integer_networks import (
    ARRAYS,
    BLOCKS,
    TEXT,
    compressed,
    network,
    relative_change,
    samples,
)
from onnx import TensorProto

from onnx_relusv import (
    ApplyOptions,
    Budgets,
    MeasureOptions,
    PlanOptions,
    SweepOptions,
    apply,
    compare,
    compress,
    inspect,
    plan,
    sweep,
)
from onnx_relusv.core.errors import InputError, UsageError
from onnx_relusv.core.results import Compression
from onnx_relusv.planning.plan_file import plan_text, read_plan

MEASURING = MeasureOptions(provider="cpu")
FP16 = PlanOptions(precision="fp16")
SMALL = PlanOptions(precision="fp16", budgets=Budgets(size=0.25))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("halves")
    samples(made, network(made))
    return made


@pytest.fixture(scope="module")
def formats_alone(folder: Path) -> Compression:
    return compressed(folder, "half", FP16)


@pytest.fixture(scope="module")
def small(folder: Path) -> Compression:
    return compressed(folder, "small", SMALL)


def test_without_a_budget_numbers_alone_change(formats_alone: Compression, folder: Path) -> None:
    choices = [row.choice for row in formats_alone.rows if row.choice]
    assert [choice.precision for choice in choices] == ["fp16"] * len(BLOCKS)
    assert {choice.action for choice in choices} == {"keep"}
    # Half, and what names, nodes and the entry on where it comes from take.
    assert 0.5 < formats_alone.after.bytes / formats_alone.before.bytes < 0.52
    # Roundings to 11 bits, of weights and of what every layer gives.
    assert relative_change(folder / "network.onnx", folder / "half.onnx") < 4e-3
    proto = onnx.load(folder / "half.onnx")
    assert {one.data_type for one in proto.graph.initializer} == {TensorProto.FLOAT16}
    before = onnx.load(folder / "network.onnx").graph
    assert list(before.input) == list(proto.graph.input)
    assert list(before.output) == list(proto.graph.output)


def test_what_is_checked_and_said(formats_alone: Compression, folder: Path) -> None:
    said = {check.name: check.detail for check in formats_alone.verdict.checks}
    assert "all of them in half precision" in said["half precision"]
    assert "within" in said["half precision runs"]
    data = json.loads((folder / "half_report" / "report.json").read_text(encoding="utf-8"))
    assert data["precision"] == "fp16"
    assert {row["choice"]["precision"] for row in data["blocks"]} == {"fp16"}
    spared = sum(row["cost_before"]["bytes"] - row["cost_after"]["bytes"] for row in data["blocks"])
    saved = formats_alone.before.bytes - formats_alone.after.bytes
    assert abs(spared - saved) < 0.02 * formats_alone.before.bytes


def test_a_budget_counts_the_bytes_of_the_file_in_half_precision(
    small: Compression, folder: Path
) -> None:
    share = small.after.bytes / small.before.bytes
    # All of it is used but for a hundredth.
    assert 0.24 <= share <= 0.25
    assert small.plan.size == pytest.approx(share, abs=1e-9)
    choices = [row.choice for row in small.rows if row.choice]
    assert any(choice.is_double_layer for choice in choices)
    assert all(choice.is_fp16 for choice in choices)


def test_a_budget_of_half_takes_no_more_than_one_of_all_in_float32(
    small: Compression, folder: Path
) -> None:
    """At a quarter of the bytes there are twice as many numbers as float32 has there."""
    full = compressed(folder, "full", PlanOptions(budgets=Budgets(size=0.25)))
    assert small.after.parameters > 1.8 * full.after.parameters
    first, second = (
        relative_change(folder / "network.onnx", folder / f"{name}.onnx")
        for name in ("small", "full")
    )
    assert first < second


def test_a_plan_that_is_applied_makes_the_same_file(small: Compression, folder: Path) -> None:
    decided = plan(
        folder / "network.onnx", samples=folder / "s.npz", planning=SMALL, measuring=MEASURING
    )
    path = folder / "plan.json"
    path.write_text(plan_text(decided), encoding="utf-8")
    assert read_plan(path).uses_fp16
    apply(
        folder / "network.onnx",
        path,
        folder / "applied.onnx",
        samples=folder / "s.npz",
        measuring=ApplyOptions(provider="cpu"),
    )
    assert (folder / "applied.onnx").read_bytes() == small.after.path.read_bytes()


def test_a_plan_whose_precisions_differ_is_refused(folder: Path) -> None:
    decided = plan(folder / "network.onnx", planning=FP16, measuring=MEASURING)
    data = json.loads(plan_text(decided))
    data["precision"] = "keep"
    path = folder / "edited.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(InputError, match="is fp16, and the plan is keep"):
        read_plan(path)


def test_excluded_blocks_stay_float32(folder: Path) -> None:
    found = compressed(folder, "excluded", PlanOptions(precision="fp16", exclude=("m",)))
    kept = [row.choice.key for row in found.rows if row.choice and not row.choice.is_fp16]
    assert kept == ["m"]
    proto = onnx.load(folder / "excluded.onnx")
    kinds = {one.name: one.data_type for one in proto.graph.initializer}
    assert {name for name, kind in kinds.items() if kind == TensorProto.FLOAT} == {"k1", "b1"}


def test_without_samples_the_inputs_are_synthetic_and_that_is_said(folder: Path) -> None:
    found = compressed(folder, "blind", FP16, sampled=False)
    assert any("looked for on synthetic inputs" in warning for warning in found.warnings)
    assert (folder / "blind.onnx").stat().st_size == (folder / "half.onnx").stat().st_size - 62


def test_what_reaches_too_far_stays_float32(tmp_path: Path) -> None:
    """The second block gives numbers beyond 65504, and the third takes them back."""
    arrays = {**ARRAYS, "k1": 300 * ARRAYS["k1"], "b1": 300 * ARRAYS["b1"]}
    arrays |= {"k2": 1000 * ARRAYS["k2"], "k3": ARRAYS["k3"] / 3e5}
    onnx.save(model_proto(TEXT, arrays), tmp_path / "network.onnx")
    samples(tmp_path, tmp_path / "network.onnx")
    found = compressed(tmp_path, "half", FP16)
    said = next(one.detail for one in found.verdict.checks if one.name == "half precision")
    assert "on samples" in said
    assert "d reaches" in said
    assert relative_change(tmp_path / "network.onnx", tmp_path / "half.onnx") < 4e-3
    # Weights are stored in half precision all the same, where these are within its range.
    kinds = {one.name: one.data_type for one in onnx.load(tmp_path / "half.onnx").graph.initializer}
    assert kinds["k2"] == TensorProto.FLOAT16
    assert kinds["k3"] == TensorProto.FLOAT


def test_a_largest_drop_is_certified_of_the_file_in_half_precision(folder: Path) -> None:
    samples(folder, folder / "network.onnx", count=300, name="many")
    found = compress(
        folder / "network.onnx",
        folder / "certified.onnx",
        samples=folder / "many.npz",
        planning=PlanOptions(
            precision="fp16",
            method="double-layer",
            include=("h",),
            budgets=Budgets(max_drop=30, size=0.9),
        ),
        measuring=MEASURING,
    )
    assert found.bound is not None
    assert found.bound.bound <= 30
    (choice,) = (row.choice for row in found.rows if row.choice and row.choice.is_fp16)
    assert choice.key == "h"
    # What the search tried were files in half precision: their sizes are those of such files, but
    # for the digits of the size that was tried.
    assert found.plan.size == pytest.approx(found.after.bytes / found.before.bytes, abs=1e-3)


def test_external_data_is_halved(tmp_path: Path) -> None:
    proto = model_proto(TEXT, ARRAYS)
    onnx.save(
        proto,
        tmp_path / "network.onnx",
        save_as_external_data=True,
        location="network.data",
        size_threshold=1024,
    )
    target = tmp_path / "out" / "half.onnx"
    target.parent.mkdir()
    found = compress(tmp_path / "network.onnx", target, planning=FP16, measuring=MEASURING)
    (data,) = target.parent.glob("half.onnx.*.data")
    before = (tmp_path / "network.data").stat().st_size
    assert before / 2 <= data.stat().st_size < before / 2 + 64
    assert found.after.bytes < 0.55 * found.before.bytes
    assert relative_change(tmp_path / "network.onnx", target) < 4e-3


def test_a_sweep_with_half_precision(folder: Path) -> None:
    samples(folder, folder / "network.onnx", count=60, seed=5, name="t")
    found = sweep(
        folder / "network.onnx",
        samples=folder / "s.npz",
        test=folder / "t.npz",
        sweeping=SweepOptions(sizes=(0.75,), methods=("fp16",)),
        measuring=MEASURING,
    )
    (point,) = found.points
    # Ranks stay where the budget leaves enough for all.
    assert point.after.bytes < 0.52 * point.before.bytes
    assert "--precision fp16" in point.command


def test_it_is_read_by_compare_and_inspect(formats_alone: Compression, folder: Path) -> None:
    found = compare(
        folder / "network.onnx",
        folder / "half.onnx",
        samples=folder / "s.npz",
        measuring=MEASURING,
    )
    assert found.evaluation.agreement is not None
    assert found.evaluation.agreement > 0.98
    rows = inspect(folder / "half.onnx", measuring=MEASURING).rows
    assert len(rows) == len(BLOCKS)
    assert {row.block.weight_type for row in rows} == {TensorProto.FLOAT16}


def test_a_file_in_half_precision_is_refused(formats_alone: Compression, folder: Path) -> None:
    with pytest.raises(InputError, match="could be stored in half precision"):
        compress(folder / "half.onnx", folder / "again.onnx", planning=FP16, measuring=MEASURING)
    assert not (folder / "again.onnx").exists()


def test_doubles_are_refused(tmp_path: Path) -> None:
    text = "(double[N,6] x) => (double[N,4] y) { a = MatMul(x, u) y = Relu(a) }"
    proto = model_proto(text, {"u": normal(6, 4).astype(np.float64)})
    onnx.save(proto, tmp_path / "doubles.onnx")
    output = str(tmp_path / "half.onnx")
    ended = command(
        "compress", str(tmp_path / "doubles.onnx"), "--output", output, "--precision", "fp16"
    )
    assert ended.exit_code == 3
    assert "no weights of its are float32" in " ".join(ended.output.split())


def test_latency_is_refused() -> None:
    with pytest.raises(UsageError, match="--latency does not go with --precision fp16"):
        PlanOptions(precision="fp16", budgets=Budgets(latency=0.5))
