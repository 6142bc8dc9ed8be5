"""Where a graph makes steps of numbers: comparisons, ArgMax, TopK, NonZero, rounding.

One rounding more or less may carry such a number over its step, and all behind it is another then,
though nothing is wrong. Two graphs are compared behind it by giving both the same steps.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import onnx
from onnx import NodeProto, TensorProto

from onnx_relusv.graph.model import Model
from onnx_relusv.graph.operators import FLOAT_TYPES
from onnx_relusv.graph.protos import used_names
from onnx_relusv.graph.value_lengths import shape_known
from onnx_relusv.records import Block

# Their outputs make steps, by place; None for all.
_STEPPING: dict[str, tuple[int, ...] | None] = {
    "ArgMax": None,
    "ArgMin": None,
    "Ceil": None,
    "Equal": None,
    "Floor": None,
    "Greater": None,
    "GreaterOrEqual": None,
    "Hardmax": None,
    "Less": None,
    "LessOrEqual": None,
    "MaxPool": (1,),
    "NonMaxSuppression": None,
    "NonZero": None,
    "QuantizeLinear": None,
    "Round": None,
    "Sign": None,
    "TopK": (1,),
    "Unique": None,
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
