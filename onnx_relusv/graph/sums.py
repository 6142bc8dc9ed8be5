"""Residual sums: where a linear block's answer is added to what comes over a shortcut."""

from dataclasses import dataclass

from onnx_relusv.graph.model import Model
from onnx_relusv.graph.protos import used_names
from onnx_relusv.graph.segments import static_names
from onnx_relusv.records import Block


@dataclass(frozen=True)
class ResidualSum:
    """An Add behind a block without an activation.

    Attributes:
        shortcut: The tensor that is added to the block's answer; its shape may be another.
        rectified: Whether a Relu follows, and nothing else reads the sum.
    """

    shortcut: str
    rectified: bool


def residual_sum(model: Model, block: Block) -> ResidualSum | None:
    """The sum that alone reads a linear block's answer; None where there is none.

    What depends on no input of the graph is no shortcut: it brings no error.
    """
    graph = model.proto.graph
    outputs = {value.name for value in graph.output}
    if block.activation.kind != "none" or block.key in outputs:
        return None
    readers = [node for node in graph.node if block.key in set(used_names([node]))]
    if len(readers) != 1 or readers[0].op_type != "Add" or len(set(readers[0].input)) != 2:
        return None
    add = readers[0]
    (shortcut,) = (name for name in add.input if name != block.key)
    if shortcut in static_names(model.proto):
        return None
    behind = [node for node in graph.node if add.output[0] in set(used_names([node]))]
    rectified = [node.op_type for node in behind] == ["Relu"] and add.output[0] not in outputs
    return ResidualSum(shortcut, rectified)
