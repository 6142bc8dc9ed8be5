"""Parts of the graphs that measure, which are built as ONNX models; opset 17."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto, helper

from onnx_relusv.core.blocks import Runnable
from onnx_relusv.runtime.session import CPU, Feeds, Session

OPSET = 17
FLOAT, DOUBLE, INT = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64

# Of the running thread of Python's; 0 lets onnxruntime choose.
_THREADS: ContextVar[int] = ContextVar("threads of a kernel", default=0)


@contextmanager
def kernel_threads(count: int) -> Iterator[None]:
    """Limits every kernel that this thread of Python's runs meanwhile to so many threads."""
    token = _THREADS.set(count)
    try:
        yield
    finally:
        _THREADS.reset(token)


def node(op: str, inputs: list[str], output: str, **attributes: Any) -> NodeProto:
    """A node with one output."""
    return helper.make_node(op, inputs, [output], **attributes)


def value(name: str, element_type: int, rank: int) -> ValueInfoProto:
    """An input or output of any shape of a rank."""
    return helper.make_tensor_value_info(name, element_type, [None] * rank)


class Kernel(Session):
    """A measuring graph, which is opened once for every number of threads that it runs with.

    A session's threads are fixed when it is opened; how many there may be is not known until a
    kernel runs, and kernels are kept from one run to the next.
    """

    def __init__(self, source: Runnable, provider: str, *, alone: bool = True) -> None:
        self._threads, self._alone = _THREADS.get(), alone
        super().__init__(source, provider, threads=self._threads, alone=alone)
        self._source = source
        self._others: dict[int, Session] = {}

    def run(
        self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Runs the graph, as `Session.run` does, within the threads in force."""
        other = self._other()
        return super().run(feeds, outputs) if other is None else other.run(feeds, outputs)

    def run_on_device(
        self, feeds: Feeds, outputs: Sequence[str], into: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Runs the graph, as `Session.run_on_device` does, within the threads in force."""
        other = self._other()
        if other is None:
            return super().run_on_device(feeds, outputs, into)
        return other.run_on_device(feeds, outputs, into)

    def _other(self) -> Session | None:
        """The session with as many threads as are in force; None if it is this one."""
        threads = _THREADS.get()
        if threads == self._threads or self.provider != CPU:
            return None
        if threads not in self._others:
            # Two threads may both open one; either will do.
            self._others[threads] = Session(
                self._source, self.provider, threads=threads, alone=self._alone
            )
        return self._others[threads]


def open_kernel(graph: GraphProto, provider: str, *, alone: bool = True) -> Session:
    """Opens a graph on a provider.

    Args:
        graph: The graph.
        provider: The execution provider.
        alone: Whether it runs by itself for long, and does not take turns with a model.
    """
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    return Kernel(Runnable(model.SerializeToString(), {}), provider, alone=alone)
