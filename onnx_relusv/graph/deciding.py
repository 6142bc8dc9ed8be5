"""What numbers decide: lengths, steps, and the float tensors that outputs are told by.

A NonZero or a non-maximum suppression gives as many rows as the numbers before it decide, an ArgMax
one number of many: what rounding does to the numbers may move these by a whole step, or not at all.
Where outputs are such, or text, sequences or maps, it is the last float tensors before them that
tell how far a changed network is from the original. Two graphs are compared behind comparisons,
ArgMax, TopK, NonZero and rounding by giving both the same steps: one rounding more or less may
carry a number over its step, and all behind it is another then, though nothing is wrong.

Operators that squash numbers into a fixed range resolve that range: a Sigmoid of -17 is 4e-8, and
what computes it resolves 3e-8 of its range of 1. It is the range that its errors are small beside.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnx_relusv.core.blocks import Block
from onnx_relusv.core.kinds import LINEAR_OPERATORS
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.nodes import FLOAT_TYPES, OTHER_WEIGHTED_OPERATORS
from onnx_relusv.graph.protos import (
    FreshNames,
    bodies,
    copied,
    copy_fields,
    declared_shape,
    makers,
    operators,
    used_names,
)
from onnx_relusv.graph.segments import static_names

# All of them within -1 and 1, but for Softplus, which adds 1 before a logarithm.
SQUASHING = ("Erf", "HardSigmoid", "Sigmoid", "Softmax", "Softplus", "Softsign", "Tanh")
# Neighbouring inputs of a sine of this frequency are moved in unlike ways.
_FREQUENCY = 1e6
_MOVABLE: dict[int, type[np.floating]] = {
    TensorProto.FLOAT: np.float32,
    TensorProto.DOUBLE: np.float64,
}


def with_moved_answers(proto: ModelProto, element_type: int) -> ModelProto:
    """A model whose squashing operators' outputs are all moved by about their resolution.

    How far each number is moved follows from its input alone, so runs are repeatable.

    Args:
        proto: The model, which is not changed; nodes in bodies stay as they are.
        element_type: What its numbers are; of others than float32 and float64 nothing is moved.
    """
    dtype = _MOVABLE.get(element_type)
    if dtype is None:
        return proto
    result = copied(proto, skipped={"graph"})
    copy_fields(proto.graph, result.graph, skipped={"node"})
    names = FreshNames(proto.graph)
    frequency, size = names("frequency"), names("resolution")
    half = np.finfo(dtype).eps / 2
    for name, value in ((frequency, _FREQUENCY), (size, half)):
        result.graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype), name))
    for node in proto.graph.node:
        moving = result.graph.node.add()
        moving.CopyFrom(node)
        if node.op_type not in SQUASHING:
            continue
        raw, fast, wave, moved = (names(f"{node.output[0]}/{part}") for part in "rfwm")
        moving.output[0] = raw
        result.graph.node.extend(
            [
                helper.make_node("Mul", [node.input[0], frequency], [fast]),
                helper.make_node("Sin", [fast], [wave]),
                helper.make_node("Mul", [wave, size], [moved]),
                helper.make_node("Add", [raw, moved], [node.output[0]]),
            ]
        )
    return result


# Their outputs are as long as the values of their first inputs decide.
_COUNTING = operators("Compress NonMaxSuppression NonZero StringSplit Unique")
# Which of their inputs say how long outputs are; all from the one on for Slice.
_LENGTHS: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(operators("ConstantOfShape If"), (0,)),
    **dict.fromkeys(operators("CenterCropPad Expand OneHot Pad Reshape SequenceErase"), (1,)),
    **dict.fromkeys(operators("Split SplitToSequence Tile TopK Upsample"), (1,)),
    "Loop": (0, 1),
    "MaxUnpool": (2,),
    "Range": (0, 1, 2),
    "Resize": (2, 3),
    "Slice": (1, 2, 3, 4),
}
# Their outputs are floats, but move by whole steps.
_STEPPING_FLOATS = operators("Ceil Floor Hardmax Round Sign")
_WEIGHTED = {*LINEAR_OPERATORS, *OTHER_WEIGHTED_OPERATORS}
_OF_SHAPES = {"Shape", "Size", "SequenceLength"}
FLOAT_TENSORS = ("tensor(float)", "tensor(double)", "tensor(float16)", "tensor(bfloat16)")


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
        if declared_shape(output.type) is None:
            found[output.name] = 0
            continue
        free = [
            axis
            for axis, dim in enumerate(output.type.tensor_type.shape.dim)
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
    by_output = makers(model.proto.graph)
    found: dict[str, None] = {}
    pending = list(model.output_names)
    while pending:
        name = pending.pop()
        node = by_output.get(name)
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


def has_known_lengths(model: Model) -> bool:
    """Whether all tensors are arrays whose lengths follow from the inputs' lengths alone.

    Of operators that are not standard, and of nodes with bodies, that is not known.
    """
    graph = model.proto.graph
    understood = not model.proto.functions and all(
        node.domain in ("", "ai.onnx")
        and not any(True for _ in bodies(node))
        and "Sequence" not in node.op_type
        and not node.op_type.startswith("Optional")
        for node in graph.node
    )
    return understood and not _counted(graph, shape_known(model))


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
    by_output, known = makers(graph), shape_known(model)
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
            node = by_output.get(name)
            if node is None:
                continue
            smooth = types.get(name) in FLOAT_TENSORS and node.op_type not in _STEPPING_FLOATS
            if smooth and name not in counted:
                found[name] = None
            elif node.op_type not in _WEIGHTED or name == output:
                pending.extend(dict.fromkeys(used_names([node])))
    return tuple(found)


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


# Their outputs make steps, by place; None for all.
_STEPPING: Mapping[str, tuple[int, ...] | None] = {
    **dict.fromkeys(operators("ArgMax ArgMin Equal Greater GreaterOrEqual Less LessOrEqual")),
    **dict.fromkeys(operators("NonMaxSuppression NonZero QuantizeLinear Unique")),
    **dict.fromkeys(_STEPPING_FLOATS),
    "MaxPool": (1,),
    "TopK": (1,),
}
_FLOATS = {*FLOAT_TYPES, TensorProto.UNDEFINED}


@dataclass(frozen=True)
class Steps:
    """The steps of a graph that depend on its blocks.

    Attributes:
        tensors: Those that make steps.
        deciders: The float tensors that they are made of.
    """

    tensors: tuple[str, ...]
    deciders: tuple[str, ...]


def steps_behind(model: Model, blocks: Iterable[Block]) -> Steps:
    """The steps of a model's main graph that depend on blocks."""
    graph, known = model.proto.graph, shape_known(model)
    places = {index for block in blocks for index in block.nodes}
    types = _types(model)
    reached: set[str] = set()
    steps: dict[str, None] = {}
    deciders: dict[str, None] = {}
    for index, node in enumerate(graph.node):
        read = [name for name in used_names([node]) if name in reached]
        if index not in places and not read:
            continue
        reached.update(name for name in node.output if name and name not in known)
        floats = [
            name
            for name in read
            if name not in steps and types.get(name, TensorProto.UNDEFINED) in _FLOATS
        ]
        made = [name for name in _stepping(node) if name in reached] if floats else []
        steps.update(dict.fromkeys(made))
        if made:
            deciders.update(dict.fromkeys(floats))
    return Steps(tuple(steps), tuple(deciders))


def _stepping(node: NodeProto) -> list[str]:
    if node.op_type == "Cast":
        to = next((one.i for one in node.attribute if one.name == "to"), TensorProto.FLOAT)
        return [] if to in FLOAT_TYPES else list(node.output)
    if node.op_type not in _STEPPING:
        return []
    places = _STEPPING[node.op_type]
    outputs = enumerate(node.output)
    return [name for place, name in outputs if name and (places is None or place in places)]


def _types(model: Model) -> dict[str, int]:
    """Element types of tensors, as far as inference tells."""
    try:
        graph = onnx.shape_inference.infer_shapes(model.proto).graph
    except Exception:  # whatever it does not understand, types are not known then
        graph = model.proto.graph
    values = (*graph.input, *graph.value_info, *graph.output)
    return {value.name: value.type.tensor_type.elem_type for value in values}
