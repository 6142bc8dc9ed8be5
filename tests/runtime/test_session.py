"""Sessions: what opens, what is refused and how it is said, and where values stay."""

import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnx_graphs import node, runnable

from onnx_relusv.core.blocks import Runnable
from onnx_relusv.core.errors import InputError, UsageError
from onnx_relusv.runtime.providers import choose_provider
from onnx_relusv.runtime.session import (
    CPU,
    CUDA,
    Session,
    as_array,
    runtime_version,
)

HAS_CUDA = CUDA in onnxruntime.get_available_providers()
WEIGHT = np.arange(12, dtype=np.float32).reshape(4, 3)


def product() -> Runnable:
    return runnable([node("MatMul", ["x", "w"], "y")], {"x": ("n", 4)}, ["y"], {"w": WEIGHT})


def test_a_model_in_memory_and_in_a_file(tmp_path: Path) -> None:
    x = np.ones((2, 4), np.float32)
    path = tmp_path / "model.onnx"
    path.write_bytes(product().model)
    for source in (product(), path):
        for optimized in (False, True):
            session = Session(source, CPU, optimized=optimized, threads=1)
            assert session.provider == CPU
            assert session.output_names == ["y"]
            assert np.array_equal(session.run({"x": x})["y"], x @ WEIGHT)


def test_outputs_by_name() -> None:
    nodes = [node("Relu", ["x"], "a"), node("Neg", ["x"], "b")]
    session = Session(runnable(nodes, {"x": (2,)}, ["a", "b"]), CPU)
    x = np.array([-1, 2], np.float32)
    assert list(session.run({"x": x})) == ["a", "b"]
    assert list(session.run({"x": x}, ["b"])) == ["b"]
    assert session.run({"x": x}, ["b"])["b"].tolist() == [1, -2]


def test_optimisation_is_a_choice() -> None:
    nodes = [node("Add", ["x", "zero"], "sum"), node("Relu", ["sum"], "y")]
    model = runnable(nodes, {"x": (2,)}, ["y"], {"zero": np.zeros(2, np.float32)})
    x = np.array([-1, 2], np.float32)
    levels = onnxruntime.GraphOptimizationLevel
    for optimized, level in ((True, levels.ORT_ENABLE_ALL), (False, levels.ORT_DISABLE_ALL)):
        session = Session(model, CPU, optimized=optimized)
        options = session._session.get_session_options()
        assert options.graph_optimization_level == level
        assert session.run({"x": x})["y"].tolist() == [0, 2]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
def test_arrays_handed_in(dtype: type) -> None:
    values = np.array([[1.5, -2.0], [0.25, 3.0]]).astype(dtype)
    element_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    stub = TensorProto(
        name="w",
        data_type=element_type,
        dims=values.shape,
        data_location=TensorProto.EXTERNAL,
    )
    stub.external_data.add(key="location", value="handed in")
    graph = helper.make_graph(
        [node("Cast", ["w"], "wide", to=TensorProto.FLOAT), node("Add", ["wide", "x"], "y")],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 2])],
        [stub],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content = model.SerializeToString()
    x = np.ones((2, 2), np.float32)
    session = Session(Runnable(content, {"w": values}), CPU)
    expected = values.astype(np.float32) + 1
    del values  # the session keeps it alive
    for _ in range(3):
        assert np.array_equal(session.run({"x": x})["y"], expected)
    with pytest.raises(InputError, match="cannot open"):
        Session(Runnable(content, {}), CPU)


def unknown_operator() -> Runnable:
    return runnable([node("NoSuchOperator", ["x"], "y")], {"x": (2,)}, ["y"])


@pytest.mark.parametrize(
    "source",
    [
        Runnable(b"not a model", {}),
        Runnable(b"", {}),
        Runnable(product().model[:-20], {}),
        unknown_operator(),
        runnable([node("Relu", ["missing"], "y")], {"x": (2,)}, ["y"]),
        Path("no such file.onnx"),
    ],
    ids=["text", "empty", "truncated", "operator", "tensor", "path"],
)
def test_broken_models(source: Runnable | Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="onnxruntime cannot open the model: ") as caught:
        Session(source, CPU)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None
    # The message is ours to print, and onnxruntime's log stays silent.
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "feeds",
    [
        {},
        {"z": np.ones((2, 4), np.float32)},
        {"x": np.ones((2, 5), np.float32)},
        {"x": np.ones(4, np.float32)},
        {"x": np.ones((2, 4), np.float64)},
    ],
    ids=["none", "name", "shape", "rank", "type"],
)
def test_feeds_that_do_not_fit(
    feeds: dict[str, np.ndarray], capfd: pytest.CaptureFixture[str]
) -> None:
    session = Session(product(), CPU)
    with pytest.raises(InputError, match="onnxruntime cannot run the model: ") as caught:
        session.run(feeds)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="onnxruntime cannot run the model: "):
        session.run_on_device(feeds, ["y"])
    with pytest.raises(InputError):
        session.run({"x": np.ones((2, 4), np.float32)}, ["no such output"])
    assert capfd.readouterr() == ("", "")


def test_values_stay_on_the_device_between_runs() -> None:
    nodes = [node("Add", ["x", "x"], "y"), node("Neg", ["x"], "z")]
    session = Session(runnable(nodes, {"x": ("n", "m")}, ["y", "z"]), CPU)
    start = np.array([[1.0, 2.0]], np.float32)
    value = start
    for _ in range(4):
        value = session.run_on_device({"x": value}, ["y"])["y"]
    assert not isinstance(value, np.ndarray)
    assert np.array_equal(value.numpy(), 16 * start)
    both = session.run_on_device({"x": value}, ["z", "y"])
    assert list(both) == ["z", "y"]
    assert np.array_equal(both["z"].numpy(), -16 * start)


def test_arrays_in_any_layout() -> None:
    model = runnable([node("Identity", ["x"], "y")], {"x": ("n", "m")}, ["y"])
    session = Session(model, CPU)
    rows = np.random.default_rng(0).standard_normal((500, 700)).astype(np.float32)
    for x in (rows.T, rows[::2, ::3], np.asfortranarray(rows)):
        assert np.array_equal(session.run({"x": x})["y"], x)
        assert np.array_equal(session.run_on_device({"x": x}, ["y"])["y"].numpy(), x)


def test_the_provider_that_is_chosen() -> None:
    assert choose_provider("cpu") == CPU
    assert choose_provider("auto") in (CPU, CUDA)
    assert runtime_version() == onnxruntime.__version__


@pytest.mark.skipif(HAS_CUDA, reason="this onnxruntime has a CUDA provider")
def test_cuda_without_a_cuda_provider() -> None:
    assert choose_provider("auto") == CPU
    with pytest.raises(UsageError, match=r"--provider cuda: .*no CUDA provider") as caught:
        choose_provider("cuda")
    assert 'pip install "onnx-relusv[gpu]"' in str(caught.value)
    assert "--provider cpu" in str(caught.value)


@pytest.mark.gpu
def test_cuda_where_there_is_one() -> None:
    assert choose_provider("auto") == choose_provider("cuda") == CUDA
    session = Session(product(), CUDA)
    assert session.provider == CUDA
    x = np.random.default_rng(0).standard_normal((64, 4)).astype(np.float32)
    # Four products a sum in float32: TF32 would be off by 1e-3.
    assert np.allclose(session.run({"x": x})["y"], x @ WEIGHT, rtol=0, atol=1e-4)
    value = session.run_on_device({"x": x}, ["y"])["y"]
    assert value.device_name() == "cuda"


WITHOUT_ONNXRUNTIME = """
import sys
sys.modules["onnxruntime"] = None
from onnx_relusv.core.errors import MissingRuntimeError
from onnx_relusv.core.blocks import (Runnable)
from onnx_relusv.runtime.providers import choose_provider
from onnx_relusv.runtime.session import Session, runtime_version
for call in (
    runtime_version,
    lambda: choose_provider("cpu"),
    lambda: choose_provider("auto"),
    lambda: choose_provider("cuda"),
    lambda: Session(Runnable(b"", {}), "CPUExecutionProvider"),
):
    try:
        call()
    except MissingRuntimeError as error:
        print(error.exit_code, error)
"""


def test_without_onnxruntime() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_ONNXRUNTIME], capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 5
    for line in lines:
        assert line.startswith("1 onnxruntime is not installed.")
        assert 'pip install "onnx-relusv[cpu]"' in line
        assert 'pip install "onnx-relusv[gpu]"' in line


def test_a_model_with_external_data_beside_it(tmp_path: Path) -> None:
    proto = onnx.load_from_string(product().model)
    onnx.save(
        proto,
        tmp_path / "model.onnx",
        save_as_external_data=True,
        location="model.data",
        size_threshold=0,
    )
    x = np.ones((2, 4), np.float32)
    path = tmp_path / "model.onnx"
    assert np.array_equal(Session(path, CPU).run({"x": x})["y"], x @ WEIGHT)
    (tmp_path / "model.data").unlink()
    with pytest.raises(InputError, match="cannot open"):
        Session(path, CPU)


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("kind", [TensorProto.STRING, TensorProto.BFLOAT16])
def test_feeds_that_numpy_has_no_type_of_its_own_for(kind: int, on_device: bool) -> None:
    graph = helper.make_graph(
        [node("Cast", ["x"], "y", to=TensorProto.FLOAT)],
        "cast",
        [helper.make_tensor_value_info("x", kind, ["n", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = Session(Runnable(proto.SerializeToString(), {}), CPU)
    text = np.array([["1", "2.5"]], object)
    numbers = np.array([[1, 2.5]], ml_dtypes.bfloat16)
    feeds = {"x": text if kind == TensorProto.STRING else numbers}
    if on_device:
        found = as_array(session.run_on_device(feeds, ["y"])["y"])
    else:
        found = session.run(feeds)["y"]
    assert found.tolist() == [[1, 2.5]]


def test_bfloat16_that_a_run_hands_back() -> None:
    """Beside a sequence and text, of which onnxruntime makes no OrtValues; empty, and the rest."""
    graph = helper.make_graph(
        [
            node("Cast", ["x"], "low", to=TensorProto.BFLOAT16),
            node("Cast", ["x"], "text", to=TensorProto.STRING),
            node("SequenceConstruct", ["x", "x"], "twice"),
            node("Identity", ["x"], "same"),
        ],
        "several",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [
            helper.make_tensor_sequence_value_info("twice", TensorProto.FLOAT, None),
            helper.make_tensor_value_info("low", TensorProto.BFLOAT16, ["n", 2]),
            helper.make_tensor_value_info("text", TensorProto.STRING, ["n", 2]),
            helper.make_tensor_value_info("same", TensorProto.FLOAT, ["n", 2]),
        ],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = Session(Runnable(proto.SerializeToString(), {}), CPU)
    x = np.array([[1, 1 + 2**-9], [-3.5, 1e30]], np.float32)
    found = session.run({"x": x})
    assert list(found) == ["twice", "low", "text", "same"]
    low = x.astype(ml_dtypes.bfloat16)
    assert found["low"].dtype == low.dtype
    np.testing.assert_array_equal(found["low"], low)
    assert found["low"].tolist() != x.tolist()  # rounded, as no float32 is
    np.testing.assert_array_equal(found["same"], x)
    np.testing.assert_array_equal(found["twice"], [x, x])
    assert found["text"][0, 0] == "1"
    np.testing.assert_array_equal(as_array(session.run_on_device({"x": x}, ["low"])["low"]), low)
    empty = session.run({"x": x[:0]}, ["low"])["low"]
    assert (empty.shape, empty.dtype) == ((0, 2), low.dtype)


def test_what_onnxruntime_says_is_told_without_places_in_its_source(tmp_path: Path) -> None:
    path = tmp_path / "later.onnx"
    graph = helper.make_graph(
        [node("Reshape", ["x", "s"], "y")],
        "reshape",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"]),
            helper.make_tensor_value_info("s", TensorProto.INT64, [1]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(proto, path)
    feeds = {"x": np.ones(2, np.float32), "s": np.array([3])}
    with pytest.raises(Exception, match=r"onnxruntime(_src)?/.*ReshapeHelper\("):  # by itself
        onnxruntime.InferenceSession(path).run(None, feeds)
    with pytest.raises(InputError, match="cannot be reshaped to the requested shape") as run:
        Session(path, CPU).run(feeds)
    proto.graph.node[0].op_type = "Nonsense"
    onnx.save(proto, path)
    with pytest.raises(InputError, match=r"cannot open the model: .*Nonsense") as opened:
        Session(path, CPU)
    for found in (run, opened):
        assert not any(one in str(found.value) for one in ("_src/", "::", "ONNXRuntimeError"))
