"""The table of operators: what is known of each, by name.

To add one, write its rules and its entry in the file of its family; all walks then find it here.
"""

from collections.abc import Iterable, Mapping

import onnx_graphsurgeon as gs
from onnx import ModelProto, NodeProto

from onnx_relusv.graph.channels import elementwise, moving, reshaping, weights, windows
from onnx_relusv.graph.channels.operator import Operator
from onnx_relusv.graph.deciding import SQUASHING
from onnx_relusv.graph.nodes import is_standard

OPERATORS: Mapping[str, Operator] = {
    **elementwise.OPERATORS,
    **windows.OPERATORS,
    **weights.OPERATORS,
    **moving.OPERATORS,
    **reshaping.OPERATORS,
}


def operator_of(node: gs.Node | NodeProto) -> Operator | None:
    """What is known of a node's operator; None where it is not of the default set, or unknown."""
    name = node.op_type if isinstance(node, NodeProto) else node.op
    return OPERATORS.get(name) if is_standard(node) else None


def channels_begin(node: NodeProto) -> bool:
    """Whether a node has a weight at which channels begin."""
    operator = operator_of(node)
    return operator is not None and operator.begins


def maker(proto: ModelProto, name: str) -> NodeProto | None:
    """The node that makes a tensor's values, before what only passes them; None for an input."""
    makers = {output: node for node in proto.graph.node for output in node.output}
    while name in makers:
        node = makers[name]
        operator = OPERATORS.get(node.op_type)
        if operator is None or not operator.passes_values:
            return node
        name = node.input[0]
    return None


def squashed(proto: ModelProto, names: Iterable[str]) -> dict[str, str]:
    """Those of some tensors that a squashing operator makes, and the tensor that it squashes."""
    found = {}
    for name in names:
        node = maker(proto, name)
        if node is not None and node.op_type in SQUASHING:
            found[name] = node.input[0]
    return found
