"""Shapes for one sample, read off a run."""

import numpy as np
import onnx
import pytest
from examples import conv
from onnx import TensorProto
from onnx_graphs import conv_node, node, runnable

from onnx_relusv.errors import InputError
from onnx_relusv.records import InputSpec, Runnable
from onnx_relusv.runtime.session import CPU, Session
from onnx_relusv.runtime.shapes import Shape, measured_shapes


def spec(name: str, *shape: int | None, dtype: object = np.float32) -> InputSpec:
    return InputSpec(name, np.dtype(dtype), shape)


def shapes(
    model: Runnable,
    inputs: list[InputSpec],
    tensors: list[str],
    example: dict[str, np.ndarray] | None = None,
) -> dict[str, Shape]:
    return measured_shapes(Session(model, CPU), inputs, tensors, example, np.random.default_rng(0))


def convolution(*axes: int | str) -> Runnable:
    weight = np.ones((5, 3, 3, 3), np.float32)
    layer = conv(3, 5, (3, 3), strides=(2, 1))
    nodes = [conv_node(["x", "w"], "h", layer, 1), node("Relu", ["h"], "y")]
    return runnable(nodes, {"x": axes}, ["h", "y"], {"w": weight})


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_the_batch_is_divided_out(batch: int) -> None:
    example = {"x": np.zeros((batch, 3, 9, 11), np.float32)}
    found = shapes(convolution("n", 3, "h", "w"), [spec("x", None, 3, None, None)], ["h"], example)
    assert found == {"x": (1, 3, 9, 11), "h": (1, 5, 4, 9)}


def test_a_fixed_batch() -> None:
    found = shapes(convolution(4, 3, 9, 11), [spec("x", 4, 3, 9, 11)], ["h", "y"])
    assert found == {"x": (1, 3, 9, 11), "h": (1, 5, 4, 9), "y": (1, 5, 4, 9)}


def test_what_is_no_output_is_passed_over() -> None:
    found = shapes(convolution(1, 3, 9, 11), [spec("x", 1, 3, 9, 11)], ["h", "elsewhere"])
    assert set(found) == {"x", "h"}


def reshaped_to(length: int) -> Runnable:
    """Runs only where a row has this length, as a flattened image does."""
    nodes = [node("Reshape", ["x", "shape"], "rows"), node("MatMul", ["rows", "w"], "y")]
    weight = np.ones((length * length, 2), np.float32)
    return runnable(
        nodes,
        {"x": ("n", "h", "w")},
        ["rows", "y"],
        {"shape": np.array([-1, length * length]), "w": weight},
    )


@pytest.mark.parametrize("length", [224, 32, 8])
def test_synthetic_lengths_are_tried_until_one_runs(length: int) -> None:
    found = shapes(reshaped_to(length), [spec("x", None, None, None)], ["y"])
    assert found["x"][1:] in [(length, length), (224, 224), (64, 64), (256, 256)]
    assert found["y"][1:] == (2,)
    if length == 224:
        assert found == {"x": (1, 224, 224), "y": (1, 2)}


def test_a_model_that_never_runs() -> None:
    with pytest.raises(InputError, match="cannot run the model"):
        shapes(reshaped_to(37), [spec("x", None, None, None)], ["y"])
    # An example is the only one that is tried.
    example = {"x": np.zeros((1, 7, 7), np.float32)}
    with pytest.raises(InputError, match="cannot run the model"):
        shapes(reshaped_to(8), [spec("x", None, None, None)], ["y"], example)


def test_tensors_without_the_batch_keep_their_shape() -> None:
    nodes = [
        node("ReduceSum", ["x"], "total", keepdims=0),
        node("Concat", ["x", "x"], "twice", axis=0),
        node("Concat", ["x", "row"], "longer", axis=0),
    ]
    model = runnable(
        nodes, {"x": ("n", 6)}, ["total", "twice", "longer"], {"row": np.ones((1, 6), "f")}
    )
    example = {"x": np.zeros((4, 6), np.float32)}
    found = shapes(model, [spec("x", None, 6)], ["total", "twice", "longer"], example)
    # Five rows are no multiple of four samples.
    assert found == {"x": (1, 6), "total": (), "twice": (2, 6), "longer": (5, 6)}


def test_whole_number_inputs() -> None:
    model = runnable(
        [node("Gather", ["table", "x"], "y")],
        {"x": ("n", "t")},
        [],
        {"table": np.ones((2, 5), np.float32)},
        element_type=TensorProto.INT64,
    )
    proto = onnx.load_from_string(model.model)
    proto.graph.output.add(name="y").type.tensor_type.elem_type = TensorProto.FLOAT
    found = shapes(
        Runnable(proto.SerializeToString(), {}), [spec("x", None, None, dtype=np.int64)], ["y"]
    )
    assert found == {"x": (1, 224), "y": (1, 224, 5)}
