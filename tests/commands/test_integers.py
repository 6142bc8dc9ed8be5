"""Files with 8-bit integers, as a user makes them: what they are, and what is left alone."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from command_line import run as command
from graphs import model_proto, normal
from integer_networks import (
    ARRAYS,
    BLOCKS,
    WIDTH,
    compressed,
    depthwise_network,
    images,
    network,
    relative_change,
    samples,
)
from onnxruntime.quantization import quantize_dynamic

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
from onnx_relusv.graph.model import read_model, with_opset
from onnx_relusv.planning.plan_file import plan_text, read_plan

MEASURING = MeasureOptions(provider="cpu")
INT8 = PlanOptions(precision="int8")
# Nothing looks at time, which takes long, and by which of plans that do as little damage the
# quickest may leave some of the bytes.
SMALL = PlanOptions(precision="int8", budgets=Budgets(size=0.17), round_to=1)
SYMMETRIC = PlanOptions(precision="int8", int8_format="s8s8", budgets=Budgets(size=0.25))


def optimised_operators(path: Path, folder: Path) -> Counter[str]:
    """What onnxruntime runs of a file once it has optimised it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    graph = onnx.load(folder / "optimised.onnx").graph
    return Counter(node.op_type for node in graph.node)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("integers")
    samples(made, network(made))
    return made


@pytest.fixture(scope="module")
def depthwise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("depthwise")
    samples(made, depthwise_network(made))
    return made


@pytest.fixture(scope="module")
def formats_alone(folder: Path) -> Compression:
    return compressed(folder, "int8", INT8)


@pytest.fixture(scope="module")
def small(folder: Path) -> Compression:
    return compressed(folder, "small", SMALL)


@pytest.fixture(scope="module")
def symmetric(folder: Path) -> Compression:
    return compressed(folder, "s8s8", SYMMETRIC)


def test_without_a_budget_numbers_alone_change(formats_alone: Compression, folder: Path) -> None:
    assert [row.choice.precision for row in formats_alone.rows if row.choice] == ["int8"] * 6
    assert {row.choice.action for row in formats_alone.rows if row.choice} == {"refit"}
    # A quarter, and what scales and nodes take of so small a file.
    assert formats_alone.after.bytes < 0.36 * formats_alone.before.bytes
    assert relative_change(folder / "network.onnx", folder / "int8.onnx") < 0.03


def test_onnxruntime_runs_it_on_integers(formats_alone: Compression, folder: Path) -> None:
    found = optimised_operators(formats_alone.after.path, folder)
    assert found["QLinearConv"] == 4
    assert found["QLinearAdd"] == found["QLinearGlobalAveragePool"] == found["QGemm"] == 1
    # Only the last layer, behind which there are floats, is one of floats.
    assert found["Conv"] + found["FusedConv"] == 0
    assert found["Gemm"] + found["FusedGemm"] + found["QGemm"] == 2


def test_of_symmetric_integers_a_cpu_runs_what_no_relu_follows(
    symmetric: Compression, folder: Path
) -> None:
    proto = onnx.load(symmetric.after.path)
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    (name,) = {node.input[2] for node in proto.graph.node if node.op_type == "QuantizeLinear"}
    assert (stored[name].dtype, stored[name].shape, int(stored[name])) == (np.int8, (), 0)
    found = optimised_operators(symmetric.after.path, folder)
    # A Relu goes with a layer where its integers begin at 0, which only unsigned ones do.
    assert found["QLinearConv"] >= 1
    assert found["QLinearGlobalAveragePool"] == 1
    assert found["FusedConv"] == 3
    assert relative_change(folder / "network.onnx", symmetric.after.path) < 0.2


def test_a_plan_names_its_format_and_apply_keeps_to_it(
    symmetric: Compression, folder: Path, tmp_path: Path
) -> None:
    decided = plan(
        folder / "network.onnx", samples=folder / "s.npz", planning=SYMMETRIC, measuring=MEASURING
    )
    data = json.loads(plan_text(decided))
    assert data["int8_format"] == "s8s8"

    def applied(name: str) -> Path:
        path, output = tmp_path / f"{name}.json", tmp_path / f"{name}.onnx"
        path.write_text(json.dumps(data), encoding="utf-8")
        apply(folder / "network.onnx", path, output, samples=folder / "s.npz")
        return output

    assert applied("same").read_bytes() == symmetric.after.path.read_bytes()
    data["int8_format"] = "u8s8"
    types = {t.data_type for t in onnx.load(applied("edited")).graph.initializer}
    assert onnx.TensorProto.UINT8 in types
    report = json.loads((folder / "s8s8_report" / "report.json").read_text(encoding="utf-8"))
    assert report["int8_format"] == "s8s8"


def test_rounding_and_ranges_are_those_of_the_plan(folder: Path, tmp_path: Path) -> None:
    decided = plan(
        folder / "network.onnx", samples=folder / "s.npz", planning=INT8, measuring=MEASURING
    )
    data = json.loads(plan_text(decided))
    assert {choice["rounding"] for choice in data["choices"]} == {"error_feedback"}
    assert data["int8_ranges"] == "least_squared_error"
    for choice in data["choices"]:
        choice["rounding"] = "nearest"
    data["int8_ranges"] = "min_max"
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    apply(folder / "network.onnx", path, tmp_path / "out.onnx", samples=folder / "s.npz")
    # The scale of what the first layer reads, by hand.
    graph = onnx.load(tmp_path / "out.onnx").graph
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    first = next(node for node in graph.node if node.op_type == "QuantizeLinear")
    x = np.load(folder / "s.npz")["x"]
    reach = float(x.max()) - float(x.min())
    assert first.input[0] == "x"
    # Of the samples, four fifths are for fitting.
    assert 0.9 * reach < 255 * float(stored[first.input[1]]) <= reach * (1 + 1e-6)


def test_where_no_covariance_is_numbers_are_rounded_to_the_nearest(tmp_path: Path) -> None:
    """Random whole numbers tell nothing, so the inputs' covariance stays unknown."""
    text = (
        "(int64[N,8] x) => (float[N,4] y) { f = Cast<to=1>(x) a = Gemm(f, w, v) b = Relu(a)"
        " y = Gemm(b, u) }"
    )
    arrays = {"w": normal(8, 64), "v": normal(64, seed=1), "u": normal(64, 4, seed=2)}
    model = tmp_path / "whole.onnx"
    onnx.save(model_proto(text, arrays), model)
    decided = plan(model, planning=INT8, measuring=MEASURING)
    chosen = {choice.key: choice.rounding for choice in decided.choices if choice.is_int8}
    assert set(chosen.values()) == {"nearest"}
    apply(model, decided, tmp_path / "out.onnx")
    stored = [
        onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load(tmp_path / "out.onnx").graph.initializer
        if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) == 2
    ]
    # The largest entry of a channel, or the largest sum of two neighbours.
    of_two = np.abs(arrays["w"].reshape(4, 2, 64).sum(axis=1)).max(axis=0) / np.float32(128)
    steps = np.maximum(np.abs(arrays["w"]).max(axis=0) / np.float32(127), of_two)
    assert any(np.array_equal(np.rint(arrays["w"] / steps), own) for own in stored)
    choices = tuple(
        replace(choice, rounding="error_feedback") if choice.is_int8 else choice
        for choice in decided.choices
    )
    with pytest.raises(InputError, match="Set its rounding to nearest"):
        apply(model, replace(decided, choices=choices), tmp_path / "unmade.onnx")


def test_inputs_outputs_and_operator_set_stay(formats_alone: Compression, folder: Path) -> None:
    before, after = (onnx.load(folder / name) for name in ("network.onnx", "int8.onnx"))
    assert list(before.graph.input) == list(after.graph.input)
    assert list(before.graph.output) == list(after.graph.output)
    assert list(before.opset_import) == list(after.opset_import)
    assert {check.name for check in formats_alone.verdict.checks} >= {
        "reference",
        "integers",
        "integer kernels",
    }


def test_a_budget_is_kept_by_ranks_units_and_numbers_together(
    small: Compression, folder: Path
) -> None:
    assert small.after.bytes <= 0.17 * small.before.bytes
    # All of it is used but for a hundredth.
    assert small.after.bytes >= 0.16 * small.before.bytes
    choices = [row.choice for row in small.rows if row.choice]
    assert all(choice.is_int8 for choice in choices)
    assert any(choice.is_double_layer for choice in choices)
    assert small.plan.size == pytest.approx(small.after.bytes / small.before.bytes, abs=2e-3)
    assert relative_change(folder / "network.onnx", folder / "small.onnx") < 0.35


def test_a_plan_that_is_applied_makes_the_same_file(small: Compression, folder: Path) -> None:
    decided = plan(
        folder / "network.onnx", samples=folder / "s.npz", planning=SMALL, measuring=MEASURING
    )
    path = folder / "plan.json"
    path.write_text(plan_text(decided), encoding="utf-8")
    assert read_plan(path).uses_int8
    apply(
        folder / "network.onnx",
        path,
        folder / "applied.onnx",
        samples=folder / "s.npz",
        measuring=ApplyOptions(provider="cpu"),
    )
    assert (folder / "applied.onnx").read_bytes() == small.after.path.read_bytes()


def test_a_plan_says_what_is_wrong_with_it(folder: Path) -> None:
    decided = plan(
        folder / "network.onnx", samples=folder / "s.npz", planning=INT8, measuring=MEASURING
    )
    data = json.loads(plan_text(decided))
    data["choices"][0] |= {"action": "keep", "form": None, "rank": None}
    path = folder / "edited.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(InputError, match=r"choices\[0\].*precision int8; use the action refit"):
        read_plan(path)
    with pytest.raises(InputError, match="int8_format u8s8, which takes --samples"):
        apply(folder / "network.onnx", decided, folder / "unmade.onnx")
    assert not (folder / "unmade.onnx").exists()


def test_without_samples_weights_alone_are_integers(folder: Path, tmp_path: Path) -> None:
    model, output = folder / "network.onnx", tmp_path / "weights.onnx"
    done = compress(model, output, planning=INT8, measuring=MEASURING, report=tmp_path / "report")
    assert [row.choice.precision for row in done.rows if row.choice] == ["int8"] * 6
    assert {row.choice.action for row in done.rows if row.choice} == {"refit"}
    (said,) = (warning for warning in done.warnings if "weights alone" in warning)
    assert "Give --samples" in said
    assert said.split(".")[0] in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    operators = Counter(node.op_type for node in onnx.load(output).graph.node)
    assert operators["QuantizeLinear"] == 0
    assert operators["DequantizeLinear"] == 6
    assert done.after.bytes < 0.32 * done.before.bytes
    # Integers of 127 steps a row, with what is between them at random: some thousandths a layer.
    assert relative_change(model, output) < 0.02

    decided = plan(model, planning=INT8, measuring=MEASURING)
    assert decided.int8_format == "weights"
    apply(model, decided, tmp_path / "applied.onnx", measuring=ApplyOptions(provider="cpu"))
    assert (tmp_path / "applied.onnx").read_bytes() == output.read_bytes()


def test_weights_alone_may_be_integers_within_a_budget(folder: Path, tmp_path: Path) -> None:
    for given in (None, folder / "s.npz"):
        done = compress(
            folder / "network.onnx",
            tmp_path / f"{given is None}.onnx",
            samples=given,
            planning=PlanOptions(
                precision="int8", int8_format="weights", budgets=Budgets(size=0.22)
            ),
            measuring=MEASURING,
        )
        assert done.after.bytes <= 0.22 * done.before.bytes
        assert done.plan.int8_format == "weights"
        assert (done.plan.damage is None) == (given is None)
        nodes = onnx.load(done.after.path).graph.node
        assert "QuantizeLinear" not in {node.op_type for node in nodes}
        assert any("weights alone" in text for text in done.warnings) == (given is None)


def test_one_sample_tells_too_little(folder: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", x=images(1))
    with pytest.raises(UsageError, match="needs --samples, two at least"):
        compress(
            folder / "network.onnx",
            tmp_path / "out.onnx",
            samples=tmp_path / "one.npz",
            planning=INT8,
            measuring=MEASURING,
        )


def test_units_alone_may_go_from_layers_of_integers(folder: Path, tmp_path: Path) -> None:
    done = compress(
        folder / "network.onnx",
        tmp_path / "pruned.onnx",
        samples=folder / "s.npz",
        planning=PlanOptions(
            method="harmonic", precision="int8", budgets=Budgets(size=0.22), round_to=1
        ),
        measuring=MEASURING,
    )
    assert done.after.bytes <= 0.22 * done.before.bytes
    choices = [row.choice for row in done.rows if row.choice]
    assert not any(choice.is_double_layer for choice in choices)
    assert all(choice.is_int8 for choice in choices)
    assert any(choice.action == "prune" for choice in choices)


def test_what_is_left_out_keeps_its_numbers(folder: Path, tmp_path: Path) -> None:
    done = compress(
        folder / "network.onnx",
        tmp_path / "some.onnx",
        samples=folder / "s.npz",
        planning=PlanOptions(precision="int8", exclude=("m", "op:Gemm")),
        measuring=MEASURING,
    )
    found = {row.block.key: row.choice for row in done.rows if row.choice}
    assert [key for key in BLOCKS if found[key].is_int8] == ["b", "d", "h"]
    operators = optimised_operators(done.after.path, tmp_path)
    assert operators["QLinearConv"] == 3


def test_a_block_that_integers_hurt_keeps_its_numbers(tmp_path: Path) -> None:
    """Channels whose ranges differ by a factor of thousands, of which a tensor has one scale."""
    # The first layer makes half of its channels tiny; the second one reads these alone.
    tiny = np.arange(WIDTH) % 2 == 0
    k0, b0 = ARRAYS["k0"].copy(), ARRAYS["b0"].copy()
    k0[tiny], b0[tiny] = k0[tiny] / 3000, b0[tiny] / 3000
    k1 = ARRAYS["k1"].copy()
    k1[:, tiny], k1[:, ~tiny] = 3000 * k1[:, tiny], k1[:, ~tiny] * 1e-4
    model = network(tmp_path, k0=k0, b0=b0, k1=k1)
    done = compress(
        model,
        tmp_path / "out.onnx",
        samples=samples(tmp_path, model),
        planning=INT8,
        measuring=MEASURING,
        report=tmp_path / "report",
    )
    found = {row.block.key: row.choice for row in done.rows if row.choice}
    assert not found["m"].is_int8
    assert "8-bit integers do it" in found["m"].why
    assert found["h"].is_int8
    assert done.plan.int8_damages[0].key == "m"
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "The blocks that integers hurt most come first." in page


def test_a_largest_drop_is_certified_of_the_file_itself(folder: Path, tmp_path: Path) -> None:
    model = folder / "network.onnx"
    done = compress(
        model,
        tmp_path / "certified.onnx",
        samples=samples(tmp_path, model, count=1200, seed=3, name="many"),
        planning=PlanOptions(precision="int8", budgets=Budgets(max_drop=4.0), round_to=1),
        measuring=MEASURING,
    )
    assert done.bound is not None
    assert done.bound.bound <= 4.0
    assert done.after.bytes < 0.3 * done.before.bytes
    test = samples(tmp_path, model, count=2000, seed=4, name="test")
    evaluation = compare(model, done.after.path, test, measuring=MEASURING).evaluation
    assert evaluation.drop is not None
    # The limit holds with 95 %; as many samples tell it but for half a point.
    assert evaluation.drop < 4.5


def test_reports_rank_what_blocks_lose(formats_alone: Compression, folder: Path) -> None:
    data = json.loads((folder / "int8_report" / "report.json").read_text(encoding="utf-8"))
    assert data["uses_int8"]
    damages = [one["damage"] for one in data["int8_damages"]]
    assert damages == sorted(damages, reverse=True)
    assert {one["key"] for one in data["int8_damages"]} == set(BLOCKS)
    assert all(block["choice"]["precision"] == "int8" for block in data["blocks"])
    # The blocks are nearly all of the file. What it has besides, other nodes and the provenance, is
    # in no block's bytes, and these are an upper bound, with longer names: the two nearly cancel.
    stated = sum(block["cost_after"]["bytes"] for block in data["blocks"])
    assert stated == pytest.approx(formats_alone.after.bytes, rel=0.02)


def test_reports_say_what_the_numbers_of_each_format_occupy(
    formats_alone: Compression, folder: Path
) -> None:
    data = json.loads((folder / "int8_report" / "report.json").read_text(encoding="utf-8"))
    found = {one["key"]: one for one in data["stored_numbers"]}
    assert list(found) == [*BLOCKS, None]
    kernel = {"b": "k0", "m": "k1", "d": "k2", "h": "k3", "r": "w", "y": "u"}
    for key, name in kernel.items():
        assert found[key]["integers"] == ARRAYS[name].size
    # A bias, and the scales of as many channels, with those of the tensors, a zero point each.
    assert found["m"]["floats"] == 4 * WIDTH
    assert found["m"]["scales"] >= 4 * WIDTH
    assert found["d"]["scales"] <= 4 * WIDTH + 5
    total = sum(
        one[name] for one in found.values() for name in ("integers", "scales", "floats", "others")
    )
    assert total == formats_alone.after.bytes
    graph = onnx.load(formats_alone.after.path).graph
    held = sum(onnx.numpy_helper.to_array(tensor).nbytes for tensor in graph.initializer)
    # Besides, scales and a zero point of what lies behind a block and in front of a pool or a sum.
    assert 0 <= found[None]["others"] - (formats_alone.after.bytes - held) <= 10
    page = (folder / "int8_report" / "report.html").read_text(encoding="utf-8")
    assert "Bytes by format" in page


def test_a_file_of_integers_is_not_made_smaller(
    formats_alone: Compression, folder: Path, tmp_path: Path
) -> None:
    """Neither one of ours nor one of onnxruntime's own tools."""
    quantize_dynamic(folder / "network.onnx", tmp_path / "dynamic.onnx")
    for path in (formats_alone.after.path, tmp_path / "dynamic.onnx"):
        result = command("compress", path, "--output", tmp_path / "out.onnx", "--size", 0.5)
        assert result.exit_code == 3
        assert "is quantised already" in " ".join(result.output.split())
        assert not (tmp_path / "out.onnx").exists()


def test_such_a_file_is_read_by_the_other_commands(formats_alone: Compression) -> None:
    found = inspect(formats_alone.after.path, measuring=MEASURING)
    assert found.model.bytes == formats_alone.after.bytes


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--precision", "int8", "--int8-format", "s8s8"), "s8s8 needs --samples, two at least"),
        (("--precision", "int4"), "int4"),
        (("--int8-format", "s8s8", "--size", "0.5"), "add --precision int8"),
        (
            ("--precision", "int8", "--int8-format", "weights", "--latency", "0.5"),
            "--latency does not go with 8-bit weights alone",
        ),
    ],
)
def test_what_does_not_go_together_is_said(
    options: tuple[str, ...], words: str, folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.onnx"
    result = command("compress", folder / "network.onnx", "--output", output, *options)
    assert result.exit_code == 2
    assert words in " ".join(result.output.split())
    assert not output.exists()


def test_an_old_operator_set_is_raised_where_answers_stay(tmp_path: Path) -> None:
    model = network(tmp_path, opset=11)
    drawn, output = samples(tmp_path, model), tmp_path / "out.onnx"
    planning = PlanOptions(precision="int8", budgets=Budgets(size=0.25), round_to=1)
    done = compress(model, output, samples=drawn, planning=planning, measuring=MEASURING)
    assert (done.before.opset, done.after.opset) == (11, 13)
    assert [row.choice.is_int8 for row in done.rows if row.choice] == [True] * 6
    assert any("operator set 13" in warning for warning in done.warnings)
    assert relative_change(model, output) < 0.2

    decided = plan(model, samples=drawn, planning=planning, measuring=MEASURING)
    apply(model, decided, tmp_path / "applied.onnx", samples=drawn)
    assert (tmp_path / "applied.onnx").read_bytes() == output.read_bytes()


def test_what_cannot_be_converted_keeps_its_numbers(tmp_path: Path) -> None:
    """The converter does not look at weights in other files."""
    model = network(tmp_path, opset=12)
    drawn = samples(tmp_path, model)
    outside = tmp_path / "outside.onnx"
    onnx.save(onnx.load(model), outside, save_as_external_data=True, size_threshold=0)
    assert with_opset(read_model(outside), 13) is None
    done = compress(
        outside,
        tmp_path / "out.onnx",
        samples=drawn,
        planning=PlanOptions(precision="int8", budgets=Budgets(size=0.6), round_to=1),
        measuring=MEASURING,
    )
    assert not done.plan.uses_int8
    assert done.after.opset == 12
    assert any("onnx does not convert it" in warning for warning in done.warnings)


def test_a_sweep_with_integers_takes_a_later_operator_set(tmp_path: Path) -> None:
    model = network(tmp_path, opset=12)
    drawn = samples(tmp_path, model)
    outside = tmp_path / "outside.onnx"
    onnx.save(onnx.load(model), outside, save_as_external_data=True, size_threshold=0)
    sweeping = SweepOptions(sizes=(0.5,), methods=("int8",))
    with pytest.raises(UsageError, match="--methods int8 takes operator set 13"):
        sweep(outside, samples=drawn, sweeping=sweeping, report=tmp_path / "report")
    found = sweep(model, samples=drawn, sweeping=sweeping)
    assert [point.after.opset for point in found.points] == [13]


def test_a_sweep_with_symmetric_integers_says_how_to_make_its_files_again(tmp_path: Path) -> None:
    model = network(tmp_path)
    found = sweep(
        model,
        samples=samples(tmp_path, model),
        test=samples(tmp_path, model, seed=5, name="test"),
        sweeping=SweepOptions(sizes=(0.5,), methods=("damage", "int8"), int8_format="s8s8"),
        measuring=MEASURING,
        report=tmp_path / "report",
    )
    lines = {one.method: one.command for one in found.points}
    assert "--precision int8" in lines["int8"]
    assert "--int8-format s8s8" in lines["int8"]
    assert "int8" not in lines["damage"].replace("test_a_sweep_with", "")
    with pytest.raises(UsageError, match="is for the method int8"):
        SweepOptions(methods=("damage",), int8_format="s8s8")


def test_depthwise_layers_are_computed_with_integers(depthwise: Path) -> None:
    done = compress(
        depthwise / "network.onnx",
        depthwise / "whole.onnx",
        samples=depthwise / "s.npz",
        planning=INT8,
        measuring=MEASURING,
    )
    assert {row.choice.precision for row in done.rows if row.choice} == {"int8"}
    kinds = optimised_operators(done.after.path, depthwise)
    assert kinds["QLinearConv"] == 5
    assert kinds["Conv"] + kinds["FusedConv"] == 0
    assert relative_change(depthwise / "network.onnx", done.after.path) < 0.03


def test_channels_of_depthwise_layers_go_with_those_that_they_read(depthwise: Path) -> None:
    test = samples(depthwise, depthwise / "network.onnx", seed=5, name="test")
    done = compress(
        depthwise / "network.onnx",
        depthwise / "small.onnx",
        samples=depthwise / "s.npz",
        test=test,
        planning=PlanOptions(precision="int8", budgets=Budgets(size=0.2), round_to=1),
        measuring=MEASURING,
    )
    rows = {row.block.key: row.choice for row in done.rows if row.choice}
    for key, source in (("c", "a"), ("g", "e")):
        assert rows[key].is_int8
        assert rows[key].inputs == rows[key].outputs == rows[source].outputs
    assert (rows["c"].outputs or WIDTH) + (rows["g"].outputs or WIDTH) < 2 * WIDTH
    # A sweep of this method alone makes the same file.
    swept = sweep(
        depthwise / "network.onnx",
        samples=depthwise / "s.npz",
        test=test,
        sweeping=SweepOptions(sizes=(0.2,), methods=("int8",)),
        measuring=MEASURING,
        report=depthwise / "swept",
        keep=True,
    )
    (point,) = swept.points
    assert point.after.path.read_bytes() == done.after.path.read_bytes()


def test_depthwise_layers_of_floats_are_no_blocks(depthwise: Path) -> None:
    found = inspect(depthwise / "network.onnx", measuring=MEASURING)
    assert [refusal.key for refusal in found.refusals] == ["j", "l"]
