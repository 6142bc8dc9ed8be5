"""Channels at weighted nodes: where they begin, and where they are read."""

from onnx import NodeProto

from onnx_relusv.core.linear_algebra import problem_of
from onnx_relusv.graph.channels.walk import Barrier, ConstantAxis, Units, Walk, given, whole

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def weighted(walk: Walk, index: int, node: NodeProto) -> None:
    """Follows channels into a weighted node and lets its own begin.

    Raises:
        Barrier: The node is not understood; what it reads and makes stays.
    """
    rule = {
        "Conv": _conv,
        "ConvTranspose": _conv_transpose,
        "Gemm": _gemm,
        "MatMul": _matmul,
    }[node.op_type]
    for name in node.input[1:3]:
        values = walk.constants.array(name) if name else None
        problem = None if values is None else problem_of(values)
        if problem is not None:
            raise Barrier(f"has a constant {name} that holds {problem}")
    rule(walk, index, node)


def _conv(walk: Walk, index: int, node: NodeProto) -> None:
    dims, groups = walk.weight(node).dims, whole(node, "group", 1)
    read = walk.axis(node.input[0], 1)
    if groups > 1 and dims[1] == 1:
        _depthwise(walk, index, node, read, dims[0] // groups)
        return
    if read is not None:
        inner = read.reshape(groups, -1)
        for other in inner[1:]:
            walk.merge(node, inner[0], other)
        walk.consumed.append(ConstantAxis(index, 1, 1, inner[0]))
    _made(walk, index, node, 0, dims[0] // groups, groups)


def _conv_transpose(walk: Walk, index: int, node: NodeProto) -> None:
    # Its weight is (input channels, output channels of one group, kernel).
    dims, groups = walk.weight(node).dims, whole(node, "group", 1)
    read = walk.axis(node.input[0], 1)
    if groups > 1 and dims[0] == groups:
        _depthwise(walk, index, node, read, dims[1])
        return
    if read is not None:
        inner = read.reshape(groups, -1)
        for other in inner[1:]:
            walk.merge(node, inner[0], other)
        walk.consumed.append(ConstantAxis(index, 1, 0, read))
    _made(walk, index, node, 1, dims[1], groups)


def _depthwise(walk: Walk, index: int, node: NodeProto, read: Units | None, each: int) -> None:
    """Every channel makes its own outputs, one behind the other."""
    if read is None:
        raise Barrier("is depthwise, and the channels that it reads stay")
    units = read.repeat(each)
    if given(node, 2):
        _bias(walk, node)
        walk.carry(index, 2, 0, units)
    walk.carry(index, 1, 0, units if node.op_type == "Conv" else read)
    walk.put(node, 1, units)


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
    bias = _bias(walk, node) if given(node, 2) else ()
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
