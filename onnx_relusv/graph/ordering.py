"""Puts the nodes of a graph into topological order, as onnxruntime does when it opens a model.

The ONNX standard asks for that order, but files exist that do without, and all stages here rely on
it. Nodes that are in order stay where they are; of several that could come next, the first in the
file does. Only the main graph is sorted: in bodies and functions, onnxruntime insists on the order.
"""

from collections.abc import Iterable, Sequence
from heapq import heapify, heappop, heappush

from onnx import GraphProto, NodeProto

from onnx_relusv.graph.protos import node_label, used_names


class Circular(Exception):  # noqa: N818 - it is an answer about a graph; its caller knows the file
    """Nodes need each other's results; the message names one of them."""


def sort_nodes(graph: GraphProto) -> None:
    """Sorts the nodes of a graph in place.

    Raises:
        Circular: There is no such order.
    """
    order = _order(graph.node)
    if order is not None:
        nodes = GraphProto(node=[graph.node[index] for index in order]).node
        del graph.node[:]
        graph.node.extend(nodes)


def _order(nodes: Sequence[NodeProto]) -> list[int] | None:
    """The nodes' indices in topological order; None where they are in one."""
    makers = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    needs = [{makers[name] for name in used_names([node]) if name in makers} for node in nodes]
    if all(need < index for index, needed in enumerate(needs) for need in needed):
        return None
    readers: list[list[int]] = [[] for _ in nodes]
    for index, needed in enumerate(needs):
        for need in needed:
            readers[need].append(index)
    missing = [len(needed) for needed in needs]
    ready = [index for index, count in enumerate(missing) if not count]
    heapify(ready)
    order: list[int] = []
    while ready:
        order.append(heappop(ready))
        for reader in readers[order[-1]]:
            missing[reader] -= 1
            if not missing[reader]:
                heappush(ready, reader)
    if len(order) < len(nodes):
        raise Circular(node_label(nodes[_on_a_circle(needs, order)]))
    return order


def _on_a_circle(needs: Sequence[set[int]], order: Iterable[int]) -> int:
    """A node that needs its own result: going back from any that is left ends in a circle."""
    left = set(range(len(needs))) - set(order)
    seen: set[int] = set()
    index = min(left)
    while index not in seen:
        seen.add(index)
        index = min(needs[index] & left)
    return index
