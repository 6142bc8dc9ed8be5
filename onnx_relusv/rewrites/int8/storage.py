"""What the numbers of a file with 8-bit integers occupy, by format and block."""

from collections.abc import Iterable, Iterator
from math import prod

from onnx import GraphProto, NodeProto, TensorProto

from onnx_relusv.core.blocks import Block
from onnx_relusv.core.results import StoredNumbers
from onnx_relusv.graph.protos import held, item_bytes
from onnx_relusv.rewrites.int8.activations import DEQUANTIZE, QUANTIZE


def stored_numbers(
    graph: GraphProto, blocks: Iterable[Block], whole: int
) -> tuple[StoredNumbers, ...]:
    """Counts the bytes of constants, those that several blocks share at the first.

    Args:
        graph: Of the written file, in which the blocks' tensors have their names.
        blocks: The original's, in topological order.
        whole: Bytes of the file with its external data.

    Returns:
        One a block; then one without a key for all else: other constants, nodes and names.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        tensor = held(node) if node.op_type == "Constant" else None
        if tensor is not None:
            constants[node.output[0]] = tensor
    operands = {
        name
        for node in graph.node
        if node.op_type in (QUANTIZE, DEQUANTIZE)
        for name in node.input[1:]
    }
    makers = {name: node for node in graph.node for name in node.output}
    listed = tuple(blocks)
    ends = {block.source for block in listed} | {block.key for block in listed}
    counted: set[str] = set()
    found = []
    for block in listed:
        read = set(_constants_behind(block, makers, ends)) & constants.keys() - counted
        counted |= read
        sizes = {"integers": 0, "scales": 0, "floats": 0}
        for name in read:
            whole_numbers = constants[name].data_type in (TensorProto.INT8, TensorProto.UINT8)
            kind = "scales" if name in operands else "integers" if whole_numbers else "floats"
            sizes[kind] += _bytes(constants[name])
        found.append(StoredNumbers(key=block.key, **sizes))
    return (*found, StoredNumbers(key=None, others=whole - sum(one.bytes for one in found)))


def _constants_behind(block: Block, makers: dict[str, NodeProto], ends: set[str]) -> Iterator[str]:
    """What is read between a block's source and the tensor that leaves it."""
    waiting, seen = [block.key], {block.key}
    while waiting:
        node = makers.get(waiting.pop())
        for name in () if node is None else node.input:
            yield name
            if name not in ends and name not in seen:
                seen.add(name)
                waiting.append(name)


def _bytes(tensor: TensorProto) -> int:
    return item_bytes(tensor.data_type) * prod(tensor.dims)
