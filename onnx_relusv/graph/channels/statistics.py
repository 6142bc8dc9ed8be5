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

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from onnx_relusv.core.blocks import Activation, Floats, Geometry, ReadOnlyArrays
from onnx_relusv.graph.constants import Constants
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.nodes import ACTIVATION_OPERATORS, has_input, is_standard, read_activation
from onnx_relusv.graph.view import View

_PASSED = ("Identity", "Cast")


@dataclass(frozen=True, eq=False)
class Normalisation(ReadOnlyArrays):
    """What becomes of an input x: scale * x + shift, both broadcast to x as ONNX does.

    Attributes:
        scale: float64, any shape that broadcasts to the input's; nowhere 0.
        shift: Likewise.
    """

    scale: Floats
    shift: Floats


NOTHING = Normalisation(np.ones(()), np.zeros(()))


def normalisation(model: Model, view: View, name: str) -> Normalisation:
    """How an input is normalised; `NOTHING` where the file does not.

    Args:
        model: The model.
        view: Its graph.
        name: Of the input.
    """
    constants = Constants(model)
    tensor: gs.Tensor | None = next(t for t in view.graph.inputs if t.name == name)
    found: Normalisation | None = NOTHING
    last = NOTHING
    while tensor is not None and found is not None:
        last = found
        readers = tensor.outputs
        if len(readers) != 1 or id(readers[0]) not in view.index or not is_standard(readers[0]):
            break
        node = readers[0]
        if node.op in _PASSED:
            tensor = node.outputs[0]
            continue
        found = _applied(node, tensor, last, constants)
        tensor = node.outputs[0]
    return last


def _applied(
    node: gs.Node, tensor: gs.Tensor, before: Normalisation, constants: Constants
) -> Normalisation | None:
    """What comes behind one more node; None where it is no shift or scale by constants."""
    if node.op not in ("Add", "Sub", "Mul", "Div") or len(node.inputs) != 2:
        return None
    own = 0 if node.inputs[0] is tensor else 1
    values = constants.array(node.inputs[1 - own].name)
    if values is None or (own == 1 and node.op == "Div"):
        return None
    constant = values.astype(np.float64)
    if not np.isfinite(constant).all() or (node.op in ("Mul", "Div") and not constant.all()):
        return None
    if node.op == "Add":
        return Normalisation(before.scale, before.shift + constant)
    if node.op == "Mul":
        return Normalisation(before.scale * constant, before.shift * constant)
    if node.op == "Div":
        return Normalisation(before.scale / constant, before.shift / constant)
    if own == 0:
        return Normalisation(before.scale, before.shift - constant)
    return Normalisation(-before.scale, constant - before.shift)


# Told mean and variance before an activation, says what they are behind it.
Activated = Callable[[Floats, Floats, Activation], tuple[Floats, Floats]]
# Their second outputs, masks and the like, are not followed.
_UNCHANGED = ("Identity", "Dropout", "GlobalAveragePool", "AveragePool")


@dataclass(frozen=True, eq=False)
class ChannelStatistics(ReadOnlyArrays):
    """What a tensor is like on what the model was trained on, as far as its file tells.

    Attributes:
        mean: (channels,) float64.
        variance: (channels,) float64.
        flattened: Whether axis 1 holds every channel's positions, one channel behind the other.
    """

    mean: Floats
    variance: Floats
    flattened: bool = False


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
    constants = Constants(model)
    known: dict[str, ChannelStatistics] = {}
    for node in view.graph.nodes:
        found = _behind(node, known, constants, activated)
        if found is not None:
            known[node.outputs[0].name] = found
    return {name: known[name] for name in wanted if name in known}


def _behind(
    node: gs.Node,
    known: dict[str, ChannelStatistics],
    constants: Constants,
    activated: Activated,
) -> ChannelStatistics | None:
    """The statistics of a node's first output."""
    if not is_standard(node):
        return None
    if node.op == "BatchNormalization":
        return _normalized(node, constants)
    if node.op == "Add":
        return _added(*(known.get(tensor.name) for tensor in node.inputs))
    before = known.get(node.inputs[0].name) if node.inputs else None
    if before is None:
        return None
    if node.op in _UNCHANGED and not _drops(node, constants):
        return before
    if node.op == "Flatten" and node.attrs.get("axis", 1) == 1:
        return ChannelStatistics(before.mean, before.variance, flattened=True)
    if node.op in ACTIVATION_OPERATORS:
        return _activated(node, before, constants, activated)
    return None


def _normalized(node: gs.Node, constants: Constants) -> ChannelStatistics | None:
    if node.attrs.get("training_mode", 0) or not node.attrs.get("spatial", 1):
        return None
    gamma, beta = (constants.array(tensor.name) for tensor in node.inputs[1:3])
    if gamma is None or beta is None or gamma.ndim != 1 or gamma.shape != beta.shape:
        return None
    mean, variance = beta.astype(np.float64), gamma.astype(np.float64) ** 2
    if not (np.isfinite(mean).all() and np.isfinite(variance).all()):
        return None
    return ChannelStatistics(mean, variance)


def _added(*branches: ChannelStatistics | None) -> ChannelStatistics | None:
    first, second = branches
    # One of them alone may be broadcast, or be as large as you like.
    if first is None or second is None or first.mean.shape != second.mean.shape:
        return None
    if first.flattened != second.flattened:
        return None
    mean, variance = first.mean + second.mean, first.variance + second.variance
    return ChannelStatistics(mean, variance, first.flattened)


def _drops(node: gs.Node, constants: Constants) -> bool:
    """Whether a node is a Dropout in training mode, or may be."""
    if node.op != "Dropout" or not has_input(node, 2):
        return False
    return constants.scalar(node.inputs[2].name) != 0


def _activated(
    node: gs.Node, before: ChannelStatistics, constants: Constants, activated: Activated
) -> ChannelStatistics | None:
    # Slopes of a PRelu belong to channels as behind a Conv of two axes; others end the walk.
    channels = len(before.mean)
    geometry = Geometry(kind="conv", in_channels=channels, out_channels=channels)
    activation = read_activation(node, geometry, rank=4, constants=constants)
    if activation is None or (before.flattened and len(activation.slopes) > 1):
        return None
    mean, variance = activated(before.mean, before.variance, activation)
    return ChannelStatistics(mean, variance, before.flattened)
