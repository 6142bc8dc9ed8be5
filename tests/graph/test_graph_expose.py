"""Models as sessions open them: inner tensors as outputs, data from wherever it lies."""

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from graphs import model_proto, newest_opset, normal, run, saved
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnx_relusv.graph.model import Model, all_tensors, read_model
from onnx_relusv.graph.reference import external_stub, runnable
from onnx_relusv.runtime.session import CPU, Session

VECTORS = {"x": normal(3, 6)}
TEXT = "(float[N,6] x) => (y) { h = Gemm(x, w, b) y = Relu(h) }"
ARRAYS = {"w": normal(6, 5), "b": normal(5)}


def outside(proto: ModelProto, folder: Path) -> Model:
    """The model with every tensor, those in nodes too, in a data file."""
    onnx.save(
        proto,
        folder / "outside.onnx",
        save_as_external_data=True,
        location="outside.bin",
        size_threshold=0,
        convert_attribute=True,
    )
    model = read_model(folder / "outside.onnx")
    assert all(t.data_location == TensorProto.EXTERNAL for t in all_tensors(model.proto.graph))
    return model


def opened(model: Model, exposed: tuple[str, ...] = ()) -> Session:
    return Session(runnable(model, exposed=exposed), CPU, optimized=False)


def test_inner_tensors_become_outputs_behind_the_models_own(tmp_path: Path) -> None:
    proto = model_proto(TEXT, ARRAYS)
    session = opened(saved(proto, tmp_path), ("h", "x", "y", "h", "w"))
    assert session.output_names == ["y", "h", "x", "w"]
    result, exact = session.run(VECTORS), run(proto, VECTORS, ["h"])
    np.testing.assert_array_equal(result["h"], exact["h"])
    np.testing.assert_array_equal(result["y"], exact["y"])
    np.testing.assert_array_equal(result["x"], VECTORS["x"])
    np.testing.assert_array_equal(result["w"], ARRAYS["w"])


def test_the_model_is_not_changed(tmp_path: Path) -> None:
    model = saved(model_proto(TEXT, ARRAYS), tmp_path)
    before = model.proto.SerializeToString(deterministic=True)
    runnable(model, exposed=["h"])
    assert model.proto.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("listed", [(), ("w",), ("w", "b")])
def test_initializers_of_old_files_need_not_be_inputs(
    listed: tuple[str, ...], tmp_path: Path
) -> None:
    """Onnxruntime opens such a file as long as every initializer is read or listed."""
    proto = model_proto(TEXT, ARRAYS, opset=9, ir_version=3)
    x = proto.graph.input[0]
    del proto.graph.input[:]
    proto.graph.input.append(x)
    for name in listed:
        proto.graph.input.append(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ARRAYS[name].shape)
        )
    model = saved(proto, tmp_path)
    exact = run(model.path, VECTORS)["y"]
    changed = ModelProto()
    changed.CopyFrom(proto)
    changed.graph.node[0].input[1] = "v"
    changed.graph.initializer.append(numpy_helper.from_array(ARRAYS["w"], "v"))
    session = Session(runnable(model, changed), CPU, optimized=False)
    np.testing.assert_array_equal(session.run(VECTORS)["y"], exact)
    if "w" not in listed:
        with pytest.raises(Exception, match="Missing: w"):
            run(changed, VECTORS)


@pytest.mark.parametrize("opset", [7, 9, 17])
def test_external_initializers(opset: int, tmp_path: Path) -> None:
    proto = model_proto(TEXT, ARRAYS, opset=opset)
    exact = run(proto, VECTORS)["y"]
    model = outside(proto, tmp_path)
    assert model.has_external_data
    source = runnable(model)
    assert len(source.model) < 800  # the weights are not in it
    assert not source.arrays
    assert source.folder == tmp_path
    np.testing.assert_array_equal(opened(model).run(VECTORS)["y"], exact)


def test_external_tensors_in_nodes(tmp_path: Path) -> None:
    proto = model_proto(
        "(float[N,6] x, bool c) => (y) { h = MatMul(x, w) y = If(c) <"
        " then_branch = t () => (float[N,5] a) { a = Add(h, b) },"
        " else_branch = e () => (float[N,5] d) { d = Sub(h, b) }> }",
        {"b": normal(5)},
    )
    constant = helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(normal(6, 5)))
    proto.graph.node.insert(0, constant)
    for number, attribute in enumerate(proto.graph.node[2].attribute):
        # Branches may both call a tensor by one name and mean different ones.
        scale = numpy_helper.from_array(np.float32([2 + number]), "scale")
        attribute.g.initializer.append(scale)
        attribute.g.node[0].input[1] = "scaled"
        node = helper.make_node("Mul", ["b", "scale"], ["scaled"])
        attribute.g.node.insert(0, node)
    expected = [run(proto, {**VECTORS, "c": np.array(c)})["y"] for c in (True, False)]
    model = outside(proto, tmp_path)
    assert len(list(all_tensors(model.proto.graph))) == 4
    for condition, exact in zip((True, False), expected, strict=True):
        result = opened(model).run({**VECTORS, "c": np.array(condition)})["y"]
        np.testing.assert_array_equal(result, exact)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int64, np.int32, np.uint8, np.bool_])
def test_external_tensors_of_other_types(dtype: type, tmp_path: Path) -> None:
    element = TensorProto.DataType.Name(helper.np_dtype_to_tensor_dtype(np.dtype(dtype))).lower()
    proto = model_proto(f"({element}[N,3] x) => (y) {{ y = Concat<axis=0>(x, w) }}")
    weight = (normal(2, 3) > 0).astype(dtype)
    proto.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    feeds = {"x": np.ones((1, 3), dtype)}
    result = opened(outside(proto, tmp_path)).run(feeds)["y"]
    np.testing.assert_array_equal(result, np.concatenate([feeds["x"], weight]))


def test_external_tensors_without_values_or_axes(tmp_path: Path) -> None:
    proto = model_proto(
        "(float[N,6] x) => (y) { g = Mul(x, s) y = Concat<axis=0>(g, none) }",
        {"none": np.zeros((0, 6), np.float32), "s": np.float32(2)[...]},
    )
    result = opened(outside(proto, tmp_path)).run(VECTORS)["y"]
    np.testing.assert_array_equal(result, 2 * VECTORS["x"])


def test_external_tensors_of_four_bits(tmp_path: Path) -> None:
    proto = model_proto(
        "(float[N,5] x) => (y) { w = DequantizeLinear(q, s) y = MatMul(x, w) }",
        {"s": np.float32(0.5)[...]},
        opset=21,
    )
    # An odd number of values: the last byte is half empty.
    values = np.array([[-8], [7], [3], [-1], [5]], ml_dtypes.int4)
    proto.graph.initializer.append(numpy_helper.from_array(values, "q"))
    feeds = {"x": normal(3, 5)}
    exact = run(proto, feeds)["y"]
    assert newest_opset() >= 21
    np.testing.assert_array_equal(opened(outside(proto, tmp_path)).run(feeds)["y"], exact)


@pytest.mark.parametrize("opset", [7, 17])
def test_external_initializers_that_nobody_reads(opset: int, tmp_path: Path) -> None:
    proto = model_proto(TEXT, ARRAYS | {"idle": normal(7)}, opset=opset)
    exact = run(proto, VECTORS)["y"]
    np.testing.assert_array_equal(opened(outside(proto, tmp_path)).run(VECTORS)["y"], exact)


def test_derived_models_bring_their_own_arrays(tmp_path: Path) -> None:
    model = outside(model_proto(TEXT, ARRAYS), tmp_path)
    derived = ModelProto()
    derived.CopyFrom(model.proto)
    del derived.graph.initializer[0]
    derived.graph.initializer.append(external_stub("w", 2 * ARRAYS["w"]))
    source = runnable(model, derived, ["h"], {"w": 2 * ARRAYS["w"]})
    result = Session(source, CPU, optimized=False).run(VECTORS)["h"]
    exact = run(model_proto(TEXT, {**ARRAYS, "w": 2 * ARRAYS["w"]}), VECTORS, ["h"])["h"]
    np.testing.assert_array_equal(result, exact)
