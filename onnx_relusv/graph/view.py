"""The graph as onnx-graphsurgeon sees it, checked against the file before anybody relies on it."""

import logging
from dataclasses import dataclass

import onnx
import onnx_graphsurgeon as gs
from onnx import NodeProto
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter
from onnx_graphsurgeon.logger import G_LOGGER

from onnx_relusv.core.errors import InputError
from onnx_relusv.graph.model import Model, all_tensors

# Its notes on colours and default opsets are no news to our users; its errors are raised.
G_LOGGER.severity = G_LOGGER.CRITICAL
logging.getLogger("onnx_graphsurgeon").setLevel(logging.CRITICAL)

_TYPES = (onnx.AttributeProto.TYPE_PROTO, onnx.AttributeProto.TYPE_PROTOS)


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
    graph = _imported(model)
    # An export writes names into the very tensors of the file, and empty ones where it has none.
    unnamed = [t for t in all_tensors(model.proto.graph) if not t.HasField("name")]
    try:
        _check_round_trip(graph, model)
    finally:
        for tensor in unnamed:
            tensor.ClearField("name")
    return View(
        graph,
        frozenset(model.output_names),
        {id(node): index for index, node in enumerate(graph.nodes)},
    )


def _imported(model: Model) -> gs.Graph:
    try:
        graph = gs.import_onnx(model.proto)
    except Exception as error:  # it lets those of the decoders below it through
        raise InputError(
            f"{model.path}: onnx-graphsurgeon cannot import it ({error}), "
            "so this model is not touched."
        ) from error
    _drop_empty_lists(graph)
    return graph


def _check_round_trip(graph: gs.Graph, model: Model) -> None:
    for index, (node, original) in enumerate(zip(graph.nodes, model.proto.graph.node, strict=True)):
        # A Constant, some of whose kinds of values it does not know, is copied from the file.
        if original.op_type != "Constant" and not _survives(node, original):
            name = original.name or f"number {index}"
            raise InputError(
                f"{model.path}: node {name} ({original.op_type}) does not survive an import by "
                "onnx-graphsurgeon unchanged, so this model is not touched."
            )


def _survives(node: gs.Node, original: NodeProto) -> bool:
    try:
        exported = OnnxExporter.export_node(node)
    except Exception:  # whatever it cannot write, it does not keep
        return False
    return same_node(exported, original)


def _drop_empty_lists(graph: gs.Graph) -> None:
    """Takes away attributes without values, which graphsurgeon imports but cannot export."""
    for node in graph.nodes:
        for name, value in list(node.attrs.items()):
            if isinstance(value, list) and not value:
                del node.attrs[name]
            elif isinstance(value, gs.Graph):
                _drop_empty_lists(value)


def same_node(exported: NodeProto, original: NodeProto) -> bool:
    """Whether two nodes mean the same.

    Names, doc strings, the order of attributes and attributes that are empty lists mean nothing.
    Types, such as that of an Optional's value, graphsurgeon drops; a node that has one is none of a
    block's, and stands in a written file as it did.
    """
    return (
        exported.op_type == original.op_type
        and exported.domain == original.domain
        and list(exported.input) == list(original.input)
        and list(exported.output) == list(original.output)
        and _meanings(exported) == _meanings(original)
    )


def _meanings(node: NodeProto) -> dict[str, object]:
    return {
        a.name: _meaning(a)
        for a in node.attribute
        if not _is_empty_list(a) and a.type not in _TYPES
    }


def _is_empty_list(attribute: onnx.AttributeProto) -> bool:
    kind = onnx.AttributeProto
    values = {kind.INTS: attribute.ints, kind.FLOATS: attribute.floats}
    values[kind.STRINGS] = attribute.strings
    return attribute.type in values and not values[attribute.type]


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
