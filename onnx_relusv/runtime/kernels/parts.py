"""Small measuring graphs: how they are built and run; opset 17."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from onnx_relusv.core.blocks import Runnable
from onnx_relusv.runtime.providers import kernels_on
from onnx_relusv.runtime.session import CPU, Feeds, Session

OPSET = 17
FLOAT, DOUBLE, INT = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64

# The threads of kernels that the running Python thread starts; 0 lets onnxruntime choose.
_THREADS: ContextVar[int] = ContextVar("threads of a kernel", default=0)


@contextmanager
def kernel_threads(count: int) -> Iterator[None]:
    """Limits the kernels that this Python thread runs within the block to so many threads."""
    token = _THREADS.set(count)
    try:
        yield
    finally:
        _THREADS.reset(token)


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of a graph under construction; arithmetic with it adds nodes to the graph."""

    graph: "Graph"
    name: str

    def __add__(self, other: "Operand") -> "Tensor":
        return self.graph.op("Add", self, other)

    def __sub__(self, other: "Operand") -> "Tensor":
        return self.graph.op("Sub", self, other)

    def __mul__(self, other: "Operand") -> "Tensor":
        return self.graph.op("Mul", self, other)

    def __truediv__(self, other: "Operand") -> "Tensor":
        return self.graph.op("Div", self, other)

    def __matmul__(self, other: "Operand") -> "Tensor":
        return self.graph.op("MatMul", self, other)

    def __gt__(self, other: "Operand") -> "Tensor":
        return self.graph.op("Greater", self, other)

    def __lt__(self, other: "Operand") -> "Tensor":
        return self.graph.op("Less", self, other)

    def transposed(self, *axes: int) -> "Tensor":
        """The tensor with its axes in another order."""
        return self.graph.op("Transpose", self, perm=axes)

    def cast(self, element_type: int) -> "Tensor":
        """The tensor in another element type."""
        return self.graph.op("Cast", self, to=element_type)

    def sum(self, *axes: int, keepdims: bool = True) -> "Tensor":
        """The sum over some axes; over all where none is named."""
        named = [self.graph.constant(np.array(axes))] if axes else []
        return self.graph.op("ReduceSum", self, *named, keepdims=keepdims)


# Numbers become float32 constants.
Operand = Tensor | float


class Graph:
    """A graph under construction.

    Args:
        name: Of the graph.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._inputs: dict[str, ValueInfoProto] = {}
        self._outputs: list[ValueInfoProto] = []
        self._constants: dict[tuple[str, bytes, tuple[int, ...]], TensorProto] = {}
        # The nodes of the graph; behind them those of a Loop's body, while that is built.
        self._nodes: list[list[NodeProto]] = [[]]
        self._made = 0

    def input(self, name: str, rank: int | None, element_type: int = FLOAT) -> Tensor:
        """An input of any lengths; None for any rank. Declared once, however often it is read."""
        if name not in self._inputs:
            self._inputs[name] = _value(name, rank, element_type)
        return Tensor(self, name)

    def constant(self, values: np.ndarray) -> Tensor:
        """A constant; equal ones are stored once."""
        key = (values.dtype.str, values.tobytes(), values.shape)
        if key not in self._constants:
            name = f"constant_{len(self._constants)}"
            self._constants[key] = numpy_helper.from_array(values, name)
        return Tensor(self, self._constants[key].name)

    def op(self, kind: str, *operands: Operand, **attributes: Any) -> Tensor:
        """The output of an operator."""
        name = self._new(kind)
        self._add(
            helper.make_node(kind, [self._read(each) for each in operands], [name], **attributes)
        )
        return Tensor(self, name)

    def loop(
        self,
        steps: int,
        start: Sequence[Tensor],
        body: Callable[..., tuple[Sequence[Tensor], Tensor]],
    ) -> list[Tensor]:
        """A Loop of a fixed number of steps over matrices.

        Args:
            steps: How many.
            start: The state before the first step.
            body: From the number of a step, (), and the state before it to the state behind it,
                and to a matrix that is recorded.

        Returns:
            The last state, and what was recorded, (steps, ...).
        """
        number, going = self._new("number"), self._new("going")
        names = [self._new("state") for _ in start]
        self._nodes.append([])
        after, recorded = body(Tensor(self, number), *(Tensor(self, name) for name in names))
        still_going = self.op("Identity", Tensor(self, going))
        # An output is made by a node of the body, and no two are the same.
        results = [self.op("Identity", each).name for each in (*after, recorded)]
        graph = helper.make_graph(
            self._nodes.pop(),
            "step",
            [
                _value(number, 0, INT),
                _value(going, 0, TensorProto.BOOL),
                *(_value(name, 2) for name in names),
            ],
            [_value(still_going.name, 0, TensorProto.BOOL), *(_value(name, 2) for name in results)],
        )
        count, always = self.constant(np.array(steps)), self.constant(np.array(True))
        outputs = [self._new("loop") for _ in results]
        inputs = [each.name for each in (count, always, *start)]
        self._add(helper.make_node("Loop", inputs, outputs, body=graph))
        return [Tensor(self, name) for name in outputs]

    def output(self, name: str, tensor: Tensor, rank: int, element_type: int = FLOAT) -> None:
        """Makes the output of a node of the graph an output of the graph, under a name."""
        for node in self._nodes[0]:
            for names in (node.input, node.output):
                names[:] = [name if each == tensor.name else each for each in names]
        self._outputs.append(_value(name, rank, element_type))

    def opened(self, provider: str, *, alone: bool = True) -> Session:
        """Opens the graph on a provider.

        Args:
            provider: The execution provider.
            alone: Whether it runs by itself for long, and does not take turns with a model.
        """
        (nodes,) = self._nodes
        graph = helper.make_graph(
            nodes,
            self._name,
            list(self._inputs.values()),
            self._outputs,
            list(self._constants.values()),
        )
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        source = Runnable(model.SerializeToString(), {})
        return _Kernel(source, kernels_on(provider), alone=alone)

    def _new(self, kind: str) -> str:
        self._made += 1
        return f"{kind}_{self._made}"

    def _read(self, operand: Operand) -> str:
        if not isinstance(operand, Tensor):
            operand = self.constant(np.array(operand, np.float32))
        return operand.name

    def _add(self, node: NodeProto) -> None:
        self._nodes[-1].append(node)


def _value(name: str, rank: int | None, element_type: int = FLOAT) -> ValueInfoProto:
    shape = None if rank is None else [None] * rank
    return helper.make_tensor_value_info(name, element_type, shape)


class _Kernel(Session):
    """A measuring graph, which is opened once for every number of threads that it runs with.

    A session's threads are fixed when it is opened; how many there may be is not known until a
    kernel runs, and kernels are kept from one run to the next.
    """

    def __init__(self, source: Runnable, provider: str, *, alone: bool = True) -> None:
        threads = _THREADS.get()
        self._source, self._alone = source, alone
        self._sessions: dict[int, Session] = {threads: self}
        super().__init__(source, provider, threads=threads, alone=alone)

    def run(
        self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Runs the graph, as `Session.run` does, within the threads in force."""
        return Session.run(self._in_force(), feeds, outputs)

    def run_on_device(
        self, feeds: Feeds, outputs: Sequence[str], into: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Runs the graph, as `Session.run_on_device` does, within the threads in force."""
        return Session.run_on_device(self._in_force(), feeds, outputs, into)

    def _in_force(self) -> Session:
        """The session with as many threads as are in force."""
        threads = _THREADS.get()
        if self.provider != CPU:
            return self
        if threads not in self._sessions:
            # Two threads may both open one; either will do.
            self._sessions[threads] = Session(
                self._source, self.provider, threads=threads, alone=self._alone
            )
        return self._sessions[threads]
