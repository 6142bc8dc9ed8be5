"""Tails of a model: from what is alive before some blocks to the outputs, their kernels inputs.

Whatever takes a block's place is tried by feeding its composed dense kernel; nothing is rewritten,
and no session is opened anew.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, numpy_helper

from onnx_relusv.graph.model import Model
from onnx_relusv.graph.reference import with_dense
from onnx_relusv.graph.segments import segment
from onnx_relusv.records import Block, Geometry, LinearMap, ReadOnlyArrays, Runnable


@dataclass(frozen=True, eq=False)
class Tail(ReadOnlyArrays):
    """A part of a model with some blocks' constants as further inputs.

    Attributes:
        runnable: The part.
        model: The original.
        blocks: The blocks.
        examples: Their constants as inputs, of some linear maps.
        names: By block key, under which names the part has the constants that the block has when
            it alone is replaced.
    """

    runnable: Runnable
    model: Model
    blocks: tuple[Block, ...]
    examples: Mapping[str, np.ndarray]
    names: Mapping[str, Mapping[str, str]]

    def feeds(self, dense: Mapping[str, LinearMap]) -> dict[str, np.ndarray]:
        """The inputs that stand for linear maps in the blocks' places, by their keys.

        Raises:
            KeyError: One of the blocks has none.
        """
        # One by one: a bias of zeros has no node of its own, and the next block's constants would
        # get other names.
        found = {
            self.names[block.key][name]: values
            for block in self.blocks
            for name, values in _constants(
                self.model, [block], {block.key: dense[block.key]}
            ).items()
        }
        # Or it has another shape.
        return {
            name: np.ascontiguousarray(np.broadcast_to(found.get(name, 0), example.shape)).astype(
                example.dtype
            )
            for name, example in self.examples.items()
        }


def tail(
    model: Model,
    opening: Sequence[Block],
    others: Mapping[str, LinearMap],
    blocks: Iterable[Block],
    reads: Mapping[str, np.ndarray],
    writes: Iterable[str],
) -> Tail:
    """The part of a model behind a cut, where some blocks are open and others may be replaced.

    Args:
        model: The original.
        opening: The blocks that are open.
        others: Dense linear maps of other blocks by key; those without stay as they are.
        blocks: All blocks.
        reads: What is alive at the cut, with an example of each.
        writes: The tensors to compute.
    """
    ones = {block.key: _ones(block.geometry) for block in opening}
    examples = _constants(model, opening, ones)
    # Constants come in the order of their blocks, and in each of them the same.
    together = iter(examples)
    names = {
        block.key: {alone: next(together) for alone in _constants(model, [block], ones)}
        for block in opening
    }
    replaced = {**others, **ones}
    # The open blocks come first, so that their constants have the names that they have alone.
    ordered = [*opening, *(other for other in blocks if other.key not in ones)]
    proto, arrays = with_dense(model, ordered, replaced)
    _open(proto, set(examples))
    kept = {name: values for name, values in arrays.items() if name not in examples}
    part = segment(model, proto, {**reads, **examples}, writes, kept)
    return Tail(part, model, tuple(opening), examples, names)


def _ones(geometry: Geometry) -> LinearMap:
    shape = (geometry.groups, geometry.rows, geometry.columns)
    return LinearMap(np.ones(shape), np.ones(geometry.out_channels))


def _constants(
    model: Model, blocks: Iterable[Block], dense: Mapping[str, LinearMap]
) -> dict[str, np.ndarray]:
    """What linear maps become in the graph, by the names that their constants get."""
    before = {tensor.name for tensor in model.proto.graph.initializer}
    proto, arrays = with_dense(model, blocks, dense)
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
