"""Mean and variance of tensors, channel by channel, that BatchNormalization nodes in a file tell.

What a BatchNormalization gives has the mean beta and the deviation |gamma| on what it was trained
on, whatever that was. From there statistics are followed:

    Relu, LeakyRelu, PRelu, Clip from 0     in closed form, the arguments taken as Gaussian
    Add of two tensors that both have some  as if they were independent
    GlobalAveragePool, AveragePool          the mean stays; so does the variance, which is what it
                                            has where all that is averaged is equal, and at most
    Flatten, Identity, Dropout              nothing changes

Everything else ends them. A MaxPool does: what it gives depends on how neighbours resemble each
other, which the file does not tell.

How a model normalises an input: the constants that it is shifted and scaled by at the front.

Networks are trained on inputs that are, once normalised, about 0 on average with a variance of
about 1. Where a file does that itself, it so tells what its raw inputs are like.
"""

from collections.abc import Iterable

import onnx_graphsurgeon as gs

from onnx_relusv.graph.channels.operator import (
    NOTHING,
    Activated,
    ChannelStatistics,
    Normalisation,
    StatisticsWalk,
)
from onnx_relusv.graph.channels.operators import operator_of
from onnx_relusv.graph.constants import Constants
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.nodes import View


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
