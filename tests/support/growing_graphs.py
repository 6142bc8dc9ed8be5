"""Random graphs while they grow: nodes, constants as files store them, tensors to go on from."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

Shape = tuple[int, ...]
# The opset from which on an operator takes its axes, lengths, pads or bounds as inputs.
AS_INPUTS = {
    "Clip": 11,
    "Pad": 11,
    "Squeeze": 13,
    "Unsqueeze": 13,
    "Split": 13,
    "ReduceSum": 13,
    "ReduceMean": 18,
    "ReduceMax": 18,
}


@dataclass(frozen=True)
class Tensor:
    """A tensor of three samples: image (C, H, W), channels last (H, W, C), or flat (F,)."""

    name: str
    shape: Shape
    kind: str = "image"

    @property
    def channels(self) -> int:
        return self.shape[0] if self.kind == "image" else self.shape[-1]

    @property
    def places(self) -> Shape:
        return self.shape[1:] if self.kind == "image" else self.shape[:-1]

    def of(self, channels: int) -> Shape:
        """The shape with another number of channels."""
        return (channels, *self.places) if self.kind == "image" else (*self.places, channels)


@dataclass
class Graph:
    """A graph that grows."""

    rng: np.random.Generator
    opset: int
    nodes: list[NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    read: set[str] = field(default_factory=set)
    vectors: dict[Shape, str] = field(default_factory=dict)

    def pick(self, kind: str | None = None, shape: Shape | None = None) -> Tensor | None:
        """One of the younger tensors."""
        found = [
            each
            for each in self.tensors
            if kind in (None, each.kind) and shape in (None, each.shape)
        ][-6:]
        return found[self.rng.integers(len(found))] if found else None

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def name(self) -> str:
        return f"t{len(self.nodes)}_{len(self.constants)}"

    def add(self, op: str, inputs: Sequence[str], outputs: int = 1, **attributes: object) -> str:
        """A node; returns what it writes, or the first of it."""
        name = self.name()
        names = [name, *(f"{name}_{number}" for number in range(1, outputs))]
        self.nodes.append(helper.make_node(op, list(inputs), names, **attributes))
        self.read.update(inputs)
        return name

    def set(self, op: str, source: str, name: str, values: Sequence[int], **rest: object) -> str:
        """A node with a setting that is an attribute or an input."""
        if self.opset < AS_INPUTS[op]:
            return self.add(op, [source], **{name: list(values)}, **rest)
        return self.add(op, [source, self.constant(np.array(values, np.int64))], **rest)

    def constant(self, values: np.ndarray) -> str:
        """An initializer, or a Constant node, or either behind an Identity."""
        name = f"c{len(self.nodes)}_{len(self.constants)}"
        tensor = numpy_helper.from_array(values, name)
        if self.chance(0.2):
            self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        else:
            self.constants.append(tensor)
        return self.add("Identity", [name]) if self.chance(0.1) else name

    def normal(self, *shape: int, fan: int = 1) -> str:
        """Random numbers; often those that another node reads already."""
        if fan == 1 and shape in self.vectors and self.chance(0.4):
            shared = self.vectors[shape]
            return self.add("Identity", [shared]) if self.chance(0.5) else shared
        values = self.rng.standard_normal(shape) / np.sqrt(fan)
        name = self.constant(values.astype(np.float32))
        if fan == 1:
            self.vectors[shape] = name
        return name

    def positive(self, *shape: int) -> str:
        return self.constant(self.rng.uniform(0.5, 1.5, shape).astype(np.float32))

    def keep(self, name: str, shape: Shape, kind: str = "image") -> Tensor:
        self.tensors.append(Tensor(name, shape, kind))
        return self.tensors[-1]
