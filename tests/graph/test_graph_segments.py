"""Segments run one after the other compute what the whole model computes."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import model_proto, normal, run, saved
from onnx import helper, numpy_helper

from onnx_relusv.graph.model import Model, read_model
from onnx_relusv.graph.segments import cuts, segment
from onnx_relusv.runtime.session import CPU, Session

# A residual connection, a constant made of constants, shapes of the input, and a branch that
# reads what was made long before it.
TEXT = (
    "(float[N,6] x, float[N,6] z, bool flag) => (float[N,6] y, float[N,6] e) {"
    " v = Neg(w) a = Gemm(x, v, b) c = Relu(a) d = MatMul(c, w) s = Shape(z) t = Reshape(d, s)"
    " e = Add(t, x) f = Relu(e) g = Gemm(f, w, k)"
    " y = If(flag) <then_branch = p () => (float[N,6] q) { q = Add(g, c) },"
    " else_branch = r () => (float[N,6] u) { u = MatMul(g, w) }> }"
)
ARRAYS = {"w": normal(6, 6), "b": normal(6), "idle": normal(3)}
WANTED = ("x", "c", "f", "g")


def made(folder: Path, *, external: bool = False) -> Model:
    proto = model_proto(TEXT, ARRAYS)
    constant = numpy_helper.from_array(normal(6, seed=1))
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["k"], value=constant))
    onnx.save(
        proto,
        folder / "model.onnx",
        save_as_external_data=external,
        location="data.bin",
        size_threshold=0,
        convert_attribute=True,
    )
    return read_model(folder / "model.onnx")


def feeds(flag: bool) -> dict[str, np.ndarray]:
    return {"x": normal(3, 6), "z": normal(3, 6, seed=1), "flag": np.array(flag)}


def test_cuts_are_where_tensors_are_complete(tmp_path: Path) -> None:
    model = made(tmp_path)
    found = cuts(model, ("f", "c", "x", "f", "z"))
    assert [cut.sources for cut in found] == [("x", "z"), ("c",), ("f",)]
    # Initializers and what is made of them alone (v) need not be carried along.
    assert [cut.live for cut in found] == [
        ("flag", "x", "z"),
        ("c", "flag", "x", "z"),
        ("c", "f", "flag"),
    ]
    assert cuts(model, ()) == []


def one_after_the_other(
    model: Model, places: list[tuple[str, ...]], given: dict[str, np.ndarray]
) -> None:
    """Runs segments and compares what is alive with the whole model's, bit by bit."""
    exact = run(model.path, given, {name for live in places for name in live})
    values = given
    for live in places:
        computed: dict[str, np.ndarray] = {}
        if not set(live) <= set(values):
            part = segment(model, model.proto, values, live)
            session = Session(part, CPU, optimized=False)
            inputs = onnx.load_from_string(part.model).graph.input
            computed = session.run({value.name: values[value.name] for value in inputs})
        values = {name: computed[name] if name in computed else values[name] for name in live}
        for name in live:
            np.testing.assert_array_equal(values[name], exact[name])


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("flag", [False, True])
def test_segments_compute_what_the_whole_does(external: bool, flag: bool, tmp_path: Path) -> None:
    model = made(tmp_path, external=external)
    assert model.has_external_data == external
    places = [cut.live for cut in cuts(model, WANTED)] + [("y",)]
    one_after_the_other(model, places, feeds(flag))


def test_a_segment_has_only_what_it_needs(tmp_path: Path) -> None:
    model = made(tmp_path)
    examples = {"c": normal(3, 6), "x": normal(3, 6), "z": normal(3, 6)}
    graph = onnx.load_from_string(segment(model, model.proto, examples, ("f", "c")).model).graph
    assert [node.op_type for node in graph.node] == ["MatMul", "Shape", "Reshape", "Add", "Relu"]
    assert {tensor.name for tensor in graph.initializer} == {"w"}
    assert {value.name for value in graph.input} == set(examples)
    assert [value.name for value in graph.output] == ["f"]


def test_a_segment_of_a_derived_model(tmp_path: Path) -> None:
    model = made(tmp_path)
    derived = onnx.ModelProto()
    derived.CopyFrom(model.proto)
    derived.graph.initializer[0].CopyFrom(numpy_helper.from_array(2 * ARRAYS["w"], "w"))
    part = segment(model, derived, {"c": normal(3, 6)}, ("d",))
    result = Session(part, CPU, optimized=False).run({"c": normal(3, 6)})["d"]
    expected = normal(3, 6).astype(np.float64) @ (2.0 * ARRAYS["w"])
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)  # float32 sums of six


def test_random_numbers_are_not_constant(tmp_path: Path) -> None:
    proto = model_proto(
        "(float[2,3] x) => (y) { r = RandomNormal<shape=[2,3]>() h = Relu(x) y = Add(h, r) }"
    )
    (cut,) = cuts(saved(proto, tmp_path), ["h"])
    assert cut.live == ("h", "r")


# Two residual connections as exporters write them: the shortcut's map comes behind the main branch,
# or before it; what reads neither lies in between.
SHORTCUTS = (
    "(float[N,6] x) => (float[N,6] y, float[N,6] a) {"
    " a = Gemm(x, w1) b = Relu(a) c = Gemm(b, w2) aside = Neg(x) d = Gemm(x, w3) e = Add(c, d)"
    " f = Relu(e) k = Gemm(f, w4) g = Gemm(f, w5) h = Relu(g) i = Gemm(h, w6) j = Add(i, k)"
    " l = Relu(j) m = Gemm(l, w7) y = Add(m, aside) }"
)
WEIGHTS = {f"w{number}": normal(6, 6, seed=number) for number in range(1, 8)}


def shortcuts(folder: Path) -> Model:
    return saved(model_proto(SHORTCUTS, WEIGHTS), folder)


def test_a_cut_goes_by_what_depends_on_what_and_not_by_the_order_of_nodes(tmp_path: Path) -> None:
    # What c is to be added to is wanted with it. At b nothing but its own two nodes has run; at d,
    # which comes last, the Gemm c has not, though it stands before d.
    found = cuts(shortcuts(tmp_path), ("x", "b", "d", "f", "k", "h", "l"))
    assert [(cut.sources, cut.live) for cut in found] == [
        (("x",), ("x",)),
        (("b",), ("b", "x")),
        (("d",), ("b", "d", "x")),
        (("f",), ("f", "x")),
        (("k",), ("f", "k", "x")),
        (("h",), ("h", "k", "x")),
        (("l",), ("l", "x")),
    ]


def test_what_is_kept_stays_alive_once_it_is_made(tmp_path: Path) -> None:
    model = shortcuts(tmp_path)
    found = cuts(model, ("x", "b", "h"), kept=("a", "y"))
    assert [cut.live for cut in found] == [("x",), ("a", "b", "x"), ("a", "f", "h", "x")]
    one_after_the_other(model, [*(cut.live for cut in found), ("a", "y")], {"x": normal(3, 6)})


@pytest.mark.parametrize(
    "wanted",
    [
        ("x", "b", "f", "h", "l"),
        ("x", "b", "d", "f", "k", "h", "l"),
        ("d", "c", "i", "k"),
        ("l",),
        ("m", "aside"),
    ],
)
def test_segments_between_such_cuts(wanted: tuple[str, ...], tmp_path: Path) -> None:
    model = shortcuts(tmp_path)
    places = [cut.live for cut in cuts(model, wanted)] + [("y",)]
    one_after_the_other(model, places, {"x": normal(3, 6)})


def test_what_a_cut_leaves_out_has_not_run(tmp_path: Path) -> None:
    """A map that is replaced between two cuts acts from there on, wherever its node stands."""
    model, x = shortcuts(tmp_path), normal(3, 6)
    (before, at) = (cut.live for cut in cuts(model, ("b", "d")))
    values = {name: run(model.path, {"x": x}, before)[name] for name in before if name != "x"}
    values["x"] = x
    values["d"] = run(model.path, {"x": x}, at)["d"]
    changed = onnx.ModelProto()
    changed.CopyFrom(model.proto)
    place = [tensor.name for tensor in changed.graph.initializer].index("w2")
    changed.graph.initializer[place].CopyFrom(numpy_helper.from_array(normal(6, 6, seed=9), "w2"))
    part = segment(model, changed, values, ("y",))
    session = Session(part, CPU, optimized=False)
    result = session.run({name: values[name] for name in session.input_names})["y"]
    np.testing.assert_array_equal(result, run(changed, {"x": x})["y"])
    assert np.abs(result - run(model.path, {"x": x})["y"]).max() > 0.1
