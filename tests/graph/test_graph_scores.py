"""Which block gives the scores of an output, and which outputs are given by none."""

from pathlib import Path

import numpy as np
import pytest
from graphs import model_proto, normal, normalization, search

from onnx_relusv.graph.blocks import block_of_scores

FEATURES = "(float[N,6] x) => (y) { h = Gemm(x, w) r = Relu(h) "
IMAGES = "(float[N,3,4,4] x) => (y) { h = Conv(x, k) r = Relu(h) g = GlobalAveragePool(r) "
ARRAYS = {
    "w": normal(6, 8),
    "v": normal(8, 5),
    "c": normal(5),
    "k": normal(8, 3, 3, 3),
    "l": normal(5, 8, 1, 1),
    "q": normal(6, 4, 1, 1),
    "shape": np.array([-1, 5]),
    "axes": np.array([2, 3]),
} | normalization(5)


def found(text: str, folder: Path, output: str = "y") -> str | None:
    feeds = {"x": normal(1, 6) if "[N,6]" in text else normal(1, 3, 4, 4)}
    used = {name: values for name, values in ARRAYS.items() if name in text}
    searched = search(model_proto(text, used), folder, feeds)
    block = block_of_scores(searched.model, searched.blocks, output)
    return None if block is None else block.key


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (FEATURES + "y = Gemm(r, v, c) }", "y"),
        (FEATURES + "y = MatMul(r, v) }", "y"),
        (FEATURES + "z = MatMul(r, v) o = Add(z, c) y = Softmax(o) }", "o"),
        (FEATURES + "z = Gemm(r, v) s = Identity(z) t = LogSoftmax(s) y = Cast<to=1>(t) }", "s"),
        (IMAGES + "z = Conv(g, l) y = Flatten(z) }", "z"),
        (IMAGES + "z = Conv(g, l) f = Reshape(z, shape) y = Softmax(f) }", "z"),
        (IMAGES + "z = Conv(g, l) y = Squeeze(z, axes) }", "z"),
        (
            IMAGES + "z = Conv(g, l) n = BatchNormalization(z, gamma, beta, mean, variance)"
            " y = Flatten(n) }",
            "n",
        ),
    ],
)
def test_the_block_in_front_of_an_output(text: str, key: str, tmp_path: Path) -> None:
    assert found(text, tmp_path) == key


@pytest.mark.parametrize(
    "text",
    [
        FEATURES + "z = Gemm(r, v, c) y = Relu(z) }",
        FEATURES + "z = Gemm(r, v, c) s = Sigmoid(z) y = Softmax(s) }",
        FEATURES + "y = Softmax(r) }",
        # Several positions a sample, and several groups.
        IMAGES + "z = Conv(r, l) y = Flatten(z) }",
        IMAGES + "z = Conv<group=2>(g, q) y = Flatten(z) }",
        "(float[N,6] x) => (y) { y = Softmax(x) }",
    ],
)
def test_outputs_that_no_block_gives(text: str, tmp_path: Path) -> None:
    assert found(text, tmp_path) is None


def test_an_operator_of_another_domain_is_not_known(tmp_path: Path) -> None:
    text = FEATURES + "z = Gemm(r, v, c) y = Softmax(z) }"
    assert found(text, tmp_path) == "z"
    used = {name: values for name, values in ARRAYS.items() if name in ("w", "v", "c")}
    searched = search(model_proto(text, used), tmp_path, {"x": normal(1, 6)})
    node = next(each for each in searched.model.proto.graph.node if each.op_type == "Softmax")
    node.domain = "com.example"
    assert block_of_scores(searched.model, searched.blocks, "y") is None
