"""Constant tensors of a graph: initializers, Constant nodes, and Identity nodes in front of them.

An initializer that is also a graph input can be overridden by the caller from IR version 4 on, so
there it is no constant. Before that version every initializer had to be listed as an input, and
runtimes treat it as constant.
"""

from collections import Counter
from collections.abc import Iterator

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from onnx_relusv.graph.model import Model
from onnx_relusv.graph.protos import used_names

_FIRST_IR_WITH_OVERRIDES = 4


class Constants:
    """Looks constant tensors up by the name under which a node reads them."""

    def __init__(self, model: Model) -> None:
        graph = model.proto.graph
        self._model = model
        inputs = {value.name for value in graph.input}
        overridable = inputs if model.proto.ir_version >= _FIRST_IR_WITH_OVERRIDES else set()
        self._tensors: dict[str, TensorProto] = {
            tensor.name: tensor for tensor in graph.initializer if tensor.name not in overridable
        }
        self._identities: dict[str, str] = {}
        for node in graph.node:
            if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
                tensor = _constant_tensor(node)
                if tensor is not None:
                    self._tensors[node.output[0]] = tensor
            elif node.op_type == "Identity" and node.domain in ("", "ai.onnx"):
                self._identities[node.output[0]] = node.input[0]

    def path(self, name: str) -> Iterator[str]:
        """The name itself and the names behind the Identity nodes in front of it."""
        yield name
        while name in self._identities:
            name = self._identities[name]
            yield name

    def root(self, name: str) -> str:
        """The name behind all Identity nodes."""
        *_, root = self.path(name)
        return root

    def reads(self) -> Counter[str]:
        """How often every tensor is read, or handed out as an output, by the name of its root."""
        graph = self._model.proto.graph
        names = [
            name
            for node in graph.node
            # An Identity only hands on.
            if node.op_type != "Identity" or self.tensor(node.input[0]) is None
            for name in used_names([node])
        ]
        return Counter(map(self.root, [*names, *(output.name for output in graph.output)]))

    def tensor(self, name: str) -> TensorProto | None:
        """The tensor that a name stands for, or None where it is not constant."""
        return self._tensors.get(self.root(name))

    def array(self, name: str) -> np.ndarray | None:
        """Its values, or None where it is not constant."""
        tensor = self.tensor(name)
        return None if tensor is None else self._model.array(tensor)

    def scalar(self, name: str) -> float | None:
        """Its value where it is a constant of one element, otherwise None."""
        values = self.array(name)
        return float(values.reshape(())) if values is not None and values.size == 1 else None


def _constant_tensor(node: NodeProto) -> TensorProto | None:
    attribute = node.attribute[0]
    if attribute.name == "value":
        return attribute.t
    if attribute.name in ("value_float", "value_floats"):
        value = helper.get_attribute_value(attribute)
        return numpy_helper.from_array(np.asarray(value, np.float32), node.output[0])
    return None
