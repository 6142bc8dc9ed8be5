"""Random small graphs of all operators that channels are followed through."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from graphs import IR_VERSIONS
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

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


UNARY = ("Relu", "LeakyRelu", "Sigmoid", "Tanh", "Identity", "Abs", "Elu", "Dropout")
Step = Callable[[Graph, Tensor], None]


def dense(graph: Graph, source: Tensor) -> None:
    if source.kind == "image":
        convolution(graph, source)
        return
    inputs, outputs = source.channels, int(graph.rng.integers(2, 7))
    if source.kind == "flat" and graph.chance(0.5):
        bias = graph.normal(outputs) if graph.chance(0.7) else graph.normal(1, outputs)
        turned = graph.chance(0.5)
        shape = (outputs, inputs) if turned else (inputs, outputs)
        weight = graph.normal(*shape, fan=inputs)
        name = graph.add("Gemm", [source.name, weight, bias], transB=int(turned))
    else:
        name = graph.add("MatMul", [source.name, graph.normal(inputs, outputs, fan=inputs)])
        if graph.chance(0.5):
            name = graph.add("Add", [name, graph.normal(outputs)])
    graph.keep(name, (*source.shape[:-1], outputs), source.kind)


def convolution(graph: Graph, source: Tensor) -> None:
    inputs, *lengths = source.shape
    groups = 2 if inputs % 2 == 0 and graph.chance(0.3) else 1
    each = int(graph.rng.integers(1, 4)) if groups > 1 else int(graph.rng.integers(2, 7))
    transposed = graph.chance(0.25)
    size = 1 if min(lengths) < 3 or graph.chance(0.3) else 3
    shape = (inputs, each) if transposed else (groups * each, inputs // groups)
    reads = [source.name, graph.normal(*shape, size, size, fan=inputs * size**2)]
    if graph.chance(0.7):
        reads.append(graph.normal(groups * each))
    op = "ConvTranspose" if transposed else "Conv"
    name = graph.add(op, reads, group=groups, pads=[size // 2] * 4, kernel_shape=[size, size])
    graph.keep(name, (groups * each, *lengths))


def depthwise(graph: Graph, source: Tensor) -> None:
    if source.kind != "image" or source.channels < 2:
        return
    channels, *lengths = source.shape
    each = int(graph.rng.integers(1, 3))
    transposed = graph.chance(0.3)
    shape = (channels, each) if transposed else (channels * each, 1)
    reads = [source.name, graph.normal(*shape, 3, 3, fan=9)]
    if graph.chance(0.7):
        reads.append(graph.normal(channels * each))
    op = "ConvTranspose" if transposed else "Conv"
    name = graph.add(op, reads, group=channels, pads=[1] * 4)
    graph.keep(name, (channels * each, *lengths))


def unary(graph: Graph, source: Tensor) -> None:
    graph.keep(graph.add(str(graph.rng.choice(UNARY)), [source.name]), source.shape, source.kind)


def clip(graph: Graph, source: Tensor) -> None:
    if graph.opset < AS_INPUTS["Clip"]:
        name = graph.add("Clip", [source.name], min=-0.2, max=2.0)
    else:
        bounds = [graph.constant(np.array(bound, np.float32)) for bound in (-0.2, 2)]
        name = graph.add("Clip", [source.name, *bounds])
    graph.keep(name, source.shape, source.kind)


def constant(graph: Graph, source: Tensor) -> None:
    """An operation with a constant of channels, of columns, of both, or a single number."""
    shapes = [(), (1,), source.shape[-1:], source.shape]
    if source.kind == "image":
        shapes += [(source.channels, 1, 1), (1, source.channels, 1, 1)]
    shape = shapes[graph.rng.integers(len(shapes))]
    op = str(graph.rng.choice(["Add", "Mul", "Sub", "PRelu", "Max"]))
    reads = [source.name, graph.normal(*shape)]
    if op in ("Add", "Mul", "Sub") and graph.chance(0.4):
        reads.reverse()
    graph.keep(graph.add(op, reads), source.shape, source.kind)


def normalization(graph: Graph, source: Tensor) -> None:
    if source.kind == "last":
        return
    c = source.channels
    reads = [source.name, graph.positive(c), graph.normal(c), graph.normal(c), graph.positive(c)]
    graph.keep(graph.add("BatchNormalization", reads), source.shape, source.kind)


def two(graph: Graph, source: Tensor) -> None:
    """Two branches of one shape; another is made of one if there is none."""
    other = graph.pick(source.kind, source.shape) or source
    op = str(graph.rng.choice(["Add", "Sub", "Mul", "Max"]))
    graph.keep(graph.add(op, [source.name, other.name]), source.shape, source.kind)


def concat(graph: Graph, source: Tensor) -> None:
    places = source.places
    alike = [each for each in graph.tensors if (each.kind, each.places) == (source.kind, places)]
    other = alike[-int(graph.rng.integers(len(alike[-6:]))) - 1]
    total = source.channels + other.channels
    if total > 12 and source.kind != "flat":
        return
    axis = 1 if source.kind == "image" else -1
    name = graph.add("Concat", [source.name, other.name], axis=axis)
    graph.keep(name, source.of(total), source.kind)


def split(graph: Graph, source: Tensor) -> None:
    if source.channels < 3:
        return
    first = int(graph.rng.integers(1, source.channels))
    parts, axis = (first, source.channels - first), 1 if source.kind == "image" else -1
    name = graph.set("Split", source.name, "split", parts, outputs=2, axis=axis)
    for written, length in zip((name, f"{name}_1"), parts, strict=True):
        graph.keep(written, source.of(length), source.kind)


def positions(graph: Graph, source: Tensor) -> None:
    """Pools, pads or resizes an image."""
    if source.kind != "image" or min(source.shape[1:]) < 2 or source.shape[1] > 6:
        return
    c, h, w = source.shape
    kind = graph.rng.integers(4)
    if kind == 0:
        op = str(graph.rng.choice(["MaxPool", "AveragePool"]))
        name = graph.add(op, [source.name], kernel_shape=[2, 2], strides=[1, 1])
        graph.keep(name, (c, h - 1, w - 1))
    elif kind == 1:
        name = graph.set("Pad", source.name, "pads", [0, 0, 1, 0, 0, 0, 0, 1])
        graph.keep(name, (c, h + 1, w + 1))
    elif graph.opset < 11:
        scales = graph.constant(np.array([1, 1, 2, 1], np.float32))
        graph.keep(graph.add("Upsample", [source.name, scales]), (c, 2 * h, w))
    else:
        scales = graph.constant(np.array([1, 1, 2, 1], np.float32))
        region = graph.constant(np.zeros(0, np.float32))
        name = graph.add("Resize", [source.name, region, scales], mode="linear")
        graph.keep(name, (c, 2 * h, w))


def gate(graph: Graph, source: Tensor) -> None:
    """Squeeze and excitation."""
    if source.kind != "image":
        return
    c, inner = source.channels, int(graph.rng.integers(1, 4))
    mean = graph.set("ReduceMean", source.name, "axes", [2, 3], keepdims=1)
    down = graph.add("Conv", [mean, graph.normal(inner, c, 1, 1, fan=c), graph.normal(inner)])
    up = graph.add("Conv", [graph.add("Relu", [down]), graph.normal(c, inner, 1, 1, fan=inner)])
    gated = graph.add("Mul", [source.name, graph.add("Sigmoid", [up])])
    graph.keep(gated, source.shape)


def turned(graph: Graph, source: Tensor) -> None:
    """To channels last, or back."""
    if source.kind == "image":
        c, h, w = source.shape
        graph.keep(graph.add("Transpose", [source.name], perm=[0, 2, 3, 1]), (h, w, c), "last")
    elif source.kind == "last":
        h, w, c = source.shape
        graph.keep(graph.add("Transpose", [source.name], perm=[0, 3, 1, 2]), (c, h, w))


def flat(graph: Graph, source: Tensor) -> None:
    if source.kind == "flat":
        return
    total, kind = int(np.prod(source.shape)), graph.rng.integers(4)
    if kind == 0 and source.kind == "image":
        name = graph.set("ReduceMax", source.name, "axes", [2, 3], keepdims=1)
        graph.keep(graph.set("Squeeze", name, "axes", [2, 3]), source.shape[:1], "flat")
    elif kind == 1 and source.kind == "image":
        pooled = graph.add("GlobalAveragePool", [source.name])
        shape = graph.constant(np.array([-1, source.channels], np.int64))
        graph.keep(graph.add("Reshape", [pooled, shape]), source.shape[:1], "flat")
    elif kind == 2:
        shape = graph.constant(np.array([-1, total], np.int64))
        graph.keep(graph.add("Reshape", [source.name, shape]), (total,), "flat")
    else:
        graph.keep(graph.add("Flatten", [source.name]), (total,), "flat")


STEPS: tuple[Step, ...] = (
    dense,
    dense,
    dense,
    depthwise,
    unary,
    unary,
    clip,
    constant,
    constant,
    normalization,
    two,
    two,
    concat,
    split,
    positions,
    gate,
    turned,
    flat,
    flat,
)


def random_model(seed: int) -> ModelProto:
    """A model of 3 to 4 x 4 images with one output, at one of four operator sets."""
    rng = np.random.default_rng([17, seed])
    graph = Graph(rng, int(rng.choice([9, 13, 18, 22])))
    graph.keep("x", (3, 4, 4))
    dense(graph, graph.tensors[0])
    if graph.chance(0.8):
        # What meets the input has to stay.
        del graph.tensors[0]
    for _ in range(int(rng.integers(5, 14))):
        source = graph.pick()
        assert source is not None
        STEPS[rng.integers(len(STEPS))](graph, source)
    ends = [_ended(graph, each) for each in graph.tensors if each.name not in graph.read]
    total = graph.add("Sum", ends)
    graph.nodes.append(helper.make_node("Identity", [total], ["y"]))
    value = helper.make_tensor_value_info
    made = helper.make_graph(
        graph.nodes,
        "random",
        [value("x", TensorProto.FLOAT, ["N", 3, 4, 4])],
        [value("y", TensorProto.FLOAT, ["N", 2])],
        graph.constants,
    )
    imports = [helper.make_opsetid("", graph.opset)]
    ir_version = IR_VERSIONS.get(graph.opset, 8)
    return helper.make_model(made, opset_imports=imports, ir_version=ir_version)


def _ended(graph: Graph, end: Tensor) -> str:
    """Two numbers made of a tensor that nobody reads yet."""
    name = end.name if end.kind == "flat" else graph.add("Flatten", [end.name])
    total = int(np.prod(end.shape))
    if graph.chance(0.5):
        return graph.add("MatMul", [name, graph.normal(total, 2, fan=total)])
    return graph.add("Gemm", [name, graph.normal(2, total, fan=total), graph.normal(2)], transB=1)
