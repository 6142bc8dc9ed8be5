"""How many threads onnxruntime gives a session that leaves the number to it."""

from functools import cache
from pathlib import Path

import numpy as np
from onnx import helper

from onnx_relusv.records import Runnable
from onnx_relusv.runtime.session import CPU, Session

# One entry a thread of this process, where the operating system is Linux.
_OWN_THREADS = Path("/proc/self/task")


@cache
def default_threads() -> int | None:
    """Threads that work on one operator; None where the operating system does not list them.

    onnxruntime does not say, so they are counted: a session starts all but the one that calls it.
    Call it where no other thread starts or ends meanwhile.
    """
    if not _OWN_THREADS.is_dir():
        return None
    before = _count()
    session = _smallest()
    started = _count() - before
    session.run({"x": np.zeros(1, np.float32)})
    return max(started, 0) + 1


def _count() -> int:
    return sum(1 for _ in _OWN_THREADS.iterdir())


def _smallest() -> Session:
    value = [helper.make_tensor_value_info(name, 1, [1]) for name in "xy"]
    node = helper.make_node("Relu", ["x"], ["y"])
    graph = helper.make_graph([node], "smallest", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return Session(Runnable(model.SerializeToString(), {}), CPU)
