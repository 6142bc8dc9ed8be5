"""Which tensors a graph tells by integers, and graphs with and without them."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import model_proto, run, saved
from onnx import ModelProto, numpy_helper

from onnx_relusv.core.reduction import ActivationScale
from onnx_relusv.rewrites.int8.activations import (
    dequantized_weights,
    in_floats,
    quantized_pairs,
    quantized_tensors,
    with_quantized,
)
from onnx_relusv.rewrites.int8.ranges import fake_quantized

RNG = np.random.default_rng(3)


def proto(text: str, **arrays: np.ndarray) -> ModelProto:
    """A model whose arrays of int8 keep their type, with a scale for each, called with an s."""
    found = model_proto(text)
    for name, values in arrays.items():
        found.graph.initializer.append(numpy_helper.from_array(values, name))
    return found


def integers(*shape: int, axis: int = 0) -> tuple[np.ndarray, np.ndarray]:
    scale = RNG.uniform(0.005, 0.02, shape[axis]).astype(np.float32)
    return RNG.integers(-127, 128, shape).astype(np.int8), scale


K, KS = integers(8, 3, 3, 3)
L, LS = integers(8, 8, 3, 3)
W, WS = integers(8, 5, axis=1)
CONVS = (
    "w = DequantizeLinear<axis=0>(k, ks) v = DequantizeLinear<axis=0>(l, ls)"
    " u = DequantizeLinear<axis=1>(m, ms)"
)
ARRAYS = {"k": K, "ks": KS, "l": L, "ls": LS, "m": W, "ms": WS}
FLOATS = {"f": RNG.standard_normal((8, 8, 3, 3)).astype(np.float32)}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        # A Conv's answer behind its activation, a pool with its scale, what a Gemm reads.
        (
            "a = Conv<pads=[1,1,1,1]>(x, w) b = Relu(a) c = MaxPool<kernel_shape=[6,6]>(b)"
            " d = Flatten(c) y = MatMul(d, u)",
            {"x": "x", "b": "b", "c": "b", "d": "b"},
        ),
        # A sum of two that are quantized; its activation goes with it.
        (
            "a = Conv<pads=[1,1,1,1]>(x, w) b = Relu(a) c = Conv<pads=[1,1,1,1]>(b, v)"
            " d = Add(c, b) e = Relu(d) p = GlobalAveragePool(e) q = Flatten(p) y = MatMul(q, u)",
            {"x": "x", "b": "b", "c": "c", "e": "e", "p": "p", "q": "p"},
        ),
        # What leads to no integer layer stays.
        (
            "a = Conv<pads=[1,1,1,1]>(x, w) b = Relu(a) c = GlobalAveragePool(b) y = Flatten(c)",
            {"x": "x", "b": "b"},
        ),
        # Nor is a sum quantized of which one part is not, or another operator's answer.
        (
            "a = Conv<pads=[1,1,1,1]>(x, w) n = Sigmoid(a) s = Add(a, n)"
            " c = Conv<pads=[1,1,1,1]>(s, v) p = GlobalAveragePool(c) q = Flatten(p)"
            " y = Softmax(q)",
            {"x": "x", "a": "a", "s": "s", "c": "c"},
        ),
        # The model's own outputs are floats.
        ("a = Conv<pads=[1,1,1,1]>(x, w) y = Relu(a)", {"x": "x"}),
        # A layer of floats neither reads nor gives any.
        (
            "a = Conv<pads=[1,1,1,1]>(x, w) b = Relu(a) c = Conv<pads=[1,1,1,1]>(b, f) y = Relu(c)",
            {"x": "x", "b": "b"},
        ),
    ],
)
def test_tensors_around_integer_layers_are_quantized(body: str, expected: dict[str, str]) -> None:
    text = f"(float[N,3,6,6] x) => (float y) {{ {CONVS} {body} }}"
    assert quantized_tensors(proto(text, **ARRAYS, **FLOATS)) == expected


NETWORK = (
    f"(float[N,3,6,6] x) => (float[N,8] y) {{ {CONVS} a = Conv<pads=[1,1,1,1]>(x, w) b = Relu(a)"
    " c = Conv<pads=[1,1,1,1]>(b, v) d = Add(c, b) e = Relu(d) g = Conv<pads=[1,1,1,1]>(e, f)"
    " p = GlobalAveragePool(g) y = Flatten(p) }"
)
FEEDS = {"x": RNG.standard_normal((5, 3, 6, 6)).astype(np.float32)}
SCALES = {
    "x": ActivationScale(0.03, 128),
    "b": ActivationScale(0.02, 0),
    "c": ActivationScale(0.02, 128),
}


def test_what_is_told_is_read_by_all_but_layers_of_floats(tmp_path: Path) -> None:
    before = proto(NETWORK, **ARRAYS, **FLOATS)
    after = with_quantized(before, SCALES)
    onnx.checker.check_model(after, full_check=True)
    # Each number of a scale or a zero point is there once.
    new = {t.name for t in after.graph.initializer} - {t.name for t in before.graph.initializer}
    assert len(new) == 2 + 2
    pairs = quantized_pairs(after.graph)
    assert {pair[0].input[0] for pair in pairs.values()} == set(SCALES)

    # By hand: from tensor to tensor, each quantized before it goes on.
    def part(text: str, **feeds: np.ndarray) -> np.ndarray:
        made = proto(text, **ARRAYS, **FLOATS)
        return run(made, feeds)["y"]

    x = fake_quantized(FEEDS["x"], SCALES["x"])
    b = part(
        f"(float[N,3,6,6] x) => (float[N,8,6,6] y) {{ {CONVS} a = Conv<pads=[1,1,1,1]>(x, w)"
        " y = Relu(a) }",
        x=x,
    )
    b = fake_quantized(b, SCALES["b"])
    c = part(
        f"(float[N,8,6,6] x) => (float[N,8,6,6] y) {{ {CONVS} y = Conv<pads=[1,1,1,1]>(x, v) }}",
        x=b,
    )
    e = np.maximum(fake_quantized(c, SCALES["c"]) + b, 0)
    y = part(
        "(float[N,8,6,6] x) => (float[N,8] y) { g = Conv<pads=[1,1,1,1]>(x, f)"
        " p = GlobalAveragePool(g) y = Flatten(p) }",
        x=e,
    )
    # The same kernels on the same numbers.
    np.testing.assert_allclose(run(after, FEEDS)["y"], y, rtol=1e-6, atol=1e-6)
    assert np.abs(run(before, FEEDS)["y"] - y).max() > 1e-4


def test_signed_integers_share_one_zero_point(tmp_path: Path) -> None:
    before = proto(NETWORK, **ARRAYS, **FLOATS)
    scales = {name: ActivationScale(one.scale, 0, signed=True) for name, one in SCALES.items()}
    after = with_quantized(before, scales)
    onnx.checker.check_model(after, full_check=True)
    known = {t.name for t in before.graph.initializer}
    new = [numpy_helper.to_array(t) for t in after.graph.initializer if t.name not in known]
    assert sorted(str(values.dtype) for values in new) == ["float32", "float32", "int8"]
    assert [int(values) for values in new if values.dtype == np.int8] == [0]
    # Half of the unsigned integers is all that they tell of what a Relu leaves.
    assert not np.array_equal(
        run(after, FEEDS)["y"], run(with_quantized(before, SCALES), FEEDS)["y"]
    )


def test_a_file_goes_back_to_floats(tmp_path: Path) -> None:
    before = proto(NETWORK, **ARRAYS, **FLOATS)
    written = saved(with_quantized(before, SCALES), tmp_path)
    back = in_floats(written)
    onnx.checker.check_model(back, full_check=True)
    assert {node.op_type for node in back.graph.node}.isdisjoint(
        {"QuantizeLinear", "DequantizeLinear"}
    )
    assert {t.name for t in back.graph.initializer} == {"w", "v", "u", "f"}
    # Kernels may sum constant weights in another order than computed ones.
    np.testing.assert_allclose(run(back, FEEDS)["y"], run(before, FEEDS)["y"], rtol=1e-5, atol=1e-5)
    weights = dequantized_weights(written)
    np.testing.assert_array_equal(weights["w"], K * KS.reshape(-1, 1, 1, 1))
