"""What nodes ask of their inputs' axes, against what onnxruntime runs on."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import model_proto, normal
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnx_relusv.core.errors import InputError
from onnx_relusv.graph.channels.input_axes import axis_rules
from onnx_relusv.graph.model import Model, read_model
from onnx_relusv.measuring.trials import input_axes
from onnx_relusv.runtime.session import CPU, Session

# Of each: the graph, its weights, and the only length that its axis k runs at.
GRAPHS = {
    "matmul": ("(float[n,k] x) => (float[n,4] y) { y = MatMul(x, w) }", {"w": (80, 4)}, 80),
    "gemm": (
        "(float[n,k] x) => (float[n,4] y) { y = Gemm<transB=1>(x, w) }",
        {"w": (4, 33)},
        33,
    ),
    "added": ("(float[n,k] x) => (float[n,k] y) { y = Add(x, w) }", {"w": (19,)}, 19),
    "handed on": (
        "(float[n,k] x) => (float[n,4] y) {"
        " c = Cast<to=1>(x) r = Relu(c) s = Mul(r, r) y = MatMul(s, w) }",
        {"w": (21, 4)},
        21,
    ),
    "transposed": (
        "(float[n,3,k] x) => (float[n,3,4] y) { t = Transpose<perm=[2,0,1]>(x)"
        " u = Transpose<perm=[1,2,0]>(t) y = MatMul(u, w) }",
        {"w": (17, 4)},
        17,
    ),
    "concat": (
        "(float[n,k] x) => (float[n,4] y) { c = Concat<axis=1>(x, x) y = MatMul(c, w) }",
        {"w": (24, 4)},
        12,
    ),
    "channels": (
        "(float[n,k,9] x) => (float[n,4,7] y) { y = Conv(x, w) }",
        {"w": (4, 6, 3)},
        6,
    ),
    "through a Conv": (
        "(float[n,1,k] x) => (float[n,2,4] y)"
        " { c = Conv<strides=[2]>(x, v) r = Relu(c) y = MatMul(r, w) }",
        {"v": (2, 1, 5), "w": (11, 4)},
        None,
    ),
    "normalised": (
        "(float[n,3,k] x) => (float[n,3,k] y) { y = LayerNormalization(x, w) }",
        {"w": (23,)},
        23,
    ),
    "recurrent": (
        "(float[t,n,k] x) => (float[t,1,n,5] y) { y = GRU<hidden_size=5>(x, w, v) }",
        {"w": (1, 15, 13), "v": (1, 15, 5)},
        13,
    ),
    "split": (
        "(float[n,k] x) => (float[n,4] y) { a, b = Split<axis=1, num_outputs=2>(x)"
        " s = Add(a, b) y = MatMul(s, w) }",
        {"w": (9, 4)},
        18,
    ),
}


def read(proto: ModelProto, folder: Path) -> Model:
    onnx.save(proto, folder / "m.onnx")
    return read_model(folder / "m.onnx")


def runs(model: Model, x: tuple[int, ...]) -> bool:
    try:
        Session(model.path, CPU).run({"x": normal(*x)})
    except InputError:
        return False
    return True


def with_k(model: Model, length: int) -> tuple[int, ...]:
    own = {"n": 2, "t": 3, "k": length}
    (spec,) = model.inputs
    return tuple(
        own[name] if name else known for name, known in zip(spec.named, spec.shape, strict=True)
    )


@pytest.mark.parametrize("name", GRAPHS)
def test_a_weight_tells_the_axis(name: str, tmp_path: Path) -> None:
    text, weights, expected = GRAPHS[name]
    proto = model_proto(text, {key: normal(*shape) for key, shape in weights.items()}, opset=18)
    model = read(proto, tmp_path)
    found = next(input_axes(model)).lengths(1, 224)["k"]
    assert expected in (None, found)
    assert runs(model, with_k(model, found))
    # The wanted one does not, so that it was the file that told.
    assert not runs(model, with_k(model, 224))


def test_a_flattened_picture(tmp_path: Path) -> None:
    text = (
        "(float[n,3,h,w] x) => (float[n,4] y)"
        " { c = Conv<strides=[2,2]>(x, v) f = Flatten(c) y = MatMul(f, m) }"
    )
    weights = {"v": normal(2, 3, 3, 3), "m": normal(2 * 14 * 14, 4)}
    model = read(model_proto(text, weights), tmp_path)
    lengths = next(input_axes(model)).lengths(1, 224)
    assert lengths["h"] == lengths["w"] in (29, 30)
    assert runs(model, (2, 3, lengths["h"], lengths["w"]))


def test_a_shape_that_nodes_compute(tmp_path: Path) -> None:
    text = (
        "(float[n,k] x) => (float[n,4] y) { s = Shape(x) b = Gather(s, zero) u = Unsqueeze(b, at)"
        " t = Concat<axis=0>(u, rest) r = Reshape(x, t) y = MatMul(r, w) }"
    )
    weights = {
        "zero": np.array(0),
        "at": np.array([0]),
        "rest": np.array([-1, 6]),
        "w": normal(6, 4),
    }
    model = read(model_proto(text, weights), tmp_path)
    lengths = next(input_axes(model)).lengths(1, 224)
    assert lengths["k"] == 228  # the next multiple of 6
    (spec,) = model.inputs
    assert runs(model, (3, lengths["k"]))
    assert spec.axis_names == ("n", "k")


def test_a_batch_that_a_reshape_fixes(tmp_path: Path) -> None:
    text = "(float[n,64] x) => (float[m,4] y) { r = Reshape(x, shape) y = MatMul(r, w) }"
    for shape, expected in (([1, 64], 1), ([-1, 256], 4)):
        weights = {"shape": np.array(shape), "w": normal(shape[1], 4)}
        model = read(model_proto(text, weights), tmp_path)
        for wanted in (1, 3):
            assert next(input_axes(model)).lengths(wanted, 224)["n"] == expected


def test_a_state_that_a_recurrence_reads_has_the_samples_on_another_axis(tmp_path: Path) -> None:
    text = (
        "(float[t,n,3] x, float[1,a,5] h) => (float[t,1,n,5] y)"
        " { y = GRU<hidden_size=5>(x, w, v, , , h) }"
    )
    weights = {"w": normal(1, 15, 3), "v": normal(1, 15, 5)}
    model = read(model_proto(text, weights), tmp_path)
    assert axis_rules(model, model.inputs).same == [("a", "n")]
    axes = next(input_axes(model))
    assert axes.lengths(1, 7) == {"t": 1, "a": 7}


def test_bodies_and_functions_are_walked(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info
    inner = helper.make_graph(
        [helper.make_node("Layer", ["x"], ["z"], domain="own")],
        "inner",
        [],
        [value("z", TensorProto.FLOAT, None)],
    )
    layer = helper.make_function(
        "own",
        "Layer",
        ["a"],
        ["b"],
        [
            helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(normal(29, 4))),
            helper.make_node("MatMul", ["a", "w"], ["b"]),
        ],
        [helper.make_opsetid("", 17)],
    )
    graph = helper.make_graph(
        [helper.make_node("If", ["flag"], ["y"], then_branch=inner, else_branch=inner)],
        "g",
        [value("x", TensorProto.FLOAT, ["n", "k"]), value("flag", TensorProto.BOOL, [])],
        [value("y", TensorProto.FLOAT, None)],
    )
    proto = helper.make_model(
        graph,
        functions=[layer],
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("own", 1)],
        ir_version=8,
    )
    model = read(proto, tmp_path)
    rules = axis_rules(model, model.inputs)
    assert {(rule.length.name, rule.number, rule.certain) for rule in rules.rules} == {
        ("k", 29, False)
    }
    assert next(input_axes(model)).lengths(1, 224) == {"n": 1, "k": 29}
