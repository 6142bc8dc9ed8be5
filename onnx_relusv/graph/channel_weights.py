"""Channels at weighted nodes: where they begin, and where they are read."""

from onnx import NodeProto

from onnx_relusv.graph.channel_records import ConstantAxis, Units
from onnx_relusv.graph.channel_walk import Barrier, Walk, given, whole

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
    rule(walk, index, node)


def _conv(walk: Walk, index: int, node: NodeProto) -> None:
    dims, groups = walk.weight(node).dims, whole(node, "group", 1)
    read = walk.axis(node.input[0], 1, node)
    if groups > 1 and dims[1] == 1:
        if read is None:
            raise Barrier("depthwise: its channels are those of its input, which stay")
        # Every channel makes its own outputs, one behind the other.
        _depthwise(walk, index, node, read.repeat(dims[0] // groups))
        return
    if read is not None:
        inner = read.reshape(groups, -1)
        for other in inner[1:]:
            walk.atoms.merge(inner[0], other)
        walk.consumed.append(ConstantAxis(index, 1, 1, inner[0]))
    # In every group as many stay, at the same places.
    own = walk.atoms.new(dims[0] // groups)
    _made(walk, index, node, 0, _repeated(own, groups))


def _repeated(units: Units, groups: int) -> Units:
    return units if groups == 1 else units[None].repeat(groups, axis=0).reshape(-1)


def _conv_transpose(walk: Walk, index: int, node: NodeProto) -> None:
    dims, groups = walk.weight(node).dims, whole(node, "group", 1)
    read = walk.axis(node.input[0], 1, node)
    if groups > 1:
        if dims[1] != 1 or dims[0] != groups or read is None:
            raise Barrier("the groups of ConvTranspose are not understood")
        _depthwise(walk, index, node, read)
        return
    if read is not None:
        walk.consumed.append(ConstantAxis(index, 1, 0, read))
    _made(walk, index, node, 1, walk.atoms.new(dims[1]))


def _depthwise(walk: Walk, index: int, node: NodeProto, units: Units) -> None:
    walk.carry(index, 1, 0, units)
    if given(node, 2):
        _bias(walk, node)
        walk.carry(index, 2, 0, units)
    walk.put(node.output[0], 1, units)


def _gemm(walk: Walk, index: int, node: NodeProto) -> None:
    dims = walk.weight(node).dims
    if whole(node, "transA", 0):
        raise Barrier(f"Gemm {node.output[0]} reads across its channels")
    rows, columns = (0, 1) if whole(node, "transB", 0) else (1, 0)
    read = walk.axis(node.input[0], 1, node)
    if read is not None:
        walk.consumed.append(ConstantAxis(index, 1, columns, read))
    _made(walk, index, node, rows, walk.atoms.new(dims[rows]))


def _matmul(walk: Walk, index: int, node: NodeProto) -> None:
    dims = walk.weight(node).dims
    if len(dims) != 2:
        raise Barrier(f"the weight of MatMul {node.output[0]} is no matrix")
    last = walk.rank(node.input[0]) - 1
    read = walk.axis(node.input[0], last, node)
    if last == 0:
        raise Barrier(f"MatMul {node.output[0]} reads a vector")
    if read is not None:
        walk.consumed.append(ConstantAxis(index, 1, 0, read))
    _made(walk, index, node, 1, walk.atoms.new(dims[1]))


def _made(walk: Walk, index: int, node: NodeProto, axis: int, units: Units) -> None:
    """Lets channels begin: the weight's axis, a bias, and the tensor that leaves."""
    shape = _bias(walk, node) if given(node, 2) else None
    walk.produced.append(ConstantAxis(index, 1, axis, units))
    if shape is not None:
        # A Gemm's is broadcast from the right.
        if shape and shape[-1] == len(units):
            walk.carry(index, 2, len(shape) - 1, units)
        elif shape and shape[-1] != 1:
            walk.atoms.pin(units.tolist(), "its bias is not understood")
    last = walk.rank(node.output[0]) - 1 if node.op_type == "MatMul" else 1
    walk.put(node.output[0], last, units)


def _bias(walk: Walk, node: NodeProto) -> tuple[int, ...]:
    tensor = walk.constants.tensor(node.input[2])
    if tensor is None:
        raise Barrier(f"the bias of {node.op_type} {node.output[0]} is computed")
    return tuple(tensor.dims)
