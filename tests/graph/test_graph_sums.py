"""Residual sums: which are found, and what is no such sum."""

from pathlib import Path

import numpy as np
import pytest
from graphs import Searched, model_proto, normal, search
from onnx import helper, numpy_helper

from onnx_relusv.graph.blocks import ResidualSum, residual_sum

ARRAYS = {"w": normal(6, 6), "v": normal(6, 6, seed=1), "c": normal(4, 3, 6), "d": normal(6)}
HEAD = "(float[N,6] x) => (float[N,6] y)"
FEEDS = {"x": normal(3, 6)}


def found(searched: Searched, key: str) -> ResidualSum | None:
    block = next(block for block in searched.blocks if block.key == key)
    return residual_sum(searched.model, block)


def searched(body: str, folder: Path, head: str = HEAD) -> Searched:
    shape = (2, 3, 6) if "N,T" in head else (3, 6)
    return search(model_proto(f"{head} {{ {body} }}", ARRAYS), folder, {"x": normal(*shape)})


@pytest.mark.parametrize(
    ("behind", "rectified"),
    [
        ("y = Relu(s)", True),
        ("y = LeakyRelu(s)", False),
        ("y = Sigmoid(s)", False),
        ("r = Relu(s) y = Add(r, s)", False),
        ("r = Relu(s) n = Neg(s) y = Add(r, n)", False),
        ("r = Relu(s) t = Relu(s) y = Add(r, t)", False),
    ],
)
def test_a_shortcut_from_the_input(behind: str, rectified: bool, tmp_path: Path) -> None:
    for order in ("Add(h, x)", "Add(x, h)"):
        model = searched(f"h = Gemm(x, w) s = {order} {behind}", tmp_path)
        assert found(model, "h") == ResidualSum(shortcut="x", rectified=rectified)


def test_a_sum_that_is_an_output_is_not_only_rectified(tmp_path: Path) -> None:
    head = "(float[N,6] x) => (float[N,6] y, float[N,6] s)"
    model = searched("h = Gemm(x, w) s = Add(h, x) y = Relu(s)", tmp_path, head)
    assert found(model, "h") == ResidualSum(shortcut="x", rectified=False)


def test_a_sum_that_a_body_reads_is_not_only_rectified(tmp_path: Path) -> None:
    head = "(float[N,6] x, bool flag) => (float[N,6] y)"
    body = (
        "h = Gemm(x, w) s = Add(h, x) r = Relu(s)"
        " y = If(flag) <then_branch = p () => (float[N,6] q) { q = Add(r, s) },"
        " else_branch = o () => (float[N,6] u) { u = Neg(r) }>"
    )
    proto = model_proto(f"{head} {{ {body} }}", ARRAYS)
    model = search(proto, tmp_path, {"x": normal(3, 6), "flag": np.array(True)})
    assert found(model, "h") == ResidualSum(shortcut="x", rectified=False)


def test_a_bias_and_a_normalisation_belong_to_the_block(tmp_path: Path) -> None:
    model = searched("h = MatMul(x, w) b = Add(h, d) s = Add(b, x) y = Relu(s)", tmp_path)
    assert found(model, "b") == ResidualSum(shortcut="x", rectified=True)


def test_two_blocks_that_are_added_to_each_other(tmp_path: Path) -> None:
    body = "g = Gemm(x, w) r = Relu(g) h = Gemm(r, v) k = Gemm(x, v) s = Add(h, k) y = Relu(s)"
    proto = model_proto(f"{HEAD} {{ {body} }}", {"w": ARRAYS["w"], "v": ARRAYS["v"]})
    # Each weight has one reader only.
    proto.graph.node[3].input[1] = "u"
    proto.graph.initializer.append(numpy_helper.from_array(normal(6, 6, seed=2), "u"))
    model = search(proto, tmp_path, FEEDS)
    assert found(model, "h") == ResidualSum(shortcut="k", rectified=True)
    assert found(model, "k") == ResidualSum(shortcut="h", rectified=True)
    assert found(model, "r") is None


@pytest.mark.parametrize(
    ("body", "key"),
    [
        # An activation stands between the block and the sum.
        ("h = Gemm(x, w) r = Relu(h) s = Add(r, x) y = Relu(s)", "r"),
        # Somebody else reads its answer too.
        ("h = Gemm(x, w) s = Add(h, x) n = Neg(h) y = Add(s, n)", "h"),
        # It is added to itself.
        ("h = Gemm(x, w) s = Add(h, h) y = Relu(s)", "h"),
        # It is subtracted, multiplied, or nothing of the kind.
        ("h = Gemm(x, w) s = Sub(x, h) y = Relu(s)", "h"),
        ("h = Gemm(x, w) s = Mul(x, h) y = Relu(s)", "h"),
        ("h = Gemm(x, w) y = Sigmoid(h)", "h"),
        # Nobody reads it.
        ("y = Gemm(x, w)", "y"),
    ],
)
def test_what_is_no_residual_sum(body: str, key: str, tmp_path: Path) -> None:
    assert found(searched(body, tmp_path), key) is None


def test_an_answer_that_is_an_output_is_not_the_sum_s_alone(tmp_path: Path) -> None:
    head = "(float[N,6] x) => (float[N,6] y, float[N,6] h)"
    model = searched("h = Gemm(x, w) s = Add(h, x) y = Relu(s)", tmp_path, head)
    assert found(model, "h") is None


def test_an_answer_that_a_body_reads_is_not_the_sum_s_alone(tmp_path: Path) -> None:
    head = "(float[N,6] x, bool flag) => (float[N,6] y)"
    body = (
        "h = Gemm(x, w) s = Add(h, x)"
        " y = If(flag) <then_branch = p () => (float[N,6] q) { q = Add(s, h) },"
        " else_branch = o () => (float[N,6] u) { u = Neg(s) }>"
    )
    proto = model_proto(f"{head} {{ {body} }}", ARRAYS)
    model = search(proto, tmp_path, {"x": normal(3, 6), "flag": np.array(True)})
    assert found(model, "h") is None


@pytest.mark.parametrize("how", ["initializer", "Constant", "computed"])
def test_a_constant_is_no_shortcut(how: str, tmp_path: Path) -> None:
    """One number for every step and feature: no bias, and the same in every network."""
    head = "(float[N,T,6] x) => (float[N,T,6] y)"
    text = f"{head} {{ h = MatMul(x, w) s = Add(h, k) y = Relu(s) }}"
    constant = normal(1, 3, 6)
    proto = model_proto(text, {"w": ARRAYS["w"]})
    if how == "Constant":
        node = helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(constant))
        proto.graph.node.insert(0, node)
    else:
        name = "k" if how == "initializer" else "minus_k"
        proto.graph.initializer.append(numpy_helper.from_array(constant, name))
    if how == "computed":
        proto.graph.node.insert(0, helper.make_node("Neg", ["minus_k"], ["k"]))
    model = search(proto, tmp_path, {"x": normal(2, 3, 6)})
    assert found(model, "h") is None
