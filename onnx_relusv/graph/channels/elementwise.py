"""Channels through nodes that work on every number by itself, and on several tensors alike."""

from onnx import NodeProto

from onnx_relusv.graph.channels.walk import Barrier, UnitAxis, Walk, given, whole, wholes

UNARY = frozenset(
    [
        "Abs",
        "Acos",
        "Acosh",
        "Asin",
        "Asinh",
        "Atan",
        "Atanh",
        "BitwiseNot",
        "Cast",
        "Ceil",
        "Celu",
        "Clip",
        "Cos",
        "Cosh",
        "Elu",
        "Erf",
        "Exp",
        "Floor",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "IsInf",
        "IsNaN",
        "LeakyRelu",
        "Log",
        "Mish",
        "Neg",
        "Not",
        "Reciprocal",
        "Relu",
        "Round",
        "Selu",
        "Shrink",
        "Sigmoid",
        "Sign",
        "Sin",
        "Sinh",
        "Softplus",
        "Softsign",
        "Sqrt",
        "Swish",
        "Tan",
        "Tanh",
        "ThresholdedRelu",
    ]
)
BROADCASTING = frozenset(
    [
        "Add",
        "And",
        "Div",
        "Equal",
        "Greater",
        "GreaterOrEqual",
        "Less",
        "LessOrEqual",
        "Max",
        "Mean",
        "Min",
        "Mod",
        "Mul",
        "Or",
        "Pow",
        "PRelu",
        "Sub",
        "Sum",
        "Where",
        "Xor",
    ]
)
MIXING = "mixes its channels"


def unary(walk: Walk, _index: int, node: NodeProto) -> None:
    """Hands channels on; bounds of a Clip are scalars."""
    found = walk.source(node)
    walk.put(node, found.axis, found.units)


def dropout(walk: Walk, _index: int, node: NodeProto) -> None:
    """Hands channels on, and says which numbers it does, unless some are dropped."""
    if given(node, 2) and walk.constants.scalar(node.input[2]) != 0:
        raise Barrier("may be training")
    found = walk.source(node)
    for slot, name in enumerate(node.output):
        if name:
            walk.put(node, found.axis, found.units, slot)


def broadcasting(walk: Walk, index: int, node: NodeProto) -> None:
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


def normalization(walk: Walk, index: int, node: NodeProto) -> None:
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


def softmax(walk: Walk, _index: int, node: NodeProto) -> None:
    """Softmax, LogSoftmax, Hardmax over other axes; before opset 13 over all from one on."""
    found = walk.source(node)
    axis = whole(node, "axis", -1 if walk.opset >= 13 else 1) % found.rank
    if axis == found.axis or (walk.opset < 13 and axis < found.axis):
        raise Barrier(MIXING)
    walk.put(node, found.axis, found.units)


def pooling(walk: Walk, _index: int, node: NodeProto) -> None:
    """Pools positions, channel by channel."""
    units = walk.axis(node.input[0], 1)
    assert units is not None  # the node reads channels
    for slot, name in enumerate(node.output):
        if name:
            walk.put(node, 1, units, slot)


def reduction(walk: Walk, _index: int, node: NodeProto) -> None:
    """ReduceMean and its like over other axes."""
    found = walk.source(node)
    axes = walk.numbers(node.input[1]) if given(node, 1) else wholes(node, "axes")
    if axes is None and given(node, 1):
        raise Barrier("takes computed axes")
    if not axes and not whole(node, "noop_with_empty_axes", 0):
        raise Barrier(MIXING)
    gone = {axis % found.rank for axis in axes or ()}
    if found.axis in gone:
        raise Barrier(MIXING)
    before = sum(axis < found.axis for axis in gone)
    walk.put(node, found.axis if whole(node, "keepdims", 1) else found.axis - before, found.units)
