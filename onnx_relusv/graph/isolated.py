"""A block by itself, as a model that reads the block's input and gives its output.

Dense, it consists of the block's own nodes and its activation; as a double layer, of the nodes that
surgery would put in their place. So each can be run, and timed, without the rest of the model.
"""

from dataclasses import dataclass, replace

import numpy as np
from onnx import ModelProto

from onnx_relusv.decisions import Factors
from onnx_relusv.graph.expose import runnable
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.segments import segment
from onnx_relusv.graph.surgery import rewrite
from onnx_relusv.records import Block, Runnable


@dataclass(frozen=True, eq=False)
class Isolated:
    """A block by itself; made by `isolated`.

    Attributes:
        model: The block's nodes as a model, which knows where the original's data lies.
        block: The block, its nodes numbered as in that model.
    """

    model: Model
    block: Block

    def dense(self) -> Runnable:
        """The block as it is."""
        return runnable(self.model)

    def double_layer(self, factors: Factors) -> Runnable:
        """The block with a double layer in its place."""
        proto = rewrite(self.model, [self.block], {self.block.key: factors}, "")
        return runnable(self.model, proto)


def isolated(model: Model, block: Block, example: np.ndarray) -> Isolated:
    """Takes a block out of its model.

    Args:
        model: The model.
        block: One of its blocks.
        example: A value of the block's input, whose type and rank count.
    """
    part = segment(model, model.proto, {block.source: example}, [block.key])
    proto = ModelProto.FromString(part.model)
    original = model.proto.graph.node
    made = proto.graph.node
    places = {name: index for index, node in enumerate(made) for name in node.output}
    nodes = tuple(places[original[index].output[0]] for index in block.nodes)
    return Isolated(replace(model, proto=proto), replace(block, nodes=nodes))
