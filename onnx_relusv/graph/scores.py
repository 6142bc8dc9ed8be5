"""The block whose answers are a graph's class scores, but for a Softmax and for their shape."""

from collections.abc import Iterable
from math import prod

from onnx_relusv.graph.model import Model
from onnx_relusv.graph.operators import is_standard
from onnx_relusv.records import Block

# They change the shape of scores, or their type, or shift all scores of a sample alike.
_LEADING = {
    "Cast",
    "Flatten",
    "Identity",
    "LogSoftmax",
    "Reshape",
    "Softmax",
    "Squeeze",
    "Unsqueeze",
}


def block_of_scores(model: Model, blocks: Iterable[Block], output: str) -> Block | None:
    """The linear block that gives one vector a sample, which leads to an output.

    Args:
        model: The model.
        blocks: Its blocks.
        output: Name of the output, whose rows are class scores.

    Returns:
        None where something else lies between, or where the block gives several vectors a sample.
    """
    makers = {name: node for node in model.proto.graph.node for name in node.output}
    by_key = {block.key: block for block in blocks}
    name = output
    while name not in by_key:
        node = makers.get(name)
        if node is None or node.op_type not in _LEADING or not is_standard(node):
            return None
        name = node.input[0]
    block = by_key[name]
    geometry = block.geometry
    positions = prod(block.output_shape) // geometry.out_channels
    simple = block.activation.kind == "none" and geometry.groups == 1 and positions == 1
    return block if simple else None
