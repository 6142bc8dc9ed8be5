"""Lengths that a graph fixes, whatever it is fed, and shapes that it computes of lengths.

With a batch of any length, exporters write a view of a tensor as a chain of nodes: Shape, Gather of
a length, Concat with others, Reshape. Every number on the way is followed back to the lengths that
it is a product of. Where a Reshape's shape turns out to be a row of constants, lengths that stay in
their place, and at most one that follows from the others, it is what a constant vector would do.
"""

from collections.abc import Mapping
from math import prod

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from onnx_relusv.graph.channels.lengths import (
    MOST_NUMBERS,
    Length,
    Numbers,
    Row,
    Unknown,
    axis,
    constant,
)
from onnx_relusv.graph.channels.operators import operator_of
from onnx_relusv.graph.channels.walk import InferredLengths, axis_name, axis_of
from onnx_relusv.graph.constants import Constants
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.nodes import is_standard, whole
from onnx_relusv.graph.protos import copy_fields

# Of a tensor, its lengths: a number, a name that equal ones share, or None where nothing is known.
_Known = tuple[int | str | None, ...]
_WHOLE = (TensorProto.INT32, TensorProto.INT64)
# Numbers that a shape, a scale or a bound for inference may have.
_FEW = 64
# How often lengths are inferred anew at most.
_PASSES = 4


def inferred_lengths(model: Model) -> InferredLengths:
    """Infers lengths; what the file itself says of inner tensors is not believed.

    It may be of one size only.
    """
    constants = Constants(model)
    bare = _bare(model, constants)
    known = _inferred(bare)
    chains = _Chains(model, constants, known)
    done: set[str] = set()
    # A view behind a view is understood once the first one is.
    for _ in range(_PASSES):
        fresh = {name: each for name, each in chains.vectors.items() if name not in done}
        if not fresh:
            break
        done.update(fresh)
        for node in bare.graph.node:
            if node.output and node.output[0] in fresh:
                name = f"{node.output[0]}/lengths"
                vector = np.array(fresh[node.output[0]], np.int64)
                bare.graph.initializer.append(numpy_helper.from_array(vector, name))
                node.input[1] = name
        known = _inferred(bare)
        chains = _Chains(model, constants, known)
    fixed = {
        name: tuple(each if isinstance(each, int) else None for each in lengths)
        for name, lengths in known.items()
    }
    return InferredLengths(fixed, chains.rows, chains.vectors)


def _bare(model: Model, constants: Constants) -> ModelProto:
    """A model for inference: constants where it looks for them, and names for lengths that vary."""
    bare, computed = ModelProto(), dict[str, np.ndarray]()
    copy_fields(model.proto, bare, skipped={"graph"})
    copy_fields(model.proto.graph, bare.graph, skipped={"value_info"})
    for node in bare.graph.node:
        for slot, name in enumerate(node.input):
            # Inference does not look through other nodes for a shape or a scale.
            tensor = constants.tensor(name)
            if tensor is None:
                continue
            node.input[slot] = constants.root(name)
            values = constants.array(name) if constants.is_computed(name) else None
            if values is not None and values.size <= _FEW:
                node.input[slot] = f"{constants.root(name)}/computed"
                computed[node.input[slot]] = values
    bare.graph.initializer.extend(
        numpy_helper.from_array(values, name) for name, values in computed.items()
    )
    for value in bare.graph.input:
        for place, dim in enumerate(value.type.tensor_type.shape.dim):
            if not dim.dim_value and not dim.dim_param:
                dim.dim_param = f"{value.name}[{place}]"
    for value in bare.graph.output:
        for dim in value.type.tensor_type.shape.dim:
            dim.ClearField("dim_param")
    return bare


def _inferred(bare: ModelProto) -> dict[str, _Known]:
    try:
        graph = onnx.shape_inference.infer_shapes(bare).graph
    except Exception:  # several unrelated types; then nothing is known to be fixed
        return {}
    return {
        value.name: tuple(
            dim.dim_value or dim.dim_param or None for dim in value.type.tensor_type.shape.dim
        )
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape")
    }


class _Chains(Numbers):
    """All tensors of a graph that consist of lengths, and what a Reshape makes of them."""

    def __init__(self, model: Model, constants: Constants, known: Mapping[str, _Known]) -> None:
        self._constants = constants
        self._known = known
        self.rows: dict[str, Row] = {}
        self.vectors: dict[str, tuple[int, ...]] = {}
        for node in model.proto.graph.node:
            if is_standard(node):
                self._add(node)

    def _add(self, node: NodeProto) -> None:
        operator = operator_of(node)
        starts = node.op_type in ("Shape", "Size")
        follows = starts or any(name in self.rows for name in node.input)
        if follows and operator is not None and operator.numbers is not None:
            try:
                self.rows[node.output[0]] = operator.numbers(self, node)
            except Unknown:
                pass
            else:
                return
        if node.op_type == "Reshape" and node.input[1] in self.rows:
            vector = self._vector(node)
            if vector is not None:
                self.vectors[node.output[0]] = vector

    def _vector(self, node: NodeProto) -> tuple[int, ...] | None:
        """The shape of a Reshape as a constant; None where it is none."""
        source = node.input[0]
        lengths = self._known.get(source, ())
        zero_copies = not whole(node, "allowzero", 0)
        found: list[int] = []
        for place, entry in enumerate(self.rows[node.input[1]].entries):
            if entry.fixed is not None:
                found.append(entry.fixed)
            elif zero_copies and self._stays(entry, source, place, lengths):
                found.append(0)
            else:
                numbers = [self._length(name) for name, _ in entry.parts]
                whole_ones = [number for number in numbers if isinstance(number, int)]
                fixed = entry.is_product and len(whole_ones) == len(numbers)
                found.append(entry.scale * prod(whole_ones) if fixed else -1)
        # The number of entries is the same before and after, so that one length follows.
        return tuple(found) if found.count(-1) <= 1 else None

    def _stays(self, entry: Length, source: str, place: int, lengths: _Known) -> bool:
        """Whether an entry is the length of the reshaped tensor that lies in the same place."""
        if entry.name is None:
            return False
        if axis_of(entry.name)[0] == source:
            return axis_of(entry.name)[1] == place
        own = lengths[place] if place < len(lengths) else None
        return isinstance(own, str) and own == self._length(entry.name)

    def _length(self, name: str) -> int | str | None:
        tensor, place = axis_of(name)
        lengths = self._known.get(tensor, ())
        return lengths[place] if place < len(lengths) else None

    # What the rules for numbers need.

    def row(self, name: str) -> Row:
        if name in self.rows:
            return self.rows[name]
        tensor = self._constants.tensor(name)
        if tensor is None or tensor.data_type not in _WHOLE or prod(tensor.dims) > MOST_NUMBERS:
            raise Unknown
        values = self._constants.array(name)
        if values is None or values.ndim > 1:
            raise Unknown
        return Row(tuple(constant(int(value)) for value in values.reshape(-1)), values.ndim)

    def lengths(self, name: str) -> tuple[Length, ...]:
        if name not in self._known:
            raise Unknown
        return tuple(axis(axis_name(name, place)) for place in range(len(self._known[name])))

    def keeps(self, element_type: int) -> bool:
        return element_type in _WHOLE
