"""What is known while channels are followed through a graph, and what the rules for nodes use."""

from collections.abc import Iterator, Mapping

import numpy as np
from onnx import NodeProto, TensorProto, helper

from onnx_relusv.graph.atoms import Atoms
from onnx_relusv.graph.channel_records import NO_UNIT, ConstantAxis, UnitAxis, Units
from onnx_relusv.graph.constants import Constants
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.operators import FLOAT_TYPES, Shape
from onnx_relusv.graph.protos import used_names


class Barrier(Exception):  # noqa: N818 - it is an answer with a reason, not an error
    """Channels cannot be followed through a node; the message is the reason."""


class Walk:
    """Channels as far as they have been followed.

    Args:
        model: The model.
        shapes: Of the tensors between nodes, for one sample.

    Attributes:
        constants: The graph's constants.
        shapes: As given.
        opset: Of the default operators.
        atoms: All so far.
        axes: By tensor, the axis that channels run along, and their atoms.
        produced, consumed, carried: As in `Channels`, with atoms for units.
        refused: By the tensor that a weighted node writes, why its outputs stay.
    """

    def __init__(self, model: Model, shapes: Mapping[str, Shape]) -> None:
        self.constants = Constants(model)
        self.shapes = shapes
        self.opset = model.opset
        self.atoms = Atoms()
        self.axes: dict[str, UnitAxis] = {}
        self.produced: list[ConstantAxis] = []
        self.consumed: list[ConstantAxis] = []
        self.carried: list[ConstantAxis] = []
        self.refused: dict[str, str] = {}
        self._model = model
        self._uses = self._counted_uses()

    def _counted_uses(self) -> dict[str, int]:
        """How often every constant is read, by the name of what it really is."""
        graph, found = self._model.proto.graph, dict[str, int]()
        for node in graph.node:
            # An Identity only hands on.
            if node.op_type != "Identity" or self.constants.tensor(node.input[0]) is None:
                for name in used_names([node]):
                    root = self.root(name)
                    found[root] = found.get(root, 0) + 1
        for output in graph.output:
            root = self.root(output.name)
            found[root] = found.get(root, 0) + 1
        return found

    def root(self, name: str) -> str:
        """The constant that a name stands for, or the name itself."""
        *_, root = self.constants.path(name)
        return root

    def weight(self, node: NodeProto) -> TensorProto:
        """The constant weight of a Conv, ConvTranspose, Gemm or MatMul.

        Raises:
            Barrier: It is not constant, no float, or serves others too.
        """
        name = node.input[1]
        tensor = self.constants.tensor(name)
        if tensor is None:
            raise Barrier(f"the weight of {node.op_type} {node.output[0]} is computed")
        if tensor.data_type not in FLOAT_TYPES:
            raise Barrier(f"the weight of {node.op_type} {node.output[0]} is no float")
        if self._uses.get(self.root(name), 0) > 1:
            raise Barrier(f"the weight of {node.op_type} {node.output[0]} also serves others")
        return tensor

    def axis(self, name: str, wanted: int, node: NodeProto) -> Units | None:
        """The atoms along one axis of a tensor; None where channels run along none.

        Raises:
            Barrier: They run along another.
        """
        found = self.axes.get(name)
        if found is None:
            return None
        if found.axis != wanted:
            raise Barrier(f"{node.op_type} {node.output[0]} reads across its channels")
        return found.units

    def rank(self, name: str) -> int:
        """How many axes a tensor has.

        Raises:
            Barrier: Nobody knows.
        """
        return len(self.shape(name))

    def shape(self, name: str) -> Shape:
        """The shape of a tensor or constant for one sample; raises Barrier where unknown."""
        tensor = self.constants.tensor(name)
        if tensor is not None:
            return tuple(tensor.dims)
        if name not in self.shapes:
            raise Barrier(f"the shape of {name} is not known")
        return self.shapes[name]

    def put(self, name: str, axis: int, units: Units) -> None:
        """Says which channels run through a tensor.

        Raises:
            Barrier: The axis is that of the samples.
        """
        if axis == 0:
            raise Barrier("channels end up along the samples")
        if np.any(units != NO_UNIT):
            self.axes[name] = UnitAxis(axis, units)

    def carry(self, index: int, slot: int, axis: int, units: Units) -> None:
        """Says that a constant that a node reads has an entry a channel."""
        if np.any(units != NO_UNIT):
            self.carried.append(ConstantAxis(index, slot, axis, units))

    def labelled(self, node: NodeProto) -> Iterator[tuple[int, UnitAxis]]:
        """The inputs of a node, by their slots, that channels run through."""
        for slot, name in enumerate(node.input):
            if name in self.axes:
                yield slot, self.axes[name]

    def numbers(self, name: str) -> list[int] | None:
        """A constant vector of whole numbers; None where it is not constant."""
        values = self.constants.array(name)
        return None if values is None else [int(value) for value in values.reshape(-1)]


def attribute(node: NodeProto, name: str, default: object = None) -> object:
    """An attribute's value."""
    for found in node.attribute:
        if found.name == name:
            return helper.get_attribute_value(found)
    return default


def whole(node: NodeProto, name: str, default: int) -> int:
    """A whole number among the attributes."""
    value = attribute(node, name, default)
    return int(value)  # type: ignore[call-overload, no-any-return]


def wholes(node: NodeProto, name: str) -> list[int] | None:
    """Whole numbers among the attributes; None where there are none."""
    value = attribute(node, name)
    return None if value is None else [int(each) for each in value]  # type: ignore[attr-defined]


def given(node: NodeProto, slot: int) -> bool:
    """Whether an optional input is given."""
    return len(node.input) > slot and node.input[slot] != ""
