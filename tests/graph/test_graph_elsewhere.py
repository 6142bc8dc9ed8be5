"""Linear maps in bodies and functions, and other operators with weights: named, never rewritten."""

from pathlib import Path

import numpy as np
import pytest
from graphs import model_proto, node, normal, search, search_shapes
from onnx import parser

VECTORS = {"x": normal(3, 6)}
W, B = normal(6, 5), normal(5)


def test_blocks_inside_bodies(tmp_path: Path) -> None:
    proto = model_proto(
        "(float[N,6] x, bool c) => (float[N,5] y) {"
        " y = If(c) <then_branch = t () => (float[N,5] a)"
        " { f = Gemm(x, w) a = Relu(f) },"
        " else_branch = e () => (float[N,5] z)"
        " { z = If(c) <then_branch = p () => (float[N,5] q) { q = MatMul(x, w) },"
        " else_branch = r () => (float[N,5] s) { g = MatMul(x, w) s = Relu(g) }> }> }",
        {"w": W},
    )
    found = search(proto, tmp_path, {**VECTORS, "c": np.array(True)})
    assert not found.blocks
    outer, inner = "inside the body of If y", "inside the body of If z"
    assert found.reasons == {"f": outer, "q": inner, "g": inner}


def test_blocks_inside_functions(tmp_path: Path) -> None:
    proto = model_proto(
        "(float[N,6] x) => (float[N,5] y) { y = mine.dense(x, w) }",
        {"w": W},
        domains={"mine": 1},
    )
    proto.functions.append(
        parser.parse_function(
            '<domain: "mine", opset_import: ["" : 17]> dense (a, v) => (r)'
            " { p = MatMul(a, v) r = Relu(p) }"
        )
    )
    found = search(proto, tmp_path, VECTORS)
    assert not found.blocks
    assert found.reasons == {"p": "inside the function dense"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("h = ConvTranspose(x, w)", "the operator ConvTranspose is left alone"),
        ("h = QLinearConv(x, s, z, w, s, z, s, z)", "the operator QLinearConv is left alone"),
        ("h = QLinearMatMul(x, s, z, w, s, z, s, z)", "the operator QLinearMatMul is left alone"),
        ("h = ConvInteger(x, w)", "the operator ConvInteger is left alone"),
        ("h = MatMulInteger(x, w)", "the operator MatMulInteger is left alone"),
        ("h = LSTM<hidden_size=2>(x, w, s)", "the operator LSTM is left alone"),
        ("h = GRU<hidden_size=2>(x, w, s)", "the operator GRU is left alone"),
        ("h = RNN<hidden_size=2>(x, w, s)", "the operator RNN is left alone"),
        ('h = Einsum<equation="ij,jk->ik">(x, w)', "the operator Einsum is left alone"),
        ("h = DeformConv(x, w, s)", "the operator DeformConv is left alone"),
        ("h = com.microsoft.FusedConv(x, w)", "the operator FusedConv is left alone"),
        ("h = com.microsoft.MatMulNBits<K=6,N=5>(x, w, s)", "the operator MatMulNBits is left"),
        ("h = mine.Gemm(x, w)", "the operator Gemm is of the operator set mine"),
    ],
)
def test_other_operators_with_weights_are_named(text: str, reason: str, tmp_path: Path) -> None:
    proto = model_proto(
        "(float[N,6] x) => (h) { h = Relu(x) }",
        {"w": W, "s": B, "z": B},
        domains={"com.microsoft": 1, "mine": 1},
    )
    proto.graph.node[0].CopyFrom(node(text))
    found = search_shapes(proto, tmp_path, {"x": (1, 6), "h": (1, 5)})
    assert not found.blocks
    assert list(found.reasons) == ["h"]
    assert found.reasons["h"].startswith(reason)


def test_a_foreign_operator_of_one_input_needs_no_weight(tmp_path: Path) -> None:
    proto = model_proto(
        "(float[N,6] x) => (h) { h = mine.MatMul(x) }", {"w": W}, domains={"mine": 1}
    )
    assert search_shapes(proto, tmp_path, {}).reasons.keys() == {"h"}
