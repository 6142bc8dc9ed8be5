from pathlib import Path

import ml_dtypes
import numpy as np
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


def test_a_stream_keeps_what_is_alive_batch_by_batch(tmp_path: Path) -> None:
    batches = [{"x": np.full(n, n, np.float32), "kept": np.int64(n)} for n in (3, 1)]
    stream = Stream(tmp_path, iter(batches))
    steps: list[int] = []
    later = stream.advanced(doubling(), ("y", "kept"), steps.append)
    assert steps == [1, 1]
    for values, n in zip(later, (3, 1), strict=True):
        assert set(values) == {"y", "kept"}
        np.testing.assert_array_equal(values["y"], np.full(n, 2 * n, np.float32))
        assert values["kept"] == n
    # The stream it came from is as it was.
    np.testing.assert_array_equal(next(iter(stream))["x"], batches[0]["x"])


def test_dropped_streams_leave_no_files(tmp_path: Path) -> None:
    stream = Stream(tmp_path, iter([{"x": np.zeros(4, np.float32)}]))
    later = stream.advanced(None, ("x",), lambda steps: None)
    stream.drop()
    assert len(list(tmp_path.iterdir())) == 1
    later.drop()
    assert not list(tmp_path.iterdir())


def test_types_survive_the_disk(tmp_path: Path) -> None:
    values = {
        "half": np.arange(3).astype(np.float16),
        "brain": np.arange(3).astype(ml_dtypes.bfloat16),
        "flag": np.array(True),
        "none": np.zeros((0, 2), np.float32),
    }
    back = next(iter(Stream(tmp_path, iter([values]))))
    for name, value in values.items():
        assert back[name].dtype == value.dtype
        assert back[name].shape == value.shape
        assert back[name].tobytes() == value.tobytes()
