"""Channels through nodes that work on every number by itself, and on several tensors alike."""

from onnx import NodeProto

from onnx_relusv.graph.channel_records import UnitAxis
from onnx_relusv.graph.channel_walk import Barrier, Walk, given, whole, wholes

UNARY = frozenset(
    "Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cast Ceil Celu Clip Cos Cosh Elu Erf Exp "
    "Floor Gelu HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal "
    "Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh "
    "ThresholdedRelu".split()
)
BROADCASTING = frozenset(
    "Add And Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mod Mul Or Pow PRelu "
    "Sub Sum Where Xor".split()
)


def unary(walk: Walk, _index: int, node: NodeProto) -> None:
    """Hands channels on; bounds of a Clip are scalars."""
    found = walk.axes.get(node.input[0])
    if found is None:
        raise Barrier(f"{node.op_type} {node.output[0]} takes its settings from channels")
    walk.put(node.output[0], found.axis, found.units)


def dropout(walk: Walk, index: int, node: NodeProto) -> None:
    """Hands channels on, unless some are dropped."""
    if given(node, 2) and walk.constants.scalar(node.input[2]) != 0:
        raise Barrier(f"Dropout {node.output[0]} may be training")
    unary(walk, index, node)


def broadcasting(walk: Walk, index: int, node: NodeProto) -> None:
    """Merges the channels of all inputs; constants along them are cut with them."""
    rank = walk.rank(node.output[0])
    aligned = [
        (slot, UnitAxis(axis.axis + rank - walk.rank(node.input[slot]), axis.units))
        for slot, axis in walk.labelled(node)
    ]
    place, units = aligned[0][1].axis, aligned[0][1].units
    for _, other in aligned[1:]:
        if other.axis != place or len(other.units) != len(units):
            raise Barrier(f"{node.op_type} {node.output[0]} combines different channels")
        units = walk.atoms.merge(units, other.units)
    if walk.shape(node.output[0])[place] != len(units):
        raise Barrier(f"{node.op_type} {node.output[0]} spreads its channels")
    known = {slot for slot, _ in aligned}
    for slot, name in enumerate(node.input):
        if slot in known or not name:
            continue
        shape = walk.shape(name)
        own = place - (rank - len(shape))
        if own < 0 or shape[own] == 1:
            continue
        if walk.constants.tensor(name) is None:
            raise Barrier(f"{node.op_type} {node.output[0]} combines channels with some that stay")
        walk.carry(index, slot, own, units)
    walk.put(node.output[0], place, units)


def normalization(walk: Walk, index: int, node: NodeProto) -> None:
    """BatchNormalization and InstanceNormalization, whose vectors have an entry a channel."""
    units = walk.axis(node.input[0], 1, node)
    if units is None or whole(node, "training_mode", 0) or not whole(node, "spatial", 1):
        raise Barrier(f"{node.op_type} {node.output[0]} does not normalise channels by constants")
    for slot in range(1, len(node.input)):
        tensor = walk.constants.tensor(node.input[slot])
        if tensor is None or tuple(tensor.dims) != (len(units),):
            raise Barrier(f"the vectors of {node.op_type} {node.output[0]} are computed")
        walk.carry(index, slot, 0, units)
    walk.put(node.output[0], 1, units)


def softmax(walk: Walk, _index: int, node: NodeProto) -> None:
    """Softmax, LogSoftmax, Hardmax over other axes; before opset 13 over all from one on."""
    found = walk.axes[node.input[0]]
    rank = walk.rank(node.input[0])
    axis = whole(node, "axis", -1 if walk.opset >= 13 else 1) % rank
    if axis == found.axis or (walk.opset < 13 and axis <= found.axis):
        raise Barrier(f"{node.op_type} mixes its channels")
    walk.put(node.output[0], found.axis, found.units)


def pooling(walk: Walk, _index: int, node: NodeProto) -> None:
    """Pools positions, channel by channel."""
    units = walk.axis(node.input[0], 1, node)
    assert units is not None  # the node reads channels
    walk.put(node.output[0], 1, units)


def reduction(walk: Walk, _index: int, node: NodeProto) -> None:
    """ReduceMean and its like over other axes."""
    found = walk.axes.get(node.input[0])
    if found is None:
        raise Barrier(f"{node.op_type} {node.output[0]} takes its settings from channels")
    rank = walk.rank(node.input[0])
    axes = wholes(node, "axes")
    if given(node, 1):
        axes = walk.numbers(node.input[1])
    if axes is None or not axes:
        if whole(node, "noop_with_empty_axes", 0) and not given(node, 1):
            walk.put(node.output[0], found.axis, found.units)
            return
        raise Barrier(f"{node.op_type} {node.output[0]} mixes its channels")
    gone = {axis % rank for axis in axes}
    if found.axis in gone:
        raise Barrier(f"{node.op_type} {node.output[0]} mixes its channels")
    before = sum(axis < found.axis for axis in gone)
    axis = found.axis if whole(node, "keepdims", 1) else found.axis - before
    walk.put(node.output[0], axis, found.units)
