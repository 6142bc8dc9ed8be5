"""Bytes and multiply-accumulates of blocks and of their candidates."""

from collections.abc import Sequence
from math import prod

from onnx import NodeProto

from onnx_relusv import forms
from onnx_relusv.decisions import Cost, Form
from onnx_relusv.records import Block

# What a protobuf spends beside the numbers: field tags, dims, element type, node attributes and
# the domain-free operator name. Names are counted apart. An upper bound, so that a budget that is
# kept on paper is kept in the file.
_INITIALIZER_OVERHEAD = 48
_NODE_OVERHEAD = 160
_CAST_OVERHEAD = 40
_SUFFIX = 20
# Of weights that are read as floats, numbers may be stored in half precision.
_HALF_A_FLOAT = 2


def block_macs(block: Block) -> int:
    """Multiply-accumulates of the block as it is, for one sample."""
    numbers = weight_numbers(block)
    if block.geometry.kind == "conv":
        return numbers * prod(block.output_shape[2:])
    return numbers * prod(block.output_shape[:-1])


def block_cost(block: Block) -> Cost:
    """What the block costs as it is."""
    return Cost(bytes=block.original_bytes, macs=block_macs(block))


def candidate_cost(block: Block, form: Form, rank: int, item_size: int) -> Cost:
    """What a double layer costs.

    Args:
        block: The block it replaces.
        form: Its form.
        rank: Its inner width, per group.
        item_size: Bytes of one stored number.

    Returns:
        The cost; its bytes are an upper bound, by several hundred and more for long names.
    """
    numbers = forms.parameters(form, block.geometry, rank) + block.geometry.out_channels
    # Each new name is the key and a suffix. Nodes name themselves, the tensors between them twice,
    # and initializers, a bias among them, three times (once as inputs of the graph, before IR
    # version 4); a MatMul's bias adds a node and a tensor.
    nodes = len(forms.shapes(form, block.geometry, rank))
    occurrences = nodes + 2 * (nodes - 1) + 3 * (nodes + 1)
    if block.geometry.kind == "matmul":
        occurrences += 3
    names = occurrences * (len(block.key.encode()) + _SUFFIX)
    overhead = (nodes + 1) * _INITIALIZER_OVERHEAD + nodes * _NODE_OVERHEAD + names
    overhead += nodes * _cast_bytes(block) + _wider_bias_bytes(block)
    return Cost(
        bytes=numbers * item_size + overhead,
        macs=forms.macs(form, block.geometry, rank, block.source_shape, block.output_shape),
    )


def refit_bytes(block: Block, nodes: Sequence[NodeProto], item_size: int) -> int:
    """What a block adds to the file when it gets other values in its own form.

    Args:
        block: The block.
        nodes: Of the file.
        item_size: Bytes of one stored number.

    Returns:
        An upper bound: longer names, and where it has no bias of its own, a bias and what adds it.
    """
    new = len(block.key.encode()) + _SUFFIX
    # The weight's name goes; that of a bias may be in use elsewhere.
    names = 3 * max(2 * new - len(block.weight.encode()), 0)
    constants = block.original_bytes - sum(nodes[index].ByteSize() for index in block.nodes)
    missing = item_size * block_numbers(block) + _wider_bias_bytes(block) - constants
    # What computed the weight goes, a Cast among it, and is no room for numbers.
    missing += block.surplus_bytes
    names += max(_cast_bytes(block) - block.surplus_bytes, 0)
    if missing <= 0:
        return names
    overhead = _INITIALIZER_OVERHEAD
    if block.geometry.kind == "matmul":
        overhead += _NODE_OVERHEAD + 3 * new
    return missing + overhead + names


def _cast_bytes(block: Block) -> int:
    """What it takes to cast a weight that is stored in another type than it is read in."""
    if block.weight_type == block.element_type:
        return 0
    return _CAST_OVERHEAD + 3 * (len(block.key.encode()) + _SUFFIX)


def _wider_bias_bytes(block: Block) -> int:
    """What a bias, which is stored as it is read, takes more than in the type of the weight."""
    wider = block.weight_type != block.element_type
    return _HALF_A_FLOAT * block.geometry.out_channels * wider


def reduced_cost(block: Block, left: Block) -> Cost:
    """What a block costs once channels are gone, in proportion to the numbers that are left.

    Args:
        block: The whole block.
        left: What is left of it.
    """
    share = block_numbers(left) / block_numbers(block)
    return Cost(bytes=round(share * block.original_bytes), macs=block_macs(left))


def block_numbers(block: Block) -> int:
    """Numbers in a block's weight and in one vector of its output channels."""
    return weight_numbers(block) + block.geometry.out_channels


def weight_numbers(block: Block) -> int:
    """Numbers in a block's weight."""
    geometry = block.geometry
    return geometry.groups * geometry.rows * geometry.columns
