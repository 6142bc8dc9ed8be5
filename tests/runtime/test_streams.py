from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper

from onnx_relusv.core.blocks import Runnable
from onnx_relusv.runtime.session import CPU, Session
from onnx_relusv.runtime.streams import Stream


def doubling() -> Session:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xy"]
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])], "g", [values[0]], [values[1]]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return Session(Runnable(model.SerializeToString(), {}), CPU)


def test_a_stream_keeps_what_is_alive_batch_by_batch() -> None:
    batches = [{"x": np.full(n, n, np.float32), "kept": np.int64(n)} for n in (3, 1)]
    stream = Stream(iter(batches))
    steps: list[int] = []
    later = stream.advanced(doubling(), ("y", "kept"), steps.append)
    assert steps == [1, 1]
    for values, n in zip(later, (3, 1), strict=True):
        assert set(values) == {"y", "kept"}
        np.testing.assert_array_equal(values["y"], np.full(n, 2 * n, np.float32))
        assert values["kept"] == n
    # The stream it came from is as it was.
    np.testing.assert_array_equal(next(iter(stream))["x"], batches[0]["x"])


def test_a_stream_is_read_through_changes_and_goes_on_from_them() -> None:
    stream = Stream(iter([{"x": np.full(n, n, np.float32), "z": np.float32(n)} for n in (3, 1)]))
    changed = stream.through({"x": lambda values: values + 1})
    twice = changed.through({"x": lambda values: 10 * values})
    for values, n in zip(changed, (3, 1), strict=True):
        np.testing.assert_array_equal(values["x"], np.full(n, n + 1, np.float32))
        assert values["z"] == n
    # The last change of a tensor is the one that holds, and others stay as they were.
    assert [float(values["x"][0]) for values in twice] == [30, 10]
    assert [float(values["x"][0]) for values in stream] == [3, 1]
    later = changed.advanced(doubling(), ("y",), lambda steps: None)
    assert [float(values["y"][0]) for values in later] == [8, 4]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks at the process's files")
def test_dropped_streams_leave_no_files() -> None:
    before = open_files()
    stream = Stream(iter([{"x": np.zeros(4, np.float32)}]))
    later = stream.advanced(None, ("x",), lambda steps: None)
    assert open_files() == before + 2
    stream.drop()
    assert open_files() == before + 1
    (values,) = later
    later.drop()
    # What is mapped stays as long as it is held.
    assert values["x"].tolist() == [0.0] * 4
    del values
    assert open_files() == before


def test_types_survive_the_disk() -> None:
    values = {
        "half": np.arange(3).astype(np.float16),
        "brain": np.arange(3).astype(ml_dtypes.bfloat16),
        "flag": np.array(True),
        "none": np.zeros((0, 2), np.float32),
        "text": np.array(["a", "b\u5377"], object),
    }
    back = next(iter(Stream(iter([values]))))
    assert back["text"].tolist() == values.pop("text").tolist()
    assert back["text"].dtype == object
    for name, value in values.items():
        assert back[name].dtype == value.dtype
        assert back[name].shape == value.shape
        assert back[name].tobytes() == value.tobytes()
