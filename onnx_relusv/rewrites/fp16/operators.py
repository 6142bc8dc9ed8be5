"""Which nodes of a graph can compute in half precision, as far as the graph alone tells.

Element types follow from the schemas of the operators: what an operator is not known to take in
half precision keeps float32, and so does what reads a tensor of a type that is not known.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

import onnx
from onnx import ModelProto, NodeProto, TensorProto

from onnx_relusv.graph.nodes import attribute, is_standard
from onnx_relusv.graph.protos import bodies, held, operators

_FLOAT, _HALF = "tensor(float)", "tensor(float16)"
_FLOATING = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
# Inside they add up squares, products or many terms, and leave the range or the resolution of half
# precision though what they read and give does not.
_ADDING = operators(
    "CumSum DFT Det GlobalLpPool LRN LpNormalization LpPool MeanVarianceNormalization ReduceL2 "
    "ReduceLogSum ReduceLogSumExp ReduceProd ReduceSumSquare STFT"
)
# What they give has the type that an attribute says.
_TYPED = operators(
    "Bernoulli BlackmanWindow ConstantOfShape EyeLike HammingWindow HannWindow MelWeightMatrix "
    "Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike Range"
)
# Weighted operators: behind them, whole numbers are numbers like any others.
_WEIGHTED = operators("Conv ConvTranspose GRU LSTM RNN")
# So are those behind a constant of more numbers; frequencies and normalisations have fewer.
_FEW = 1024


@dataclass(frozen=True)
class Parameter:
    """A tensor that a node reads or gives.

    Attributes:
        name: The tensor's.
        variable: The type, or the type variable, that the operator's schema has for it.
        allowed: The types that it may have.
    """

    name: str
    variable: str
    allowed: frozenset[str]


@cache
def _schema(operator: str, domain: str, version: int) -> "onnx.defs.OpSchema | None":
    try:
        return onnx.defs.get_schema(operator, version, domain)
    except onnx.defs.SchemaError:
        return None


class Types:
    """The element types of a graph's tensors, and what its operators take.

    Args:
        proto: A model, its nodes in topological order.
    """

    def __init__(self, proto: ModelProto) -> None:
        self._versions = {entry.domain: entry.version for entry in proto.opset_import}
        self._functions = {(function.domain, function.name) for function in proto.functions}
        graph = proto.graph
        self._known: dict[str, int] = {
            value.name: value.type.tensor_type.elem_type
            for value in (*graph.input, *graph.value_info, *graph.output)
            if value.type.HasField("tensor_type") and value.type.tensor_type.elem_type
        }
        self._known.update((tensor.name, tensor.data_type) for tensor in graph.initializer)
        for node in graph.node:
            self._known.update(self._given(node))

    def is_float(self, name: str) -> bool:
        """Whether a tensor is known to hold float32."""
        return self._known.get(name) == TensorProto.FLOAT

    def of(self, name: str) -> int | None:
        """A tensor's element type; None where it is not known, or is that of no tensor."""
        return self._known.get(name)

    def parameters(
        self, node: NodeProto
    ) -> tuple[tuple[Parameter, ...], tuple[Parameter, ...]] | None:
        """What a node reads and gives, in order; None where its operator is not known."""
        schema = self._schema_of(node)
        if schema is None:
            return None
        types = {one.type_param_str: one.allowed_type_strs for one in schema.type_constraints}
        read, given = (
            tuple(
                Parameter(
                    name, formal.type_str, frozenset(types.get(formal.type_str, [formal.type_str]))
                )
                for name, formal in _matched(names, formals)
            )
            for names, formals in ((node.input, schema.inputs), (node.output, schema.outputs))
        )
        return read, given

    def _schema_of(self, node: NodeProto) -> "onnx.defs.OpSchema | None":
        domain = "" if is_standard(node) else node.domain
        if (node.domain, node.op_type) in self._functions:
            return None
        version = self._versions.get(domain, self._versions.get("ai.onnx") if not domain else None)
        return None if version is None else _schema(node.op_type, domain, version)

    def _given(self, node: NodeProto) -> Iterator[tuple[str, int]]:
        """The element types of what a node gives, as far as its schema and attributes say."""
        if node.op_type == "Constant" and is_standard(node):
            tensor = held(node)
            if tensor is not None:
                yield node.output[0], tensor.data_type
            return
        body = next(bodies(node), None)
        if body is not None:
            # A Loop's first output says whether it goes on.
            inner = body.output[node.op_type == "Loop" :]
            for name, value in zip(node.output, inner, strict=False):
                if name and value.type.tensor_type.elem_type:
                    yield name, value.type.tensor_type.elem_type
            return
        found = self.parameters(node)
        if found is None:
            return
        read, given = found
        bound = {one.variable: self._known[one.name] for one in read if one.name in self._known}
        for one in read:
            if one.variable in bound and one.name not in self._known:
                yield one.name, bound[one.variable]
        for one in given:
            alone = next(iter(one.allowed)) if len(one.allowed) == 1 else ""
            if one.variable in bound:
                yield one.name, bound[one.variable]
            elif alone.startswith("tensor("):
                yield one.name, _element_type(alone)
            elif node.op_type == "Cast":
                yield one.name, attribute(node, "to")
            elif node.op_type == "ConstantOfShape":
                value = attribute(node, "value")
                yield one.name, TensorProto.FLOAT if value is None else value.data_type


def _matched(names: Iterable[str], formals: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Names of tensors with their formal parameters, of which the last may be repeated."""
    listed = list(formals)
    for place, name in enumerate(names):
        if name and listed:
            yield name, listed[min(place, len(listed) - 1)]


def _element_type(text: str) -> int:
    """ONNX element type of a text like ``tensor(float)``."""
    name = text.removeprefix("tensor(").removesuffix(")")
    named = {"float": "FLOAT", "double": "DOUBLE"}.get(name, name.upper())
    return int(TensorProto.DataType.Value(named))


def why_float(node: NodeProto, types: Types) -> str | None:
    """Why a node cannot compute in half precision, in words; None where it can.

    Args:
        node: One that reads or gives float32.
        types: Of its graph.
    """
    found = types.parameters(node)
    if any(True for _ in bodies(node)):
        return "runs a graph of its own"
    if found is None:
        return "an operator that is not known in half precision"
    if node.op_type in _ADDING:
        return "adds up more than half precision holds"
    if node.op_type in _TYPED:
        return "gives the type that it names"
    read, given = found
    halved = {one.variable for one in read if types.is_float(one.name) and _HALF in one.allowed}
    floats = [one for one in read if types.is_float(one.name)]
    taken = {one.name for one in floats if _HALF in one.allowed}
    # A tensor has one type for all that a node reads it as.
    if (floats and not taken) or taken & {o.name for o in floats if _HALF not in o.allowed}:
        return "does not take half precision"
    if any(types.of(one.name) is None and _with_floats(one) for one in (*read, *given)):
        return "reads or gives what has no known type"
    for one in given:
        if types.is_float(one.name) and one.variable not in halved and node.op_type != "Cast":
            return "gives float32 whatever it reads"
    return None


def _with_floats(one: Parameter) -> bool:
    return any(_FLOAT in allowed for allowed in one.allowed)


def halved_slots(node: NodeProto, types: Types) -> frozenset[str]:
    """The float32 tensors that a node reads which may be half precision."""
    found = types.parameters(node)
    if found is None:
        return frozenset()
    return frozenset(
        one.name for one in found[0] if types.is_float(one.name) and _HALF in one.allowed
    )


def of_whole_numbers(proto: ModelProto, types: Types) -> set[str]:
    """The float32 tensors that are computed of whole numbers, up to the first weights.

    Lengths, positions and angles: in half precision 2049 is no number.

    Args:
        proto: The model.
        types: Of its tensors.
    """
    graph = proto.graph
    constants = {tensor.name: prod(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        tensor = held(node) if node.op_type == "Constant" and is_standard(node) else None
        if tensor is not None:
            constants[node.output[0]] = prod(tensor.dims)
    found: set[str] = set()
    for node in graph.node:
        given = [name for name in node.output if name and types.is_float(name)]
        if not given or node.op_type == "Constant" or node.op_type in _WEIGHTED:
            continue
        floats = [name for name in node.input if types.of(name) in _FLOATING]
        whole = [name for name in floats if name in found]
        small = [name for name in floats if constants.get(name, _FEW + 1) <= _FEW]
        if (whole or not floats) and len(whole) + len(small) == len(floats):
            found.update(given)
    return found
