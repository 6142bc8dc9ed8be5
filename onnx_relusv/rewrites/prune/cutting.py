"""Removes units from a graph, and makes the reference that the cut graph has to equal.

No constant is written into: every use that loses entries reads a new initializer, so that others
keep theirs, also where several nodes read one, directly or through an Identity. Uses of one
constant that are cut alike share the new one.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnx_relusv.graph.channels.operator import SettingsRule
from onnx_relusv.graph.channels.operators import operator_of
from onnx_relusv.graph.channels.walk import NO_UNIT, Channels, UnitAxis, Units
from onnx_relusv.graph.constants import Constants
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.nodes import has_input
from onnx_relusv.graph.protos import FreshNames, copy_fields, known_constant
from onnx_relusv.graph.reference import external_stub
from onnx_relusv.graph.writing import transplant

Mask = npt.NDArray[np.bool_]


def cut(model: Model, channels: Channels, removed: Mask) -> ModelProto:
    """A model without some of its units.

    Args:
        model: The original; it is not changed.
        channels: Its units.
        removed: (units,) bool; of every group one unit at least stays.

    Raises:
        ValueError: Nothing would be left of an axis.
    """
    editor = _Editor(model, channels, removed)
    nodes = list(model.proto.graph.node)
    for index in sorted(editor.touched):
        nodes[index] = editor.edited(index)
    # All they read are initializers.
    nodes = [*editor.casts.values(), *nodes]
    result = transplant(model.proto, nodes, editor.added.values())
    for value in result.graph.value_info:
        axis = channels.tensors.get(value.name)
        dims = value.type.tensor_type.shape.dim
        if axis is not None and len(dims) > axis.axis and dims[axis.axis].HasField("dim_value"):
            dims[axis.axis].dim_value = int(staying(axis.units, removed).sum())
    return result


def zeroed(
    model: Model, channels: Channels, removed: Mask
) -> tuple[ModelProto, dict[str, np.ndarray]]:
    """The original with the entries zeroed by which consumers read removed units.

    Returns:
        The model, and the values of those of its initializers that are stubs.
    """
    result = ModelProto()
    copy_fields(model.proto, result)
    names, constants = FreshNames(result.graph), Constants(model)
    arrays: dict[str, np.ndarray] = {}
    for axis in channels.consumed:
        left = staying(axis.units, removed)
        if left.all():
            continue
        node = result.graph.node[axis.node]
        zeros = np.array(
            known_constant(constants.array(node.input[axis.slot]), node.input[axis.slot]), order="C"
        )
        np.moveaxis(zeros, axis.axis, 0)[~left] = 0
        name = names("relusv_zeroed")
        arrays[name] = zeros
        result.graph.initializer.append(external_stub(name, zeros))
        node.input[axis.slot] = name
    return result, arrays


def staying(units: Units, removed: Mask) -> Mask:
    """(length,) bool: which indices of an axis stay."""
    found = np.ones(len(units), np.bool_)
    known = units != NO_UNIT
    found[known] = ~removed[units[known]]
    return found


class _Editor:
    def __init__(self, model: Model, channels: Channels, removed: Mask) -> None:
        self._model = model
        self._nodes = model.proto.graph.node
        self.opset = model.opset
        self._tensors = channels.tensors
        self._vectors = channels.vectors
        self._removed = removed
        self._constants = Constants(model)
        self._names = FreshNames(model.proto.graph)
        self._cuts: dict[int, dict[int, dict[int, Mask]]] = {}
        for axis in (*channels.produced, *channels.consumed, *channels.carried):
            left = staying(axis.units, removed)
            if left.all():
                continue
            if not left.any():
                raise ValueError(f"nothing would be left of {self._nodes[axis.node].output[0]}")
            self._cuts.setdefault(axis.node, {}).setdefault(axis.slot, {})[axis.axis] = left
        # By what is cut of what, the new initializer.
        self.added: dict[tuple[object, ...], TensorProto] = {}
        # Casts behind those that are stored in half precision, as the original's are.
        self.casts: dict[tuple[object, ...], NodeProto] = {}
        self.touched = set(self._cuts) | {
            index
            for index, node in enumerate(self._nodes)
            if _settings(node) is not None and self._is_touched(node)
        }

    def _is_touched(self, node: NodeProto) -> bool:
        return any(map(self._is_cut, (*node.input, *node.output)))

    def _is_cut(self, name: str) -> bool:
        axis = self._tensors.get(name)
        return axis is not None and not staying(axis.units, self._removed).all()

    def edited(self, index: int) -> NodeProto:
        """A node that reads what is left."""
        node = NodeProto()
        node.CopyFrom(self._nodes[index])
        for slot, axes in self._cuts.get(index, {}).items():
            node.input[slot] = self._cut_constant(node.input[slot], axes)
        settings = _settings(node)
        if settings is not None and self._is_touched(node):
            settings(self, node)
        return node

    def _cut_constant(self, name: str, axes: Mapping[int, Mask]) -> str:
        root = self._constants.root(name)
        key = (root, *((axis, mask.tobytes()) for axis, mask in sorted(axes.items())))
        if key not in self.added:
            values = known_constant(self._constants.array(name), name)
            for axis, mask in axes.items():
                values = np.compress(mask, values, axis=axis)
            stored = self._constants.stored_type(root)
            self.added[key] = self._new(root, _as(stored, values))
            read = helper.np_dtype_to_tensor_dtype(values.dtype)
            if stored != read:
                name = self._names(f"{self.added[key].name}_read")
                cast = helper.make_node("Cast", [self.added[key].name], [name], to=read)
                self.casts[key] = cast
        return self.casts[key].output[0] if key in self.casts else self.added[key].name

    def _new(self, name: str, values: np.ndarray) -> TensorProto:
        return numpy_helper.from_array(np.ascontiguousarray(values), self._names(f"{name}_kept"))

    # What rules for settings use.

    def axis(self, name: str) -> UnitAxis | None:
        """The units along an axis of a tensor; None where it has none."""
        return self._tensors.get(name)

    def left(self, units: Units) -> int:
        """How many of some indices stay."""
        return int(staying(units, self._removed).sum())

    def rename_length(self, node: NodeProto, slot: int, place: int) -> None:
        """Writes the length of the channels' axis anew, where a node's numbers name it."""
        name, numbers = node.output[0], self.numbers(node, slot)
        if self._is_cut(name) and numbers and numbers[place] > 0:
            numbers[place] = self.left(self._tensors[name].units)
            node.input[slot] = self.vector(node, numbers)

    def numbers(self, node: NodeProto, slot: int) -> list[int] | None:
        """The whole numbers that a node reads; None where it reads none that are known."""
        values = self._constants.array(node.input[slot]) if has_input(node, slot) else None
        if values is not None:
            return [int(value) for value in values]
        vector = self._vectors.get(node.output[0]) if node.op_type == "Reshape" else None
        return None if vector is None else list(vector)

    def vector(self, node: NodeProto, numbers: Sequence[int]) -> str:
        """The name of a new constant that a node reads in place of its own."""
        key = ("lengths", node.output[0])
        self.added[key] = self._new(f"{node.output[0]}_lengths", np.array(numbers, np.int64))
        return self.added[key].name


def _as(element_type: int, values: np.ndarray) -> np.ndarray:
    return values.astype(helper.tensor_dtype_to_np_dtype(element_type))


def _settings(node: NodeProto) -> SettingsRule | None:
    """What of a node says how many channels there are."""
    operator = operator_of(node)
    return None if operator is None else operator.settings
