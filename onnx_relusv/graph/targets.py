"""What --include and --exclude can name in a model: its blocks, and what was refused."""

from collections.abc import Iterable, Iterator, Sequence

from onnx import ModelProto, NodeProto

from onnx_relusv.graph.protos import bodies
from onnx_relusv.records import Block, Refusal
from onnx_relusv.selection import Target


def targets(
    proto: ModelProto, blocks: Sequence[Block], refusals: Iterable[Refusal]
) -> tuple[Target, ...]:
    """All that a pattern can name, blocks first.

    Args:
        proto: The model.
        blocks: Its blocks.
        refusals: What was refused, by a tensor that its node writes.
    """
    writers = {name: node for node in _nodes(proto) for name in node.output if name}
    found = [_block(proto, block, writers.get(block.key)) for block in blocks]
    for refusal in refusals:
        writer = writers.get(refusal.key)
        names, operator = ((), "") if writer is None else (_names(writer), writer.op_type)
        found.append(Target(refusal.key, names, operator, refusal.reason))
    return tuple(found)


def _block(proto: ModelProto, block: Block, activation: NodeProto | None) -> Target:
    nodes = [proto.graph.node[index] for index in block.nodes]
    names = dict.fromkeys(name for node in nodes for name in (*_names(node), *node.output[:1]))
    names |= dict.fromkeys(() if activation is None else _names(activation))
    names.pop(block.key, None)
    return Target(block.key, tuple(names), nodes[0].op_type)


def _names(node: NodeProto) -> tuple[str, ...]:
    return (node.name,) if node.name else ()


def _nodes(proto: ModelProto) -> Iterator[NodeProto]:
    """All nodes, those of functions and of bodies first: what is outside wins."""
    for function in proto.functions:
        yield from _with_bodies(function.node)
    yield from _with_bodies(proto.graph.node)


def _with_bodies(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    for node in nodes:
        for body in bodies(node):
            yield from _with_bodies(body.node)
        yield node
