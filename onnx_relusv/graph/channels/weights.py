"""Operators with weights: where channels begin and are read, and what lengths weights require."""

from collections.abc import Sequence

from onnx import NodeProto

from onnx_relusv.core.linear_algebra import problem_of
from onnx_relusv.graph.channels.lengths import Dims, LengthWalk, Step, constant, stepped
from onnx_relusv.graph.channels.operator import (
    ChannelRule,
    Cut,
    LengthRule,
    Operator,
    SettingsRule,
    family,
)
from onnx_relusv.graph.channels.walk import Barrier, ConstantAxis, Units, Walk
from onnx_relusv.graph.channels.windows import windowed
from onnx_relusv.graph.nodes import attribute, has_input, whole


def _weighted(
    lengths: LengthRule, channels: ChannelRule, settings: SettingsRule | None = None
) -> Operator:
    """An operator at which channels begin, unless its constants cannot be worked with."""

    def rule(walk: Walk, index: int, node: NodeProto) -> None:
        for name in node.input[1:3]:
            values = walk.constants.array(name) if name else None
            problem = None if values is None else problem_of(values)
            if problem is not None:
                raise Barrier(f"has a constant {name} that holds {problem}")
        channels(walk, index, node)

    return Operator(lengths=lengths, channels=rule, settings=settings, begins=True)


def _conv(walk: Walk, index: int, node: NodeProto) -> None:
    dims, groups = walk.weight(node).dims, whole(node, "group", 1)
    # A ConvTranspose's weight is (input channels, output channels of one group, kernel).
    transposed = node.op_type == "ConvTranspose"
    depthwise = groups > 1 and (dims[0] == groups if transposed else dims[1] == 1)
    each = dims[1] if transposed else dims[0] // groups
    read = walk.axis(node.input[0], 1)
    if depthwise:
        _depthwise(walk, index, node, read, each)
        return
    if read is not None:
        inner = read.reshape(groups, -1)
        for other in inner[1:]:
            walk.merge(node, inner[0], other)
        axis, units = (0, read) if transposed else (1, inner[0])
        walk.consumed.append(ConstantAxis(index, 1, axis, units))
    _made(walk, index, node, 1 if transposed else 0, each, groups)


def _depthwise(walk: Walk, index: int, node: NodeProto, read: Units | None, each: int) -> None:
    """Every channel makes its own outputs, one behind the other."""
    if read is None:
        raise Barrier("is depthwise, and the channels that it reads stay")
    units = read.repeat(each)
    if has_input(node, 2):
        _bias(walk, node)
        walk.carry(index, 2, 0, units)
    walk.carry(index, 1, 0, units if node.op_type == "Conv" else read)
    walk.put(node, 1, units)


def _regrouped(cut: Cut, node: NodeProto) -> None:
    """A depthwise one has as many groups as input channels."""
    found, groups = cut.axis(node.input[0]), whole(node, "group", 1)
    for setting in node.attribute:
        if setting.name == "group" and found is not None and 1 < groups == len(found.units):
            setting.i = cut.left(found.units)


def _gemm(walk: Walk, index: int, node: NodeProto) -> None:
    dims = walk.weight(node).dims
    if whole(node, "transA", 0):
        raise Barrier("reads across its channels")
    rows, columns = (0, 1) if whole(node, "transB", 0) else (1, 0)
    read = walk.axis(node.input[0], 1)
    if read is not None:
        walk.consumed.append(ConstantAxis(index, 1, columns, read))
    _made(walk, index, node, rows, dims[rows])


def _matmul(walk: Walk, index: int, node: NodeProto) -> None:
    dims, rank = walk.weight(node).dims, walk.rank(node.input[0])
    if len(dims) != 2:
        raise Barrier("has a weight that is no matrix")
    if rank < 2:
        raise Barrier("reads a vector")
    read = walk.axis(node.input[0], rank - 1)
    if read is not None:
        walk.consumed.append(ConstantAxis(index, 1, 0, read))
    _made(walk, index, node, 1, dims[1])


def _made(walk: Walk, index: int, node: NodeProto, axis: int, count: int, groups: int = 1) -> None:
    """Lets channels begin: the weight's axis, a bias, and the tensor that leaves.

    In every group as many stay, at the same places.
    """
    own = walk.atoms.new(count)
    made = own[None].repeat(groups, axis=0).reshape(-1)
    bias = _bias(walk, node) if has_input(node, 2) else ()
    # A Gemm's bias is broadcast from the right.
    if bias and bias[-1] == len(made):
        walk.carry(index, 2, len(bias) - 1, made)
    elif bias and bias[-1] != 1:
        raise Barrier(f"has a bias of shape {bias}")
    walk.put(node, walk.rank(node.output[0]) - 1 if node.op_type == "MatMul" else 1, made)
    # A Conv's weight has the rows of all groups, that of a ConvTranspose those of one.
    walk.produced.append(ConstantAxis(index, 1, axis, own if axis == 1 else made))


def _bias(walk: Walk, node: NodeProto) -> tuple[int, ...]:
    tensor = walk.constants.tensor(node.input[2])
    if tensor is None:
        raise Barrier(f"has a bias that is {walk.constants.what(node.input[2])}")
    return tuple(tensor.dims)


def _of_matmul(walk: LengthWalk, node: NodeProto, dims: Sequence[Dims]) -> Sequence[Dims]:
    left, right = dims[0], dims[3 if node.op_type == "QLinearMatMul" else 1]
    if node.op_type == "FusedMatMul":
        if left is not None and attribute(node, "transA", 0):
            left = (*left[:-2], *left[:-3:-1])
        if right is not None and attribute(node, "transB", 0):
            right = (*right[:-2], *right[:-3:-1])
    if not left or not right:
        return [None]
    walk.require_equal(left[-1], right[-2] if len(right) > 1 else right[0])
    batch = walk.broadcast(left[:-2], right[:-2])
    if batch is None:
        return [None]
    rows = () if len(left) == 1 else (left[-2],)
    columns = () if len(right) == 1 else (right[-1],)
    return [(*batch, *rows, *columns)]


def _of_gemm(walk: LengthWalk, node: NodeProto, dims: Sequence[Dims]) -> Sequence[Dims]:
    left, right = walk.of_rank(dims[0], 2), dims[1]
    if left is None or right is None or len(right) != 2:
        return []
    rows, inner = left[::-1] if attribute(node, "transA", 0) else left
    other, columns = right[::-1] if attribute(node, "transB", 0) else right
    walk.require_equal(inner, other)
    return [(rows, columns)]


def _of_conv(walk: LengthWalk, node: NodeProto, dims: Sequence[Dims]) -> Sequence[Dims]:
    # Quantised ones have scales and zero points between.
    kernel = dims[3 if node.op_type == "QLinearConv" else 1]
    source = None if kernel is None else walk.of_rank(dims[0], len(kernel))
    if source is None or kernel is None:
        return []
    sizes = [None if one is None else one.fixed for one in kernel]
    groups, windows = attribute(node, "group", 1), attribute(node, "kernel_shape", sizes[2:])
    grouped = None if sizes[1] is None else sizes[1] * groups
    transposed = node.op_type == "ConvTranspose"
    read = sizes[0] if transposed else grouped
    if read is not None:
        walk.require(source[1], "equal", read)
    made = kernel[0]
    if transposed:
        made = constant(grouped) if grouped else None
    return [(source[0], made, *windowed(walk, node, source[2:], windows))]


def _recurrent(walk: LengthWalk, node: NodeProto, dims: Sequence[Dims]) -> Sequence[Dims]:
    source, weight = walk.of_rank(dims[0], 3), dims[1]
    if source is None:
        return []
    if weight is not None and len(weight) == 3:
        walk.require_equal(source[2], weight[2])
    batch_first = attribute(node, "layout", 0)
    steps, batch = source[1::-1] if batch_first else source[:2]
    directions = constant(2 if attribute(node, "direction", b"forward") == b"bidirectional" else 1)
    hidden = attribute(node, "hidden_size")
    width = None if hidden is None else constant(hidden)
    for state in dims[5:7]:
        if state is not None and len(state) == 3:
            first, second = state[1::-1] if batch_first else state[:2]
            walk.require_equal(second, batch)
            walk.require_equal(first, directions)
            walk.require_equal(state[2], width)
    if len(dims) > 4 and dims[4] is not None and len(dims[4]) == 1:
        walk.require_equal(dims[4][0], batch)
    if batch_first:
        last: Dims = (batch, directions, width)
        return [(batch, steps, directions, width), last, last]
    last = (directions, batch, width)
    return [(steps, directions, batch, width), last, last]


def _attention(walk: LengthWalk, _node: NodeProto, dims: Sequence[Dims]) -> Sequence[Dims]:
    """The contributed one, whose weight is (features, 3 * features)."""
    source, weight = walk.of_rank(dims[0], 3), dims[1]
    if source is None or weight is None or len(weight) != 2:
        return []
    walk.require_equal(source[2], weight[0])
    return [(*source[:2], stepped(weight[1], Step(by=3)))]


OPERATORS = {
    **family("Conv ConvTranspose", _weighted(_of_conv, _conv, _regrouped)),
    "Gemm": _weighted(_of_gemm, _gemm),
    "MatMul": _weighted(_of_matmul, _matmul),
    # Channels end at these.
    **family("FusedConv ConvInteger QLinearConv", Operator(lengths=_of_conv)),
    **family(
        "MatMulInteger QLinearMatMul FusedMatMul DynamicQuantizeMatMul MatMulIntegerToFloat",
        Operator(lengths=_of_matmul),
    ),
    **family("LSTM GRU RNN DynamicQuantizeLSTM", Operator(lengths=_recurrent)),
    **family("Attention QAttention", Operator(lengths=_attention)),
}
