"""Blocks on integers by themselves, and which of them keep the numbers of the file."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from graphs import model_proto
from integer_networks import ARRAYS, network
from opened import Opened, open_model
from timed_runs import Feeds, timed_runs

from onnx_relusv import Budgets, MeasureOptions, PlanOptions, compress
from onnx_relusv.core.plans import Int8Format
from onnx_relusv.core.reduction import Change, Integers
from onnx_relusv.graph.reference import runnable
from onnx_relusv.planning.latency import blocks as block_latency
from onnx_relusv.planning.latency.models import any_factors, with_changes, worth
from onnx_relusv.rewrites.int8.isolated import OnIntegers, with_stand_ins
from onnx_relusv.rewrites.low_rank.forms import DENSE
from onnx_relusv.rewrites.low_rank.surgery import isolated
from onnx_relusv.runtime.session import CPU, Session

MEASURING = MeasureOptions(provider="cpu")
# Behind the second Conv is a node without an integer kernel, in front of the last one as well.
_PARTED = (
    "(float[N,3,12,12] x) => (float[N,6] y) {"
    " a = Conv<pads=[1,1,1,1]>(x, k0, b0) b = Relu(a)"
    " c = Conv<pads=[1,1,1,1]>(b, k1, b1) d = Tanh(c)"
    " e = Conv<pads=[1,1,1,1]>(d, k3, b3) h = Relu(e) i = GlobalAveragePool(h)"
    " j = Flatten(i) q = Gemm(j, w, v) r = Relu(q) y = Gemm(r, u) }"
)


def parted(folder: Path) -> Opened:
    path = folder / "parted.onnx"
    onnx.save(model_proto(_PARTED, {n: v for n, v in ARRAYS.items() if n[1:] != "2"}), path)
    return open_model(path, None, MEASURING)


def in_its_form(opened: Opened, int8_format: Int8Format = "u8s8") -> list[Change]:
    return [
        Change(
            block,
            DENSE.name,
            DENSE.largest_rank(block.geometry),
            integers=Integers(int8_format),
        )
        for block in opened.case.blocks
    ]


def kernels(proto: bytes, folder: Path) -> list[str]:
    options, path = onnxruntime.SessionOptions(), folder / "optimized.onnx"
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 4
    onnxruntime.InferenceSession(proto, options, providers=[CPU])
    return [node.op_type for node in onnx.load(path).graph.node]


def test_what_is_around_a_block_is_read_off_the_whole_model(tmp_path: Path) -> None:
    opened = parted(tmp_path)
    around = with_changes(opened.case, opened.workspace, in_its_form(opened))
    found = {
        block.key: OnIntegers.of(around, block.source, block.key, "u8s8")
        for block in opened.case.blocks
    }
    assert {key: (one.before, one.behind) for key, one in found.items()} == {
        # The caller gives floats, and a Tanh reads and makes some; outputs stay floats.
        "b": (False, True),
        "c": (True, False),
        "h": (False, True),
        "r": (True, True),
        "y": (True, False),
    }


@pytest.mark.parametrize("int8_format", ["u8s8", "s8s8"])
def test_a_block_alone_has_the_kernels_that_it_has_among_others(
    int8_format: Int8Format, tmp_path: Path
) -> None:
    opened = parted(tmp_path)
    changes = in_its_form(opened, int8_format)
    around = with_changes(opened.case, opened.workspace, changes)
    rng = np.random.default_rng(0)
    for change in changes:
        block = change.block
        source = rng.standard_normal((2, *block.source_shape[1:])).astype(np.float32)
        alone = isolated(opened.case.model, block, source)
        own = OnIntegers.of(around, block.source, block.key, int8_format)
        proto = alone.rewritten(any_factors(opened.case, change, rng))
        found = own.alone(proto, block)
        session = Session(runnable(opened.case.model, found), CPU)
        (name,), given = session.input_names, own.given(source)
        integers = np.int8 if int8_format == "s8s8" else np.uint8
        assert given.dtype == (integers if own.before else np.float32)
        (answer,) = session.run({name: given}).values()
        assert answer.dtype == (integers if own.behind else np.float32)
        assert answer.shape[0] == 2
        # onnxruntime computes a matrix with floats where its answers are to be floats.
        if int8_format == "u8s8" and (own.behind or block.geometry.kind == "conv"):
            ops = kernels(found.SerializeToString(), tmp_path)
            assert "QLinearConv" in ops if block.geometry.kind == "conv" else "QGemm" in ops
            assert ("QuantizeLinear" in ops) != own.before
            assert ("DequantizeLinear" in ops) != own.behind
            assert not {"Conv", "Gemm", "MatMul"} & set(ops)


def test_a_model_of_stand_ins_has_integer_kernels_alone(tmp_path: Path) -> None:
    opened = open_model(network(tmp_path), None, MEASURING)
    proto = with_changes(opened.case, opened.workspace, in_its_form(opened))
    found = kernels(with_stand_ins(proto, "u8s8").SerializeToString(), tmp_path)
    assert (found.count("QLinearConv"), found.count("QLinearAdd")) == (4, 1)
    # But for the last one, whose answers are floats.
    assert (found.count("QGemm"), found.count("Gemm")) == (1, 1)
    assert not {"Conv", "MatMul", "Add", "Relu"} & set(found)
    # Some blocks may keep their numbers.
    part = with_changes(opened.case, opened.workspace, in_its_form(opened)[1:])
    found = kernels(with_stand_ins(part, "u8s8").SerializeToString(), tmp_path)
    assert (found.count("QLinearConv"), "Conv" in found) == (3, True)


@pytest.mark.parametrize("spares", list(product([0.0, 0.05], repeat=4)))
def test_blocks_keep_their_numbers_where_the_whole_model_gains(spares: Sequence[float]) -> None:
    blocks = dict(zip("abcd", spares, strict=True))
    # What one spares, others without gain do not hide.
    found = worth(list(blocks), lambda keys: min(blocks[key] for key in keys))
    assert found == [key for key, spared in blocks.items() if spared]
    assert worth([], lambda keys: 1.0) == []


def test_those_that_help_together_are_found_with_one_measurement() -> None:
    asked: list[list[str]] = []

    def gain(keys: Sequence[str]) -> float:
        asked.append(list(keys))
        return 0.03 if len(keys) == 3 else 0.0

    assert worth(["a", "b", "c"], gain) == ["a", "b", "c"]
    assert asked == [["a", "b", "c"]]


def test_a_block_that_integers_make_slower_keeps_its_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network(tmp_path)
    x = np.random.default_rng(0).standard_normal((60, 3, 12, 12)).astype(np.float32)
    np.save(tmp_path / "samples.npy", x)
    # All blocks with integers, the fastest forms, then without those that seem slower; then plans.
    timed_runs(monkeypatch, [0.9, 0.4, 1.25, 0.5])

    def blocks(sessions: Sequence[Session], feeds: Feeds) -> tuple[float, ...]:
        for session in sessions:
            session.run(feeds)
        if len(sessions) == 1 and "d" in sessions[0].output_names:
            # As it is, the block in the middle is quick.
            return (0.01,)
        return tuple(np.linspace(0.5, 0.1, len(sessions)).tolist())

    monkeypatch.setattr(block_latency, "undisturbed_latencies", blocks)
    planning = PlanOptions(precision="int8", budgets=Budgets(latency=0.6))
    done = compress(
        model,
        tmp_path / "small.onnx",
        samples=tmp_path / "samples.npy",
        planning=planning,
        measuring=MEASURING,
    )
    found = {choice.key: choice for choice in done.plan.choices}
    assert found["d"].precision == "keep"
    assert "slower with 8-bit integers: " in found["d"].why
    assert any(choice.is_int8 for choice in found.values())
    assert done.latency is not None
    assert done.latency.share == 0.5
