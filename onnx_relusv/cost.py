"""Bytes and multiply-accumulates of blocks and of their candidates."""

from collections.abc import Sequence
from math import prod

from onnx import NodeProto

from onnx_relusv import encoded, forms
from onnx_relusv.decisions import Cost, Form
from onnx_relusv.records import Block

# What a protobuf spends on a refit beside the numbers and names, at most: field tags, dims, element
# type, node attributes and the domain-free operator name.
_INITIALIZER_OVERHEAD = 48
_NODE_OVERHEAD = 160
_CAST_OVERHEAD = 40
_SUFFIX = 20
# Of weights that are read as floats, numbers may be stored in half precision.
_HALF_A_FLOAT = 2


def block_macs(block: Block) -> int:
    """Multiply-accumulates of the block as it is, for one sample."""
    numbers = weight_numbers(block)
    if block.geometry.kind == "conv":
        return numbers * prod(block.output_shape[2:])
    return numbers * prod(block.output_shape[:-1])


def block_cost(block: Block) -> Cost:
    """What the block costs as it is."""
    return Cost(bytes=block.original_bytes, macs=block_macs(block))


def candidate_cost(
    block: Block, form: Form, rank: int, item_size: int, *, biased: bool = True
) -> Cost:
    """What a double layer costs.

    Args:
        block: The block it replaces.
        form: Its form.
        rank: Its inner width, per group.
        item_size: Bytes of one stored number.
        biased: Whether it adds a bias; it has none where all of it is zero.

    Returns:
        The cost; its bytes are those that its nodes and initializers take in the file, unless their
        names are taken there and get a number behind them.
    """
    weights = zip(_roles(form), _stored_shapes(block, form, rank), strict=True)
    constants = [(f"{block.key}/{role}_weight", dims) for role, dims in weights]
    stored = sum(encoded.tensor(name, dims, item_size) for name, dims in constants)
    if biased:
        name, dims = f"{block.key}/bias", (block.geometry.out_channels,)
        constants.append((name, dims))
        # A bias is stored as it is read.
        stored += encoded.tensor(name, dims, item_size + _HALF_A_FLOAT * _is_cast(block))
    if block.lists_initializers:
        stored += sum(encoded.listed(name, dims) for name, dims in constants)
    return Cost(
        bytes=stored + _node_bytes(block, form, biased=biased),
        macs=forms.macs(form, block.geometry, rank, block.source_shape, block.output_shape),
    )


def _roles(form: Form) -> tuple[str, ...]:
    return ("first", "core", "second") if form == "tucker" else ("first", "second")


def _stored_shapes(block: Block, form: Form, rank: int) -> list[tuple[int, ...]]:
    """The shapes in which the nodes of a form read its weights."""
    geometry = block.geometry
    shapes = forms.shapes(form, geometry, rank)
    if geometry.kind != "conv":
        return [(columns, rows) for rows, columns in shapes]
    layers = forms.conv_layers(form, geometry)
    if form == "spatial":
        (width, columns), _ = shapes
        first = (geometry.groups * width, columns // geometry.kernel[0], *layers[0].kernel)
        return [first, (geometry.out_channels, width, *layers[1].kernel)]
    return [
        (geometry.groups * rows, columns // prod(layer.kernel), *layer.kernel)
        for (rows, columns), layer in zip(shapes, layers, strict=True)
    ]


def _node_bytes(block: Block, form: Form, *, biased: bool) -> int:
    """What the nodes of a form take, which does not depend on its rank."""
    key, roles = block.key, _roles(form)
    between = [f"{key}/inner", *([f"{key}/core_inner"] if form == "tucker" else [])]
    tensors = [block.source, *between, block.pre_activation]
    bias, total = f"{key}/bias", 0
    for place, role in enumerate(roles):
        read, made = tensors[place], tensors[place + 1]
        weight, is_last = f"{key}/{role}_weight", role == roles[-1]
        if _is_cast(block):
            stored, weight = weight, f"{weight}_read"
            names = [f"{stored}_cast", stored, weight]
            total += encoded.node("Cast", names, {"to": block.element_type})
        names = [f"{key}/{role}", read, weight]
        operator, attributes = "MatMul", dict[str, encoded.Attribute]()
        if block.geometry.kind == "conv":
            operator = "Conv"
            layer = forms.conv_layers(form, block.geometry)[place]
            attributes = forms.conv_attributes(layer, block.geometry.groups)
        if is_last and biased and block.geometry.kind == "matmul":
            product = f"{key}/product"
            total += encoded.node("Add", [f"{key}/sum", product, bias, made])
            made = product
        elif is_last and biased:
            operator = "Gemm" if block.geometry.kind == "gemm" else operator
            names.append(bias)
        total += encoded.node(operator, [*names, made], attributes)
    return total


def refit_bytes(block: Block, nodes: Sequence[NodeProto], item_size: int) -> int:
    """What a block adds to the file when it gets other values in its own form.

    Args:
        block: The block.
        nodes: Of the file.
        item_size: Bytes of one stored number.

    Returns:
        An upper bound: longer names, and where it has no bias of its own, a bias and what adds it.
    """
    new = len(block.key.encode()) + _SUFFIX
    # The weight's name goes; that of a bias may be in use elsewhere.
    names = 3 * max(2 * new - len(block.weight.encode()), 0)
    constants = block.original_bytes - sum(nodes[index].ByteSize() for index in block.nodes)
    missing = item_size * block_numbers(block) + _wider_bias_bytes(block) - constants
    # What computed the weight goes, a Cast among it, and is no room for numbers.
    missing += block.surplus_bytes
    names += max(_cast_bytes(block) - block.surplus_bytes, 0)
    if missing <= 0:
        return names
    overhead = _INITIALIZER_OVERHEAD
    if block.geometry.kind == "matmul":
        overhead += _NODE_OVERHEAD + 3 * new
    return missing + overhead + names


def _cast_bytes(block: Block) -> int:
    """What it takes to cast a weight that is stored in another type than it is read in."""
    if not _is_cast(block):
        return 0
    return _CAST_OVERHEAD + 3 * (len(block.key.encode()) + _SUFFIX)


def _wider_bias_bytes(block: Block) -> int:
    """What a bias, which is stored as it is read, takes more than in the type of the weight."""
    return _HALF_A_FLOAT * block.geometry.out_channels * _is_cast(block)


def _is_cast(block: Block) -> bool:
    """Whether weights are stored in another type than they are read in."""
    return block.weight_type != block.element_type


def reduced_cost(block: Block, left: Block) -> Cost:
    """What a block costs once channels are gone, in proportion to the numbers that are left.

    Args:
        block: The whole block.
        left: What is left of it.
    """
    share = block_numbers(left) / block_numbers(block)
    return Cost(bytes=round(share * block.original_bytes), macs=block_macs(left))


def block_numbers(block: Block) -> int:
    """Numbers in a block's weight and in one vector of its output channels."""
    return weight_numbers(block) + block.geometry.out_channels


def weight_numbers(block: Block) -> int:
    """Numbers in a block's weight."""
    geometry = block.geometry
    return geometry.groups * geometry.rows * geometry.columns
