"""How many of the nodes that could lose output channels did.

By a general dependency graph any weighted node can be cut whose output channels are read by another
weighted node. What is counted is therefore every Conv, ConvTranspose, Gemm and MatMul with a
constant weight, without depthwise ones, whose channels are those of their input, and without those
from which an output of the graph is reached with no other of these nodes in between. This is found
from the graph alone, not from what the package takes for groups.
"""

from collections.abc import Iterator
from pathlib import Path

from onnx import NodeProto

from onnx_relusv.graph.channel_weights import WEIGHTED
from onnx_relusv.graph.constants import Constants
from onnx_relusv.graph.model import read_model


def cut_share(before: Path, after: Path) -> tuple[int, int]:
    """How many nodes lost output channels, and how many could have.

    Args:
        before: The original.
        after: The model with removed units; its weighted nodes write tensors of the same names.
    """
    lengths = dict(_lengths(after))
    could = {name: length for name, length in _lengths(before) if name not in _last(before)}
    return sum(lengths[name] < length for name, length in could.items()), len(could)


def _lengths(path: Path) -> Iterator[tuple[str, int]]:
    """Output channels of the weighted nodes that are not depthwise, by the tensor they write."""
    model = read_model(path)
    constants = Constants(model)
    for node in model.proto.graph.node:
        if node.op_type not in WEIGHTED:
            continue
        tensor = constants.tensor(node.input[1])
        if tensor is None:
            continue
        groups = _number(node, "group", 1)
        if groups > 1 and tensor.dims[1] == 1:
            continue
        axis = {"Conv": 0, "Gemm": 0 if _number(node, "transB", 0) else 1}.get(node.op_type, 1)
        length = tensor.dims[axis]
        yield node.output[0], length * groups if node.op_type == "ConvTranspose" else length


def _last(path: Path) -> set[str]:
    """Tensors from which an output is reached without another node that has channels of its own."""
    model = read_model(path)
    own = {name for name, _ in _lengths(path)}
    found = set(model.output_names)
    for node in reversed(model.proto.graph.node):
        # The numbers of a shape are no channels.
        if node.op_type != "Shape" and found.intersection(node.output) - own:
            found.update(node.input)
    return found


def _number(node: NodeProto, name: str, default: int) -> int:
    return next((int(each.i) for each in node.attribute if each.name == name), default)
