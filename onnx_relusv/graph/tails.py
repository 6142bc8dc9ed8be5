"""Tails of a model: from what is alive before a block to the outputs, the block's kernel an input.

Whatever takes a block's place is tried by feeding its composed dense kernel; nothing is rewritten,
and no session is opened anew.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, numpy_helper

from onnx_relusv.graph.model import Model
from onnx_relusv.graph.reference import with_dense
from onnx_relusv.graph.segments import segment
from onnx_relusv.records import Block, LinearMap, ReadOnlyArrays, Runnable


@dataclass(frozen=True, eq=False)
class Tail(ReadOnlyArrays):
    """A part of a model with a block's constants as further inputs.

    Attributes:
        runnable: The part.
        model: The original.
        block: The block.
        examples: Its constants as inputs, of some linear map.
    """

    runnable: Runnable
    model: Model
    block: Block
    examples: Mapping[str, np.ndarray]

    def feeds(self, dense: LinearMap) -> dict[str, np.ndarray]:
        """The inputs that stand for a linear map in the block's place."""
        found = _constants(self.model, self.block, dense)
        # A bias of zeros has no node of its own, or another shape.
        return {
            name: np.ascontiguousarray(np.broadcast_to(found.get(name, 0), example.shape)).astype(
                example.dtype
            )
            for name, example in self.examples.items()
        }


def tail(
    model: Model,
    block: Block,
    others: Mapping[str, LinearMap],
    blocks: Iterable[Block],
    reads: Mapping[str, np.ndarray],
    writes: Iterable[str],
) -> Tail:
    """The part of a model behind a cut, where one block is open and others may be replaced.

    Args:
        model: The original.
        block: The block that is open.
        others: Dense linear maps of other blocks by key; those without stay as they are.
        blocks: All blocks.
        reads: What is alive at the cut, with an example of each.
        writes: The tensors to compute.
    """
    geometry = block.geometry
    ones = LinearMap(
        np.ones((geometry.groups, geometry.rows, geometry.columns)), np.ones(geometry.out_channels)
    )
    examples = _constants(model, block, ones)
    replaced = {block.key: ones, **{key: map for key, map in others.items() if key != block.key}}
    # The open block comes first, so that its constants have the names that they have alone.
    ordered = [block, *(other for other in blocks if other.key != block.key)]
    proto, arrays = with_dense(model, ordered, replaced)
    _open(proto, set(examples))
    kept = {name: values for name, values in arrays.items() if name not in examples}
    part = segment(model, proto, {**reads, **examples}, writes, kept)
    return Tail(part, model, block, examples)


def _constants(model: Model, block: Block, dense: LinearMap) -> dict[str, np.ndarray]:
    """What a linear map becomes in the graph, by the names that its constants get."""
    before = {tensor.name for tensor in model.proto.graph.initializer}
    proto, arrays = with_dense(model, [block], {block.key: dense})
    return {
        tensor.name: arrays[tensor.name] if tensor.name in arrays else numpy_helper.to_array(tensor)
        for tensor in proto.graph.initializer
        if tensor.name not in before
    }


def _open(proto: ModelProto, names: set[str]) -> None:
    initializers = proto.graph.initializer
    for index in reversed(range(len(initializers))):
        if initializers[index].name in names:
            del initializers[index]
