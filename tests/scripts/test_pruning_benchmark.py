"""The benchmark of pruning: shares that are removed by hand, and which nodes are counted as cut."""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="module", autouse=True)
def _scripts_on_the_path() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS / "benchmarks"))
        yield


def _part(name: str) -> ModuleType:
    return importlib.import_module(name)


@pytest.mark.parametrize("with_samples", [True, False])
def test_every_group_loses_its_share(tmp_path: Path, with_samples: bool) -> None:
    model, images = _network(tmp_path)
    small = tmp_path / "small.onnx"
    samples = images if with_samples else None
    _part("layer_shares").without_share(model, 0.75, small, samples, tmp_path / "cache")
    weights = [tensor.dims for tensor in onnx.load(small).graph.initializer if len(tensor.dims) > 1]
    # A quarter of 8 channels and of 12 neurons is left; the depthwise Conv goes along.
    assert sorted(map(list, weights)) == [[2, 1, 3, 3], [2, 3, 3, 3], [3, 2 * 36], [5, 3]]


def test_cut_nodes_are_those_with_fewer_channels(tmp_path: Path) -> None:
    model, images = _network(tmp_path)
    small = tmp_path / "small.onnx"
    _part("layer_shares").without_share(model, 0.5, small, images, tmp_path / "cache")
    count = _part("cut_shares").cut_share
    # The first Conv and the first Gemm; a depthwise Conv has no channels of its own, and those of
    # the last Gemm are an output, though a Softmax lies between.
    found = count(model, small, images)
    assert (found.could, found.may, found.did) == (2, 2, 2)
    assert count(model, model, images).did == 0


def test_neuron_merging_is_exact_on_multiples_and_keeps_the_largest() -> None:
    merging = _part("neuron_merging")
    rng = np.random.default_rng(0)
    weight, bias = rng.standard_normal((4, 6)), rng.standard_normal(4)
    weight /= abs(weight).sum(axis=1, keepdims=True)
    # Every unit of the second half is half of one of the first, and so smaller than any of these.
    layers = [
        (np.concatenate([weight, weight / 2]), np.concatenate([bias, bias / 2])),
        (rng.standard_normal((3, 8)), rng.standard_normal(3)),
    ]
    inputs = rng.standard_normal((50, 6))

    def outputs(layers: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        (first, one), (second, other) = layers
        return np.asarray(np.maximum(inputs @ first.T + one, 0) @ second.T + other)

    smaller = merging.merged(layers, 0.5)
    assert smaller[0][0].shape == (4, 6)
    # Exact but for rounding: a Relu passes a positive factor on.
    np.testing.assert_allclose(outputs(smaller), outputs(layers), rtol=1e-12, atol=1e-12)
    cut = merging.merged(layers, 0.5, merging=False)
    np.testing.assert_array_equal(cut[0][0], smaller[0][0])
    assert abs(outputs(cut) - outputs(layers)).max() > 0.1
    # What is like no kept unit goes without a trace: its cosine is below the threshold.
    lone = [(np.diag([3.0, 2.0, 1.0, 0.5]), np.zeros(4)), layers[1]]
    lone[1] = (rng.standard_normal((3, 4)), np.zeros(3))
    np.testing.assert_array_equal(merging.merged(lone, 0.5)[1][0], lone[1][0][:, :2])


def test_neuron_merging_writes_a_model_that_runs(tmp_path: Path) -> None:
    merging = _part("neuron_merging")
    model = SCRIPTS.parent / "models" / "lenet_300_100.onnx"
    merging.merged_model(model, 0.8, tmp_path / "small.onnx")
    shapes = {tuple(one.dims) for one in onnx.load(tmp_path / "small.onnx").graph.initializer}
    assert {(60, 784), (20, 60), (10, 20)} <= shapes
    session = onnxruntime.InferenceSession(
        tmp_path / "small.onnx", providers=["CPUExecutionProvider"]
    )
    found = session.run(None, {"image": np.zeros((2, 1, 28, 28), np.float32)})[0]
    assert found.shape == (2, 10)


def _network(folder: Path) -> tuple[Path, Path]:
    """A Conv, BatchNormalization, a depthwise Conv, two Gemms and a Softmax, and images for it."""
    rng = np.random.default_rng(0)

    def drawn(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    constants = {
        "kernel": drawn(8, 3, 3, 3),
        "scale": 1 + drawn(8) ** 2,
        "offset": drawn(8),
        "mean": drawn(8),
        "variance": 1 + drawn(8) ** 2,
        "depthwise": drawn(8, 1, 3, 3),
        "depthwise_bias": drawn(8),
        # Scores of ordinary size: a Softmax makes an absolute error of them a relative one.
        "hidden": drawn(12, 8 * 36) / np.float32(17),
        "hidden_bias": drawn(12),
        "last": drawn(5, 12) / np.float32(4),
        "last_bias": drawn(5),
    }
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["conv"], pads=[1, 1, 1, 1]),
        helper.make_node(
            "BatchNormalization", ["conv", "scale", "offset", "mean", "variance"], ["normal"]
        ),
        helper.make_node("Relu", ["normal"], ["first"]),
        helper.make_node(
            "Conv", ["first", "depthwise", "depthwise_bias"], ["apart"], group=8, pads=[1, 1, 1, 1]
        ),
        helper.make_node("Relu", ["apart"], ["second"]),
        helper.make_node("Flatten", ["second"], ["flat"]),
        helper.make_node("Gemm", ["flat", "hidden", "hidden_bias"], ["sum"], transB=1),
        helper.make_node("Relu", ["sum"], ["third"]),
        helper.make_node("Gemm", ["third", "last", "last_bias"], ["scores"], transB=1),
        helper.make_node("Softmax", ["scores"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 6, 6])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 5])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model, images = folder / "model.onnx", folder / "images.npy"
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=opset), model)
    np.save(images, drawn(64, 3, 6, 6))
    return model, images
