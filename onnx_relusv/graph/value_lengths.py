"""Tensors whose length depends on values, and the float tensors that outputs are decided by.

A NonZero or a non-maximum suppression gives as many rows as the numbers before it decide, an ArgMax
one number of many: what rounding does to the numbers may move these by a whole step, or not at all.
Where outputs are such, or text, sequences or maps, it is the last float tensors before them that
tell how far a changed network is from the original.
"""

from collections.abc import Iterable, Mapping

from onnx import GraphProto, NodeProto, TypeProto

from onnx_relusv.graph.model import Model
from onnx_relusv.graph.operators import LINEAR_OPERATORS, OTHER_WEIGHTED_OPERATORS
from onnx_relusv.graph.protos import bodies, used_names
from onnx_relusv.graph.segments import static_names
from onnx_relusv.records import Block

# Their outputs are as long as the values of their first inputs decide.
_COUNTING = {"Compress", "NonMaxSuppression", "NonZero", "StringSplit", "Unique"}
# Which of their inputs say how long outputs are; all from the one on for Slice.
_LENGTHS: Mapping[str, tuple[int, ...]] = {
    "CenterCropPad": (1,),
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "If": (0,),
    "Loop": (0, 1),
    "MaxUnpool": (2,),
    "OneHot": (1,),
    "Pad": (1,),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (2, 3),
    "SequenceErase": (1,),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "SplitToSequence": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Upsample": (1,),
}
# Their outputs are floats, but move by whole steps.
_STEPPING_FLOATS = {"Ceil", "Floor", "Hardmax", "Round", "Sign"}
_WEIGHTED = {*LINEAR_OPERATORS, *OTHER_WEIGHTED_OPERATORS}
_OF_SHAPES = {"Shape", "Size", "SequenceLength"}
FLOAT_TENSORS = ("tensor(float)", "tensor(double)", "tensor(float16)", "tensor(bfloat16)")

Shape = tuple[int | None, ...]


def declared_shape(kind: TypeProto) -> Shape | None:
    """The lengths that a tensor is declared to have, None for those that are not fixed."""
    if not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
        return None
    dims = kind.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in dims)


def value_lengths(model: Model) -> dict[str, int]:
    """The outputs whose length depends on values, and the axis along which it does.

    An axis that is fixed or named as one of an input's is as long as inputs are.
    """
    graph = model.proto.graph
    counted = _counted(graph, shape_known(model))
    named = {
        dim.dim_param
        for value in graph.input
        for dim in value.type.tensor_type.shape.dim
        if dim.dim_param
    }
    found: dict[str, int] = {}
    for output in graph.output:
        if output.name not in counted:
            continue
        tensor = output.type.tensor_type
        if not output.type.HasField("tensor_type") or not tensor.HasField("shape"):
            found[output.name] = 0
            continue
        free = [
            axis
            for axis, dim in enumerate(tensor.shape.dim)
            if not dim.HasField("dim_value") and dim.dim_param not in named
        ]
        if free:
            found[output.name] = free[0]
    return found


def deciding_candidates(model: Model) -> tuple[str, ...]:
    """All tensors between the outputs and the last weighted nodes before them.

    Returns:
        Nothing where every output is what its name says, a float tensor of the inputs' lengths, as
        far as operators tell; types are not looked at.
    """
    makers = _makers(model.proto.graph)
    found: dict[str, None] = {}
    pending = list(model.output_names)
    while pending:
        name = pending.pop()
        node = makers.get(name)
        if node is None or name in found:
            continue
        found[name] = None
        if node.op_type not in _WEIGHTED:
            pending.extend(dict.fromkeys(used_names([node])))
    return tuple(found)


def counts(model: Model) -> bool:
    """Whether any node of the model makes lengths, or steps, of values."""
    graph = model.proto.graph
    stepping = any(node.op_type in _STEPPING_FLOATS for node in graph.node)
    return stepping or bool(_counted(graph, shape_known(model)))


def counted_sources(model: Model, blocks: Iterable[Block]) -> frozenset[str]:
    """What blocks read that has as many rows as the answers of blocks before them decide."""
    found = list(blocks)
    places = {index for block in found for index in block.nodes}
    reached: set[str] = set()
    counted: set[str] = set()
    for index, node in enumerate(model.proto.graph.node):
        read = set(used_names([node]))
        behind = not reached.isdisjoint(read)
        if index in places or behind:
            reached.update(node.output)
        # What is scattered into rows that are there anyway has their number.
        carried = {node.input[0]} if node.op_type.startswith("Scatter") else read
        counting = node.op_type in _COUNTING and behind
        if node.op_type not in _OF_SHAPES and (counting or not counted.isdisjoint(carried)):
            counted.update(name for name in node.output if name)
    return frozenset(block.source for block in found) & counted


def deciding_tensors(model: Model, types: Mapping[str, str]) -> tuple[str, ...]:
    """The tensors by which a changed model is told from the original.

    An output stands for itself where it is a float tensor, and nothing between the last weighted
    nodes and it makes lengths of values. In place of any other come the float tensors, nearest to
    it, of which that is true.

    Args:
        model: The model.
        types: As onnxruntime writes them, of the outputs and of all `deciding_candidates`.

    Returns:
        Each once; none where outputs do not depend on any.
    """
    graph = model.proto.graph
    makers, known = _makers(graph), shape_known(model)
    counted = _counted(graph, known, stop=_WEIGHTED)
    found: dict[str, None] = {}
    seen: set[str] = set()
    for output in model.output_names:
        pending = [output]
        while pending:
            name = pending.pop(0)
            if name in seen or name in known:
                continue
            seen.add(name)
            node = makers.get(name)
            if node is None:
                continue
            smooth = types.get(name) in FLOAT_TENSORS and node.op_type not in _STEPPING_FLOATS
            if smooth and name not in counted:
                found[name] = None
            elif node.op_type not in _WEIGHTED or name == output:
                pending.extend(dict.fromkeys(used_names([node])))
    return tuple(found)


def _makers(graph: GraphProto) -> dict[str, NodeProto]:
    return {name: node for node in graph.node for name in node.output if name}


def shape_known(model: Model) -> set[str]:
    """Tensors that do not depend on the inputs' values, at most on their shapes."""
    known = static_names(model.proto)
    for node in model.proto.graph.node:
        random = node.op_type.startswith("Random")
        if node.op_type in _OF_SHAPES or (not random and set(used_names([node])) <= known):
            known.update(node.output)
    return known


def _counted(graph: GraphProto, known: set[str], stop: Iterable[str] = ()) -> set[str]:
    """Tensors whose length depends on values.

    Args:
        graph: The graph, its nodes in topological order.
        known: Tensors that depend on no input's values.
        stop: Operators behind which lengths count as given.
    """
    stopping, found = set(stop), set[str]()
    for node in graph.node:
        if node.op_type in _OF_SHAPES or node.op_type in stopping:
            continue
        if _makes_lengths(node, known) or not found.isdisjoint(used_names([node])):
            found.update(name for name in node.output if name and name not in known)
    return found


def _makes_lengths(node: NodeProto, known: set[str]) -> bool:
    inputs = list(node.input)
    if node.op_type in _COUNTING:
        return not set(inputs) <= known
    places = _LENGTHS.get(node.op_type, ())
    if any(place < len(inputs) and inputs[place] not in known for place in places):
        return True
    # What lies in a body is taken to depend on the inputs.
    return any(inner.op_type in _COUNTING for body in bodies(node) for inner in body.node) or (
        node.op_type == "Loop" and (not inputs or not inputs[0])
    )
