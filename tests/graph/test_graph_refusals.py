"""What looks like a block and is left alone: every reason, and who else is named in it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from graphs import (
    Searched,
    model_proto,
    normal,
    normalization,
    search,
    search_shapes,
)
from onnx import TensorProto, helper, numpy_helper

VECTORS = {"x": normal(3, 6)}
IMAGES = {"x": normal(1, 4, 8, 8)}
W, B = normal(6, 5), normal(5)
KERNEL = normal(6, 4, 3, 3)


@dataclass(frozen=True, eq=False)
class Case:
    """A model in which the linear map that ends in `h` is refused."""

    text: str
    arrays: Mapping[str, np.ndarray]
    feeds: Mapping[str, np.ndarray]
    reason: str


def of_vectors(body: str, reason: str, **arrays: np.ndarray) -> Case:
    return Case(f"(float[N,6] x) => (y) {{ {body} }}", {"w": W} | arrays, VECTORS, reason)


def of_images(body: str, reason: str, **arrays: np.ndarray) -> Case:
    return Case(f"(float[N,4,8,8] x) => (y) {{ {body} }}", {"k": KERNEL} | arrays, IMAGES, reason)


def not_finite(shape: tuple[int, ...], value: float) -> np.ndarray:
    values = np.abs(normal(*shape))
    values.flat[-1] = value
    return values


CASES = {
    "depthwise": of_images(
        "h = Conv<group=4>(x, d) y = Relu(h)", "depthwise", d=normal(4, 1, 3, 3)
    ),
    "volume": Case(
        "(float[N,2,5,5,5] x) => (y) { h = Conv(x, k) y = Relu(h) }",
        {"k": normal(3, 2, 3, 3, 3)},
        {"x": normal(1, 2, 5, 5, 5)},
        "a Conv with 3 spatial axes",
    ),
    "transposed_input": Case(
        "(float[6,3] x) => (y) { h = Gemm<transA=1>(x, w) y = Relu(h) }",
        {"w": W},
        {"x": normal(6, 3)},
        "its input is transposed (transA)",
    ),
    "vector": Case(
        "(float[6] x) => (y) { h = MatMul(x, w) y = Relu(h) }",
        {"w": W},
        {"x": normal(6)},
        "its input is a vector",
    ),
    "weight_of_three_axes": of_vectors(
        "h = MatMul(x, v) y = Relu(h)", "its weight has 3 axes", v=normal(2, 6, 5)
    ),
    "empty_weight": of_vectors(
        "h = MatMul(x, v) y = Relu(h)", "its weight is empty", v=normal(6, 0)
    ),
    "bias_of_the_samples": of_vectors(
        "h = Gemm(x, w, b) y = Relu(h)", "its bias of shape (3, 5) depends on", b=normal(3, 5)
    ),
    "bias_of_the_rows": of_vectors(
        "h = Gemm(x, w, b) y = Relu(h)", "its bias of shape (3, 1) depends on", b=normal(3, 1)
    ),
    "bias_of_as_many_rows_as_columns": Case(
        "(float[5,6] x) => (y) { h = Gemm(x, w, b) y = Relu(h) }",
        {"w": W, "b": normal(5, 1)},
        {"x": normal(5, 6)},
        "its bias of shape (5, 1) depends on",
    ),
    "computed_bias": of_vectors(
        "c = Cos(b) h = Gemm(x, w, c) y = Relu(h)", "its bias is computed in the graph by Cos", b=B
    ),
    "computed_conv_bias": of_images(
        "m = ReduceMean<keepdims=0>(x) c = Add(m, b) h = Conv(x, k, c) y = Relu(h)",
        "its bias c is computed of the model's inputs",
        b=normal(6),
    ),
    "weight_nan": of_vectors(
        "h = Gemm(x, v) y = Relu(h)", "NaN or infinite", v=not_finite((6, 5), np.nan)
    ),
    "weight_infinite": of_vectors(
        "h = Gemm(x, v) y = Relu(h)", "NaN or infinite", v=not_finite((6, 5), -np.inf)
    ),
    "bias_nan": of_vectors(
        "h = Gemm(x, w, b) y = Relu(h)", "NaN or infinite", b=not_finite((5,), np.nan)
    ),
    "conv_bias_infinite": of_images(
        "h = Conv(x, k, b) y = Relu(h)", "NaN or infinite", b=not_finite((6,), np.inf)
    ),
    "weight_computed": of_vectors(
        "u = Cos(w) v = Neg(u) h = MatMul(x, v) y = Relu(h)",
        "its weight is computed in the graph by Cos",
    ),
    "weight_on_the_left": Case(
        "(float[6,3] x) => (y) { h = MatMul(w, x) y = Relu(h) }",
        {"w": normal(5, 6)},
        {"x": normal(6, 3)},
        "its weight w is its left factor",
    ),
    "no_weight": of_vectors(
        "t = Transpose(x) h = MatMul(x, t) y = Relu(h)", "it has no weight: both of its factors"
    ),
    "input_constant_too": of_vectors(
        "h = MatMul(u, w) g = Add(h, b) y = Relu(x)",
        "its input is constant too",
        u=normal(3, 6),
        b=B,
    ),
    "weight_an_output": of_vectors(
        "h = MatMul(x, w) y = Relu(h)", "its weight also serves the graph's output"
    ),
}


def searched(case: Case, folder: Path) -> Searched:
    proto = model_proto(case.text, case.arrays)
    if case.reason.endswith("the graph's output"):
        proto.graph.output.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, W.shape))
    return search(proto, folder, case.feeds)


@pytest.mark.parametrize("name", CASES)
def test_refused_with_its_reason(name: str, tmp_path: Path) -> None:
    found = searched(CASES[name], tmp_path)
    assert not found.blocks
    assert list(found.reasons) == ["h"]
    assert CASES[name].reason in found.reasons["h"]


@pytest.mark.parametrize("vector", ["gamma", "beta", "mean", "variance"])
def test_a_normalisation_with_nonsense_in_it_is_not_folded(vector: str, tmp_path: Path) -> None:
    for value in (np.nan, np.inf):
        vectors = normalization(5) | {vector: not_finite((5,), value)}
        proto = model_proto(
            "(float[N,6] x) => (y) { h = Gemm(x, w) g = BatchNormalization(h, gamma, beta, mean,"
            " variance) y = Relu(g) }",
            {"w": W, **vectors},
        )
        assert search(proto, tmp_path, VECTORS).block.key == "h"


def test_an_added_bias_with_nonsense_in_it_is_not_folded(tmp_path: Path) -> None:
    case = of_vectors("h = MatMul(x, w) g = Add(h, b) y = Relu(g)", "", b=not_finite((5,), np.inf))
    assert searched(case, tmp_path).block.key == "h"


def test_a_shared_weight_names_the_others(tmp_path: Path) -> None:
    case = of_vectors(
        "g = Gemm(x, w) h = MatMul(x, w) f = Add(g, h) t = Transpose(w) e = MatMul(f, t)"
        " y = Relu(e)",
        "",
    )
    found = searched(case, tmp_path)
    assert not found.blocks
    assert found.reasons == {
        "g": "its weight also serves MatMul h, Transpose t",
        "h": "its weight also serves Gemm g, Transpose t",
        "e": "its weight also serves Gemm g, MatMul h",
    }


def test_a_weight_shared_through_identities(tmp_path: Path) -> None:
    case = of_vectors(
        "v = Identity(w) u = Identity(v) g = MatMul(x, u) s = Sigmoid(g) h = MatMul(x, v)"
        " y = Add(s, h)",
        "",
    )
    found = searched(case, tmp_path)
    assert not found.blocks
    assert found.reasons == {
        "g": "its weight also serves MatMul h",
        "h": "its weight also serves Identity u",
    }


def test_an_overridable_initializer_is_no_constant(tmp_path: Path) -> None:
    text = "(float[N,6] x, float[6,5] w) => (y) { h = MatMul(x, w) y = Relu(h) }"
    overridable = search(model_proto(text, {"w": W}, ir_version=4), tmp_path, VECTORS)
    (reason,) = overridable.reasons.values()
    assert reason.startswith("its weight w is an input of the graph with a default;")
    assert "onnxruntime.tools.remove_initializer_from_input" in reason
    # Before IR version 4 every initializer had to be listed, and none could be overridden.
    listed = model_proto(text.replace(", float[6,5] w", ""), {"w": W}, opset=7)
    assert listed.ir_version == 3
    assert search(listed, tmp_path, VECTORS).block.key == "y"


def test_a_weight_that_is_an_input(tmp_path: Path) -> None:
    proto = model_proto(
        "(float[N,6] x, float[6,5] w) => (y) { v = Identity(w) h = MatMul(x, v) y = Relu(h) }"
    )
    found = search(proto, tmp_path, {**VECTORS, "w": W})
    assert found.reasons == {
        "h": "it has no weight: both of its factors depend on the model's inputs"
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("h = Gemm(x, w, b)", "its bias b is an input of the graph with a default"),
        ("c = Neg(b) h = Gemm(x, w, c)", "its bias c is computed of b, an input of the graph"),
        ("v = Add(w, b) h = Gemm(x, v)", "its weight v is computed of b, an input of the graph"),
    ],
)
def test_a_default_that_a_caller_may_override(text: str, reason: str, tmp_path: Path) -> None:
    proto = model_proto(f"(float[N,6] x, float[5] b) => (y) {{ {text} y = Relu(h) }}", {"w": W})
    proto.graph.initializer.append(numpy_helper.from_array(B, "b"))
    found = search(proto, tmp_path, VECTORS)
    assert found.reasons["h"].startswith(reason)


def test_a_quantised_weight(tmp_path: Path) -> None:
    arrays = {"q": np.ones((6, 5), np.int8), "s": np.float32(0.5), "z": np.int8(0)}
    proto = model_proto(
        "(float[N,6] x) => (y) { v = DequantizeLinear(q, s, z) h = MatMul(x, v) y = Relu(h) }",
        {name: np.asarray(values) for name, values in arrays.items()},
    )
    found = search(proto, tmp_path, VECTORS)
    assert found.reasons == {"h": "its weight is quantised (DequantizeLinear)"}


def test_whole_numbers_are_no_weights(tmp_path: Path) -> None:
    proto = model_proto(
        "(int32[N,6] x) => (y) { h = MatMul(x, w) y = Identity(h) }",
        {"w": np.ones((6, 5), np.int32)},
    )
    found = search(proto, tmp_path, {"x": np.ones((3, 6), np.int32)})
    assert found.reasons == {"h": "its weight is of type INT32"}


def test_a_sparse_weight(tmp_path: Path) -> None:
    proto = model_proto("(float[N,6] x) => (y) { h = MatMul(x, w) y = Relu(h) }")
    values = numpy_helper.from_array(np.ones(2, np.float32), "w")
    indices = numpy_helper.from_array(np.array([3, 7]), "")
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [6, 5]))
    found = search_shapes(proto, tmp_path, {"x": (1, 6), "h": (1, 5)})
    assert found.reasons == {"h": "its weight w is sparse"}


def test_negative_pads(tmp_path: Path) -> None:
    proto = model_proto(
        "(float[N,4,8,8] x) => (y) { h = Conv<pads=[-1,0,0,0]>(x, k) y = Relu(h) }", {"k": KERNEL}
    )
    # Nothing runs it, so its shapes are given.
    found = search_shapes(proto, tmp_path, {"x": (1, 4, 8, 8), "h": (1, 6, 5, 6)})
    assert found.reasons == {"h": "its pads are negative"}


def test_shapes_that_nobody_measured(tmp_path: Path) -> None:
    proto = model_proto("(float[N,6] x) => (y) { h = MatMul(x, w) y = Relu(h) }", {"w": W})
    found = search_shapes(proto, tmp_path, {"x": (1, 6)})
    assert found.reasons == {"h": "its shapes could not be measured"}
