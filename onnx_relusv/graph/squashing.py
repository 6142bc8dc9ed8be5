"""Outputs of operators that squash numbers into a fixed range, whose resolution is that range's.

A Sigmoid of -17 is 4e-8, and what computes it resolves 3e-8 of its range of 1: relative to itself
it is nothing but rounding. So it is the range that its errors are small beside, or not.
"""

from collections.abc import Iterable

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnx_relusv.graph.protos import FreshNames, copy_fields

# All of them within -1 and 1, but for Softplus, which adds 1 before a logarithm.
SQUASHING = ("Erf", "HardSigmoid", "Sigmoid", "Softmax", "Softplus", "Softsign", "Tanh")
_PASSES_VALUES = {
    "Cast",
    "Dropout",
    "Flatten",
    "Identity",
    "Reshape",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
}
# Neighbouring inputs of a sine of this frequency are moved in unlike ways.
_FREQUENCY = 1e6
_MOVABLE: dict[int, type[np.floating]] = {
    TensorProto.FLOAT: np.float32,
    TensorProto.DOUBLE: np.float64,
}


def maker(proto: ModelProto, name: str) -> NodeProto | None:
    """The node that makes a tensor's values, before what only passes them; None for an input."""
    makers = {output: node for node in proto.graph.node for output in node.output}
    while name in makers:
        node = makers[name]
        if node.op_type not in _PASSES_VALUES:
            return node
        name = node.input[0]
    return None


def squashed(proto: ModelProto, names: Iterable[str]) -> dict[str, str]:
    """Those of some tensors that a squashing operator makes, and the tensor that it squashes."""
    found = {}
    for name in names:
        node = maker(proto, name)
        if node is not None and node.op_type in SQUASHING:
            found[name] = node.input[0]
    return found


def with_moved_answers(proto: ModelProto, element_type: int) -> ModelProto:
    """A model whose squashing operators' outputs are all moved by about their resolution.

    How far each number is moved follows from its input alone, so runs are repeatable.

    Args:
        proto: The model, which is not changed; nodes in bodies stay as they are.
        element_type: What its numbers are; of others than float32 and float64 nothing is moved.
    """
    dtype = _MOVABLE.get(element_type)
    if dtype is None:
        return proto
    result = ModelProto()
    copy_fields(proto, result, skipped={"graph"})
    copy_fields(proto.graph, result.graph, skipped={"node"})
    names = FreshNames(proto.graph)
    frequency, size = names("frequency"), names("resolution")
    half = np.finfo(dtype).eps / 2
    for name, value in ((frequency, _FREQUENCY), (size, half)):
        result.graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype), name))
    for node in proto.graph.node:
        copied = result.graph.node.add()
        copied.CopyFrom(node)
        if node.op_type not in SQUASHING:
            continue
        raw, fast, wave, moved = (names(f"{node.output[0]}/{part}") for part in "rfwm")
        copied.output[0] = raw
        result.graph.node.extend(
            [
                helper.make_node("Mul", [node.input[0], frequency], [fast]),
                helper.make_node("Sin", [fast], [wave]),
                helper.make_node("Mul", [wave, size], [moved]),
                helper.make_node("Add", [raw, moved], [node.output[0]]),
            ]
        )
    return result
