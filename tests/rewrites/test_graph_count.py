"""Parameters and multiply-accumulates, counted by hand."""

from pathlib import Path

import numpy as np
import pytest
from graphs import factors_of, model_proto, normal, run, saved, search
from onnx import ModelProto
from patterns import PATTERNS

from onnx_relusv.graph.blocks import measured_tensors
from onnx_relusv.graph.reference import macs, model_facts, parameters
from onnx_relusv.rewrites.low_rank.candidates import block_macs
from onnx_relusv.rewrites.low_rank.forms import FORMS, available_forms
from onnx_relusv.rewrites.low_rank.surgery import rewrite

W = normal(6, 5)


@pytest.mark.parametrize(
    ("text", "arrays", "shape", "expected"),
    [
        ("(float[1,6] x) => (y) { y = Gemm(x, w) }", {"w": W}, (1, 6), 30),
        ("(float[1,6] x) => (y) { y = Gemm<transB=1>(x, w) }", {"w": W.T.copy()}, (1, 6), 30),
        ("(float[6,1] x) => (y) { y = Gemm<transA=1>(x, w) }", {"w": W}, (6, 1), 30),
        ("(float[1,7,6] x) => (y) { y = MatMul(x, w) }", {"w": W}, (1, 7, 6), 7 * 30),
        (
            "(float[1,7,6] x) => (y) { t = Transpose<perm=[0,2,1]>(x) y = MatMul(x, t) }",
            {},
            (1, 7, 6),
            7 * 6 * 7,
        ),
        (
            "(float[1,4,9,8] x) => (y) { y = Conv<strides=[2,1]>(x, w) }",
            {"w": normal(6, 4, 3, 3)},
            (1, 4, 9, 8),
            4 * 6 * 6 * 36,
        ),
        (
            "(float[1,4,9,8] x) => (y) { y = Conv<group=2>(x, w) }",
            {"w": normal(6, 2, 3, 3)},
            (1, 4, 9, 8),
            7 * 6 * 6 * 18,
        ),
        (
            "(float[1,4,5] x) => (y) { y = ConvTranspose<strides=[2]>(x, w) }",
            {"w": normal(4, 6, 3)},
            (1, 4, 5),
            5 * 4 * 6 * 3,
        ),
        ("(float[1,6] x) => (y) { y = Relu(x) }", {}, (1, 6), 0),
    ],
)
def test_macs(
    text: str,
    arrays: dict[str, np.ndarray],
    shape: tuple[int, ...],
    expected: int,
    tmp_path: Path,
) -> None:
    proto, feeds = model_proto(text, arrays), {"x": normal(*shape)}
    values = run(proto, feeds, measured_tensors(proto)) | feeds
    shapes = {name: np.shape(value) for name, value in values.items()}
    assert macs(proto, shapes) == expected
    facts = model_facts(saved(proto, tmp_path), shapes)
    assert (facts.macs, facts.opset) == (expected, 17)
    assert facts.parameters == sum(array.size for array in arrays.values())
    assert facts.bytes == facts.path.stat().st_size


def test_nodes_without_shapes_and_foreign_ones_count_nothing() -> None:
    proto = model_proto(
        "(float[1,6] x) => (y) { h = MatMul(x, w) g = mine.MatMul(h) y = mine.Conv(g, w) }",
        {"w": W},
        domains={"mine": 1},
    )
    assert macs(proto, {}) == 0
    assert macs(proto, {"x": (1, 6), "h": (1, 5), "g": (1, 6), "y": (1, 5)}) == 30


def test_parameters_are_floating_point_numbers_wherever_they_are() -> None:
    proto = model_proto(
        "(float[1,6] x, bool c) => (y) { v = Constant<value = double[2,3] {1,2,3,4,5,6}>()"
        " y = If(c) <then_branch = t () => (a) <float[4] k = {1,2,3,4}> { a = Neg(k) },"
        " else_branch = e () => (b) { b = Constant<value = float16[2] {1,2}>() }> }",
        {"w": W, "steps": np.arange(7), "scalar": np.float32(3)[...]},
    )
    assert parameters(proto) == 30 + 1 + 6 + 4 + 2


@pytest.mark.parametrize(
    "name", ["conv", "conv_grouped", "conv_line", "gemm", "matmul_of_sequences"]
)
def test_the_count_of_a_rewritten_file_is_what_its_forms_promise(name: str, tmp_path: Path) -> None:
    pattern = PATTERNS[name]
    feeds = {"x": pattern.feeds()["x"][:1]}
    searched = search(pattern.proto(), tmp_path, feeds)
    block = searched.block

    def counted(proto: ModelProto) -> int:
        values = run(proto, feeds, measured_tensors(proto)) | feeds
        return macs(proto, {key: value.shape for key, value in values.items()})

    assert counted(pattern.proto()) == block_macs(block)
    for form in available_forms(block.geometry):
        factors = factors_of(searched, block, form, 2)
        smaller = rewrite(searched.model, [block], {"y": factors}, "{}")
        assert counted(smaller) == FORMS[form].macs(block.geometry, 2, block.source_shape)
        promised = FORMS[form].parameters(block.geometry, 2)
        bias = block.geometry.out_channels if np.any(factors.bias) else 0
        assert parameters(smaller) == promised + bias
