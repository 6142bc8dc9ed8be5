"""The table of operators: what is known of each, by name.

To add one, write its rules and its entry in the file of its family; all walks then find it here.

Two walks read it here. One is of mean and variance of tensors, channel by channel, which
BatchNormalization nodes in a file tell. What one gives has the mean beta and the deviation |gamma|
on what it was trained on, whatever that was. From there statistics are followed:

    Relu, LeakyRelu, PRelu, Clip from 0     in closed form, the arguments taken as Gaussian
    Add of two tensors that both have some  as if they were independent
    GlobalAveragePool, AveragePool          the mean stays; so does the variance, which is what it
                                            has where all that is averaged is equal, and at most
    Flatten, Identity, Dropout              nothing changes

Everything else ends them. A MaxPool does: what it gives depends on how neighbours resemble each
other, which the file does not tell.

The other is of how a model normalises an input: by which constants it is shifted and scaled at the
front. Networks are trained on inputs that are, once normalised, about 0 on average with a variance
of about 1. Where a file does that itself, it so tells what its raw inputs are like.
"""

from collections.abc import Iterable, Mapping

import onnx_graphsurgeon as gs
from onnx import ModelProto, NodeProto

from onnx_relusv.graph.channels import elementwise, moving, reshaping, weights, windows
from onnx_relusv.graph.channels.operator import (
    NOTHING,
    Activated,
    ChannelStatistics,
    Normalisation,
    Operator,
    StatisticsWalk,
)
from onnx_relusv.graph.constants import Constants
from onnx_relusv.graph.deciding import SQUASHING
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.nodes import View, is_standard

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


def normalisation(model: Model, view: View, name: str) -> Normalisation:
    """How an input is normalised; `NOTHING` where the file does not.

    Args:
        model: The model.
        view: Its graph.
        name: Of the input.
    """
    constants = Constants(model)
    tensor: gs.Tensor = next(t for t in view.graph.inputs if t.name == name)
    found: Normalisation | None = NOTHING
    last = NOTHING
    while found is not None:
        last = found
        readers = tensor.outputs
        if len(readers) != 1 or id(readers[0]) not in view.index:
            break
        node = readers[0]
        operator = operator_of(node)
        if operator is None or operator.normalisation is None:
            break
        slot = 0 if node.inputs[0] is tensor else 1
        found = operator.normalisation(constants, node, slot, last)
        tensor = node.outputs[0]
    return last


def channel_statistics(
    model: Model, view: View, wanted: Iterable[str], activated: Activated
) -> dict[str, ChannelStatistics]:
    """The statistics of some tensors, without those that the file tells nothing of.

    Args:
        model: The model.
        view: Its graph.
        wanted: Names of tensors.
        activated: The moments behind an activation.
    """
    walk, known = StatisticsWalk(Constants(model), activated), dict[str, ChannelStatistics]()
    for node in view.graph.nodes:
        operator = operator_of(node)
        if operator is None or operator.statistics is None:
            continue
        found = operator.statistics(walk, node, [known.get(one.name) for one in node.inputs])
        if found is not None:
            known[node.outputs[0].name] = found
    return {name: known[name] for name in wanted if name in known}
