"""Operators that work on every number by itself, and on several tensors alike."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx_graphsurgeon as gs
from onnx import NodeProto

from onnx_relusv.core.blocks import Geometry
from onnx_relusv.core.kinds import CONV
from onnx_relusv.graph.channels.lengths import (
    Dims,
    Length,
    LengthWalk,
    Numbers,
    Row,
    Step,
    Unknown,
    constant,
)
from onnx_relusv.graph.channels.operator import (
    ChannelStatistics,
    Normalisation,
    Operator,
    StatisticsWalk,
    family,
    handed_on,
    same_dims,
    same_normalisation,
    same_statistics,
)
from onnx_relusv.graph.channels.walk import Barrier, UnitAxis, Walk
from onnx_relusv.graph.constants import Constants
from onnx_relusv.graph.nodes import has_input, read_activation, whole

_MIXING = "mixes its channels"


def mixing(_walk: Walk, _index: int, _node: NodeProto) -> None:
    """What is understood well enough to say why channels end there."""
    raise Barrier(_MIXING)


def _dropout(walk: Walk, index: int, node: NodeProto) -> None:
    """Hands channels on, and says which numbers it does, unless some are dropped."""
    if has_input(node, 2) and walk.constants.scalar(node.input[2]) != 0:
        raise Barrier("may be training")
    handed_on(walk, index, node)


def _broadcasting(walk: Walk, index: int, node: NodeProto) -> None:
    """Merges the channels of all inputs; constants along them are cut with them."""
    made = walk.shape(node.output[0])
    rank = len(made)
    aligned: dict[int, UnitAxis] = {}
    for slot, found in walk.labelled(node):
        place = found.axis + rank - found.rank
        # A single channel that serves all others cannot go: of every axis one at least stays.
        if len(found.units) == made[place]:
            aligned[slot] = UnitAxis(place, found.units, rank)
    if not aligned:
        return
    first, *others = aligned.values()
    if any(other.axis != first.axis for other in others):
        raise Barrier("combines channels of different axes")
    if others and not all(walk.has_fixed_channels(node.input[slot]) for slot in aligned):
        raise Barrier("combines channels that lie otherwise at other sizes")
    units = first.units
    for other in others:
        units = walk.merge(node, units, other.units)
    channels = UnitAxis(first.axis, units, rank)
    for slot, name in enumerate(node.input):
        if name and slot not in aligned:
            _beside(walk, index, node, slot, channels)
    walk.put(node, channels.axis, units)


def _beside(walk: Walk, index: int, node: NodeProto, slot: int, channels: UnitAxis) -> None:
    """An input through which no channels run, beside one through which they do."""
    name = node.input[slot]
    lengths = walk.fixed(name)
    own = channels.axis - (channels.rank - len(lengths))
    if own < 0 or lengths[own] == 1:
        return
    if walk.constants.tensor(name) is None:
        raise Barrier("combines channels with some that stay")
    walk.carry(index, slot, own, channels.units)


def _normalization(walk: Walk, index: int, node: NodeProto) -> None:
    """BatchNormalization and InstanceNormalization, whose vectors have an entry a channel."""
    units = walk.axis(node.input[0], 1)
    if units is None:
        raise Barrier("takes settings from channels")
    if whole(node, "training_mode", 0) or not whole(node, "spatial", 1):
        raise Barrier("does not normalise channels by constants")
    for slot in range(1, len(node.input)):
        tensor = walk.constants.tensor(node.input[slot])
        if tensor is None or tuple(tensor.dims) != (len(units),):
            raise Barrier("does not normalise channels by constants")
        walk.carry(index, slot, 0, units)
    walk.put(node, 1, units)


def _softmax(walk: Walk, index: int, node: NodeProto) -> None:
    """Softmax, LogSoftmax, Hardmax over other axes; before opset 13 over all from one on."""
    found = walk.source(node)
    axis = whole(node, "axis", -1 if walk.opset >= 13 else 1) % found.rank
    if axis == found.axis or (walk.opset < 13 and axis < found.axis):
        raise Barrier(_MIXING)
    handed_on(walk, index, node)


def _broadcast(walk: LengthWalk, _node: NodeProto, dims: Sequence[Dims]) -> Sequence[Dims]:
    found = dims[0]
    for other in dims[1:]:
        found = walk.broadcast(found, other)
    return [found]


def _compared(walk: LengthWalk, node: NodeProto, dims: Sequence[Dims]) -> Sequence[Dims]:
    """What an input of whole numbers is compared with says which ones mean something."""
    for name, other in (node.input[:2], node.input[1::-1]):
        source, row = walk.scope[name].source, walk.scope[other].row
        if source is not None and row is not None:
            values = [entry.fixed for entry in row.entries]
            found = walk.found.numbers.setdefault(source, [])
            found.extend(float(value) for value in values if value is not None)
    return _broadcast(walk, node, dims)


def _unchanged(walk: Numbers, node: NodeProto) -> Row:
    """Identity, and a Cast where the walk follows it."""
    if node.op_type == "Cast" and not walk.keeps(whole(node, "to", 0)):
        raise Unknown
    return walk.row(node.input[0])


def _combined(walk: Numbers, node: NodeProto) -> Row:
    """Arithmetic of two tensors, number by number."""
    if len(node.input) != 2:
        raise Unknown
    first, second = (walk.row(name) for name in node.input)
    pairs = zip(*_repeated(first, second), strict=True)
    found = tuple(_result(node.op_type, one, other) for one, other in pairs)
    return Row(found, max(first.rank, second.rank))


def _result(operator: str, first: Length, second: Length) -> Length:
    if operator == "Mul":
        return first.times(second)
    found, by = None, second.fixed
    if operator == "Equal":
        found = _equal(first, second)
    elif operator == "Div" and by and first.fixed is None:
        found = first.stepped(Step(by=by))
    elif operator in ("Add", "Sub") and by is not None:
        found = first.stepped(Step(plus=by if operator == "Add" else -by))
    elif operator == "Add" and first.fixed is not None:
        found = second.stepped(Step(plus=first.fixed))
    return first.somehow(second) if found is None else found


def _equal(first: Length, second: Length) -> Length | None:
    """1 or 0; None where it depends."""
    if first == second and first.exact:
        return constant(1)
    numbers = [one.fixed for one in (first, second) if one.fixed is not None]
    # No axis has a length of -1, which stands for one that is to be kept.
    differ = len(numbers) == 2 or any(number < 0 for number in numbers)
    return constant(0) if differ and first.exact and second.exact else None


def _chosen(walk: Numbers, node: NodeProto) -> Row:
    """Where, as far as its condition is known."""
    rows = [walk.row(name) for name in node.input]
    found = []
    for condition, one, other in zip(*_repeated(*rows), strict=True):
        known = condition.fixed
        found.append(condition.somehow(one, other) if known is None else one if known else other)
    return Row(tuple(found), max(row.rank for row in rows))


def _repeated(*rows: Row) -> list[tuple[Length, ...]]:
    """Entries of rows that are combined: a single one goes with all of the others."""
    counts = [len(row.entries) for row in rows]
    if not set(counts) <= {1, max(counts)}:
        raise Unknown
    return [row.entries * (max(counts) if len(row.entries) == 1 else 1) for row in rows]


def _per_channel(walk: LengthWalk, node: NodeProto, dims: Sequence[Dims]) -> Sequence[Dims]:
    source, scale = dims[0], dims[1]
    if source is not None and scale is not None and len(source) > 1 and len(scale) == 1:
        walk.require_equal(source[1], scale[0])
    return [source]


def _last_axes(walk: LengthWalk, node: NodeProto, dims: Sequence[Dims]) -> Sequence[Dims]:
    """Normalisation over the last axes, whose scale has their lengths."""
    # A SkipLayerNormalization reads two tensors first, a SimplifiedLayerNormalization one.
    scale = dims[2 if node.op_type.startswith("Skip") and len(dims) > 2 else 1]
    source = dims[0]
    if source and scale:
        walk.require_equal(source[-1], scale[-1])
    return [source]


def _quantised(_walk: LengthWalk, _node: NodeProto, dims: Sequence[Dims]) -> Sequence[Dims]:
    return [dims[0], (), ()]


def _of_normalization(
    walk: StatisticsWalk, node: gs.Node, _before: Sequence[ChannelStatistics | None]
) -> ChannelStatistics | None:
    if node.attrs.get("training_mode", 0) or not node.attrs.get("spatial", 1):
        return None
    gamma, beta = (walk.constants.array(tensor.name) for tensor in node.inputs[1:3])
    if gamma is None or beta is None or gamma.ndim != 1 or gamma.shape != beta.shape:
        return None
    mean, variance = beta.astype(np.float64), gamma.astype(np.float64) ** 2
    if not (np.isfinite(mean).all() and np.isfinite(variance).all()):
        return None
    return ChannelStatistics(mean, variance)


def _of_sum(
    _walk: StatisticsWalk, _node: gs.Node, before: Sequence[ChannelStatistics | None]
) -> ChannelStatistics | None:
    first, second = before
    # One of them alone may be broadcast, or be as large as you like.
    if first is None or second is None or first.mean.shape != second.mean.shape:
        return None
    if first.flattened != second.flattened:
        return None
    mean, variance = first.mean + second.mean, first.variance + second.variance
    return ChannelStatistics(mean, variance, first.flattened)


def _of_dropout(
    walk: StatisticsWalk, node: gs.Node, before: Sequence[ChannelStatistics | None]
) -> ChannelStatistics | None:
    drops = has_input(node, 2) and walk.constants.scalar(node.inputs[2].name) != 0
    return None if drops else before[0]


def _of_activation(
    walk: StatisticsWalk, node: gs.Node, before: Sequence[ChannelStatistics | None]
) -> ChannelStatistics | None:
    found = before[0]
    if found is None:
        return None
    # Slopes of a PRelu belong to channels as behind a Conv of two axes; others end the walk.
    channels = len(found.mean)
    geometry = Geometry(kind=CONV.name, in_channels=channels, out_channels=channels)
    activation = read_activation(node, geometry, rank=4, constants=walk.constants)
    if activation is None or (found.flattened and len(activation.slopes) > 1):
        return None
    mean, variance = walk.activated(found.mean, found.variance, activation)
    return ChannelStatistics(mean, variance, found.flattened)


def _scaled(
    constants: Constants, node: gs.Node, slot: int, before: Normalisation
) -> Normalisation | None:
    """A shift or a scale by constants."""
    if len(node.inputs) != 2:
        return None
    values = constants.array(node.inputs[1 - slot].name)
    if values is None or (slot == 1 and node.op == "Div"):
        return None
    by = values.astype(np.float64)
    if not np.isfinite(by).all() or (node.op in ("Mul", "Div") and not by.all()):
        return None
    if node.op == "Add":
        return Normalisation(before.scale, before.shift + by)
    if node.op == "Mul":
        return Normalisation(before.scale * by, before.shift * by)
    if node.op == "Div":
        return Normalisation(before.scale / by, before.shift / by)
    if slot == 0:
        return Normalisation(before.scale, before.shift - by)
    return Normalisation(-before.scale, by - before.shift)


# Operators on every number of a tensor by itself; bounds of a Clip are scalars.
_UNARY = Operator(lengths=same_dims, channels=handed_on)
# Operators on several tensors, number by number.
_PAIRWISE = Operator(lengths=_broadcast, channels=_broadcasting)
_ARITHMETIC = replace(_PAIRWISE, numbers=_combined)

OPERATORS = {
    **family(
        "Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Ceil Celu Cos Cosh Elu Erf Exp Floor Gelu "
        "HardSigmoid HardSwish IsInf IsNaN Log Mish Neg Not Reciprocal Round Selu Shrink Sigmoid "
        "Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu",
        _UNARY,
    ),
    **family("Relu LeakyRelu Clip", replace(_UNARY, statistics=_of_activation)),
    "Cast": replace(
        _UNARY,
        numbers=_unchanged,
        normalisation=same_normalisation,
        passes_values=True,
    ),
    "Identity": replace(
        _UNARY,
        numbers=_unchanged,
        statistics=same_statistics,
        normalisation=same_normalisation,
        passes_values=True,
    ),
    # Channels end at these, and lengths do not.
    **family(
        "CastLike CumSum DequantizeLinear FastGelu QuantizeLinear QuickGelu Scaler Trilu BiasGelu",
        Operator(lengths=same_dims),
    ),
    "DynamicQuantizeLinear": Operator(lengths=_quantised),
    "Dropout": Operator(
        lengths=same_dims,
        channels=_dropout,
        all_outputs=True,
        statistics=_of_dropout,
        passes_values=True,
    ),
    **family("Softmax LogSoftmax Hardmax", Operator(lengths=same_dims, channels=_softmax)),
    **family("And Mean Or Pow Sum Xor", _PAIRWISE),
    **family("Greater GreaterOrEqual Less LessOrEqual", replace(_PAIRWISE, lengths=_compared)),
    "Equal": replace(_ARITHMETIC, lengths=_compared),
    **family("Max Min Mod", _ARITHMETIC),
    **family("Mul Div Sub", replace(_ARITHMETIC, normalisation=_scaled)),
    "Add": replace(_ARITHMETIC, statistics=_of_sum, normalisation=_scaled),
    "Where": replace(_PAIRWISE, numbers=_chosen),
    "PRelu": replace(_PAIRWISE, lengths=same_dims, statistics=_of_activation),
    **family("BitwiseAnd BitwiseOr BitwiseXor BitShift", Operator(lengths=_broadcast)),
    "BatchNormalization": Operator(
        lengths=_per_channel, channels=_normalization, statistics=_of_normalization
    ),
    "InstanceNormalization": Operator(lengths=_per_channel, channels=_normalization),
    **family(
        "LRN LpNormalization MeanVarianceNormalization GroupNormalization",
        Operator(lengths=same_dims, channels=mixing, all_outputs=True),
    ),
    **family(
        "LayerNormalization RMSNormalization",
        Operator(lengths=_last_axes, channels=mixing, all_outputs=True),
    ),
    **family(
        "SimplifiedLayerNormalization SkipLayerNormalization SkipSimplifiedLayerNormalization",
        Operator(lengths=_last_axes),
    ),
}
