"""How many of the nodes that could lose output channels may, and how many did.

By a general dependency graph any weighted node can be cut whose output channels are read by another
weighted node. What is counted is therefore every Conv, ConvTranspose, Gemm and MatMul with a
constant weight, without depthwise ones, whose channels are those of their input, and without those
from which an output of the graph is reached with no other of these nodes in between. This is found
from the graph alone, not from what the package takes for groups.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from onnx import NodeProto

from onnx_relusv import MeasureOptions
from onnx_relusv.graph.channels.operators import channels_begin
from onnx_relusv.graph.constants import Constants
from onnx_relusv.graph.model import read_model
from onnx_relusv.measuring.case import open_model
from onnx_relusv.planning.settling import with_channels


@dataclass(frozen=True)
class CutShare:
    """Weighted nodes by what becomes of their output channels.

    Attributes:
        could: That a general dependency graph could cut.
        may: Of these, that write a tensor which a group of the package's produces.
        did: Of these, that lost channels.
    """

    could: int
    may: int
    did: int


def cut_share(before: Path, after: Path, samples: Path) -> CutShare:
    """Counts the nodes of a model that was cut.

    Args:
        before: The original.
        after: The model with removed units. A node of it writes the tensor that the original's
            does, or that of what is folded into it.
        samples: Of a size that the original runs with.
    """
    channels = with_channels(*open_model(before, samples, MeasureOptions())).channels
    assert channels is not None  # with_channels has looked
    producers = {name for group in channels.groups for name in group.producers}
    lengths, last = dict(_lengths(after)), _last(before)
    could = {name: length for name, length in _lengths(before) if name not in last}
    did = 0
    for name, length in could.items():
        written = next(each for each in _onwards(before, name) if each in lengths)
        did += lengths[written] < length
    return CutShare(len(could), len(producers & set(could)), did)


def _onwards(path: Path, name: str) -> Iterator[str]:
    """A tensor, what the only node that reads it writes, and so on."""
    nodes = read_model(path).proto.graph.node
    yield name
    while len(readers := [node for node in nodes if name in node.input]) == 1:
        name = readers[0].output[0]
        yield name


def _lengths(path: Path) -> Iterator[tuple[str, int]]:
    """Output channels of the weighted nodes that are not depthwise, by the tensor they write."""
    model = read_model(path)
    constants = Constants(model)
    for node in model.proto.graph.node:
        if not channels_begin(node):
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
