"""The graph as onnx-graphsurgeon sees it, checked against the file before anybody relies on it."""

import logging
from dataclasses import dataclass

import onnx
import onnx_graphsurgeon as gs
from onnx import NodeProto
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter
from onnx_graphsurgeon.logger import G_LOGGER

from onnx_relusv.errors import InputError
from onnx_relusv.graph.model import Model

# Its notes on colours and default opsets are no news to our users; its errors are raised.
G_LOGGER.severity = G_LOGGER.CRITICAL
logging.getLogger("onnx_graphsurgeon").setLevel(logging.CRITICAL)


@dataclass(frozen=True, eq=False)
class View:
    """A graphsurgeon graph whose node i is node i of the file.

    Attributes:
        graph: The graph; its tensors know their producers and users, inside bodies of If, Loop
            and Scan nodes too.
        outputs: Names of the graph's outputs.
        index: Position of every node of the main graph by its id().
    """

    graph: gs.Graph
    outputs: frozenset[str]
    index: dict[int, int]


def view(model: Model) -> View:
    """Imports a model and compares the import node by node with the file.

    Raises:
        InputError: graphsurgeon does not see what the file says.
    """
    graph = gs.import_onnx(model.proto)
    for index, (node, original) in enumerate(zip(graph.nodes, model.proto.graph.node, strict=True)):
        exported = OnnxExporter.export_node(node)
        if not same_node(exported, original):
            name = original.name or f"number {index}"
            raise InputError(
                f"{model.path}: node {name} ({original.op_type}) does not survive an import by "
                "onnx-graphsurgeon unchanged, so this model is not touched."
            )
    return View(
        graph,
        frozenset(model.output_names),
        {id(node): index for index, node in enumerate(graph.nodes)},
    )


def same_node(exported: NodeProto, original: NodeProto) -> bool:
    """Whether two nodes mean the same: all but doc strings and the order of attributes."""
    return (
        exported.op_type == original.op_type
        and exported.domain == original.domain
        and list(exported.input) == list(original.input)
        and list(exported.output) == list(original.output)
        and {a.name: _meaning(a) for a in exported.attribute}
        == {a.name: _meaning(a) for a in original.attribute}
    )


def _meaning(attribute: onnx.AttributeProto) -> object:
    """An attribute without what the import is free to rearrange inside a body."""
    if attribute.type == onnx.AttributeProto.GRAPH:
        return [
            (node.op_type, node.domain, tuple(node.input), tuple(node.output))
            for node in attribute.g.node
        ]
    if attribute.type == onnx.AttributeProto.TENSOR:
        return attribute.t.data_type, tuple(attribute.t.dims)
    plain = onnx.AttributeProto()
    plain.CopyFrom(attribute)
    plain.ClearField("doc_string")
    return plain.SerializeToString(deterministic=True)
