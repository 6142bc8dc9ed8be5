"""What depends on some tensors of a graph."""

from collections.abc import Iterable

from onnx_relusv.graph.model import Model
from onnx_relusv.graph.protos import used_names


def dependents(model: Model, names: Iterable[str]) -> set[str]:
    """The tensors whose values depend on some others, with these themselves.

    Nodes that read them inside their bodies count too.
    """
    found = set(names)
    # Nodes of a graph are in topological order.
    for node in model.proto.graph.node:
        if not found.isdisjoint(used_names([node])):
            found.update(name for name in node.output if name)
    return found
