"""What a model's nodes ask of the lengths of its inputs' dynamic axes.

A walk from the inputs: shapes as functions of the inputs' axes go through the operators
(axis_operators), and where one meets a weight, a fixed shape or another input, a rule says what the
axis has to be. Bodies of nodes and functions are walked too; what a body asks is not certain, for
it may not run.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np
from onnx import FunctionProto, GraphProto, NodeProto, TensorProto, helper, numpy_helper

from onnx_relusv.core.blocks import InputSpec
from onnx_relusv.graph.lengths.asking import Shape, Values, attribute
from onnx_relusv.graph.lengths.lengths import Kind, Length, Rule, Step, axis, constant, product
from onnx_relusv.graph.lengths.moving import LAST
from onnx_relusv.graph.lengths.operators import OPERATORS
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.protos import bodies, used_names

# Whole numbers in a tensor that may be a shape, the ends of a slice, or a number to compare with.
_MOST_VALUES = 64
_HANDED_ON = ("Cast", "Identity", "Squeeze", "Unsqueeze", "Reshape")
_COMPARING = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
# Functions in functions; a file that is deeper is walked so far.
_DEEPEST = 16


@dataclass(eq=False)
class AxisRules:
    """What a walk has found.

    Attributes:
        rules: On lengths.
        same: Pairs of axes that have one length.
        numbers: By input of whole numbers, constants that it is compared with.
        tables: By input of whole numbers, the fewest rows of a table that it is an index into.
        fits: Whether nothing contradicts the inputs' numbers of axes and fixed lengths.
        reads: Whether any weight or fixed shape was met at all.
    """

    rules: list[Rule] = field(default_factory=list)
    same: list[tuple[str, str]] = field(default_factory=list)
    numbers: dict[str, list[float]] = field(default_factory=dict)
    tables: dict[str, int] = field(default_factory=dict)
    fits: bool = True
    reads: bool = False


def axis_rules(model: Model, inputs: Sequence[InputSpec]) -> AxisRules:
    """Walks through a model.

    Args:
        model: The model.
        inputs: Its inputs, of which all have a number of axes.
    """
    walk = _Walk(model)
    scope = _Scope(None)
    for spec in inputs:
        scope.shapes[spec.name] = tuple(
            axis(name) if length is None else constant(length)
            for name, length in zip(spec.axis_names, spec.shape, strict=True)
        )
        scope.handed[spec.name] = spec.name
    walk.graph(model.proto.graph, scope, certain=True)
    return walk.found


class _Scope:
    """What is known of tensors by name; a body sees what is around it."""

    def __init__(self, around: "_Scope | None") -> None:
        self.shapes: dict[str, Shape] = {}
        self.values: dict[str, Values] = {}
        self.handed: dict[str, str] = {}
        self._around = around

    def shape(self, name: str) -> Shape:
        if name in self.shapes or self._around is None:
            return self.shapes.get(name)
        return self._around.shape(name)

    def value(self, name: str) -> Values | None:
        if name in self.values or name in self.shapes or self._around is None:
            return self.values.get(name)
        return self._around.value(name)

    def input(self, name: str) -> str | None:
        """The input of the model that a tensor holds the numbers of."""
        if name in self.handed or name in self.shapes or self._around is None:
            return self.handed.get(name)
        return self._around.input(name)


class _Walk:
    """Reads nodes one after the other; what `Asking` says."""

    def __init__(self, model: Model) -> None:
        self.found = AxisRules()
        self._model = model
        self._functions = {
            (function.domain, function.name): function for function in model.proto.functions
        }
        self._scope = _Scope(None)
        self._certain = True
        self._depth = 0

    # What operators ask.

    def ask(self, length: Length | None, kind: Kind, number: int) -> None:
        if length is None:
            return
        self.found.reads |= length.fixed is None and kind != "least"
        rule = Rule(length, kind, number, self._certain)
        if length.fixed is None:
            self.found.rules.append(rule)
        elif not rule.holds({}).all():
            self.found.fits &= not self._certain

    def ask_same(self, first: Length | None, second: Length | None) -> None:
        if first is not None and second is not None and first.name and second.name:
            self.found.same.append((first.name, second.name))

    def ask_rank(self, shape: Shape, *ranks: int) -> None:
        if shape is not None:
            self.found.reads = True
            self.found.fits &= len(shape) in ranks or not self._certain

    def values(self, name: str) -> Values | None:
        return self._scope.value(name)

    # Graphs.

    def graph(self, graph: GraphProto, scope: _Scope, *, certain: bool) -> list[Shape]:
        """Walks through a graph; the shapes of its outputs."""
        for tensor in graph.initializer:
            self._constant(scope, tensor.name, tensor)
        self._nodes(graph.node, scope, certain=certain)
        return [scope.shape(output.name) for output in graph.output]

    def _nodes(self, nodes: Sequence[NodeProto], scope: _Scope, *, certain: bool) -> None:
        before = self._scope, self._certain
        for node in _ordered(nodes):
            self._scope, self._certain = scope, certain and before[1]
            self._node(node, scope)
        self._scope, self._certain = before

    def _node(self, node: NodeProto, scope: _Scope) -> None:
        if node.op_type == "Constant":
            self._constant_node(node, scope)
            return
        shapes = [scope.shape(name) if name else None for name in node.input]
        try:
            outputs, values = self._made(node, shapes, scope), self._numbers(node, scope)
        # A node that is not as the standard has it is for onnxruntime to refuse, not for a guess.
        except (IndexError, TypeError, ValueError, KeyError, ZeroDivisionError, AttributeError):
            outputs, values = [], None
        for place, name in enumerate(node.output):
            if name:
                scope.shapes[name] = outputs[place] if place < len(outputs) else None
        if values is not None and len(values) <= _MOST_VALUES:
            scope.values[node.output[0]] = values
        if node.op_type in _HANDED_ON and (source := scope.input(node.input[0])) is not None:
            scope.handed[node.output[0]] = source

    def _made(self, node: NodeProto, shapes: Sequence[Shape], scope: _Scope) -> Sequence[Shape]:
        function = self._functions.get((node.domain, node.op_type))
        if function is not None:
            return self._called(function, shapes)
        if any(True for _ in bodies(node)):
            return self._bodies(node, shapes, scope)
        if node.op_type in _COMPARING:
            self._compared(node, scope)
        if node.op_type in ("Gather", "EmbedLayerNormalization") and len(shapes) > 1:
            self._table(node, shapes, scope)
        if node.op_type == "Shape" and shapes[0] is not None:
            return [(constant(len(shapes[0])),)]
        operator = OPERATORS.get(node.op_type)
        return [None] * len(node.output) if operator is None else operator(self, node, shapes)

    def _called(self, function: FunctionProto, shapes: Sequence[Shape]) -> Sequence[Shape]:
        if self._depth == _DEEPEST:
            return [None] * len(function.output)
        scope, around = _Scope(None), self._scope
        scope.shapes.update(zip(function.input, shapes, strict=False))
        self._depth += 1
        self._nodes(function.node, scope, certain=True)
        self._depth -= 1
        self._scope = around
        return [scope.shape(name) for name in function.output]

    def _bodies(self, node: NodeProto, shapes: Sequence[Shape], scope: _Scope) -> Sequence[Shape]:
        found = []
        for body in bodies(node):
            inner = _Scope(scope)
            states = list(shapes)
            if node.op_type == "Scan":
                rows = len(shapes) - attribute(node, "num_scan_inputs", 0)
                states = [
                    shape if at < rows or not shape else shape[1:]
                    for at, shape in enumerate(shapes)
                ]
            for value, shape in zip(body.input, states, strict=False):
                # A Loop's number of rounds and condition are scalars, as its body has them.
                inner.shapes[value.name] = shape
            found.append(self.graph(body, inner, certain=False))
        if node.op_type != "If":
            return [None] * len(node.output)
        return [_either(*each) for each in zip(*found, strict=True)]

    def _compared(self, node: NodeProto, scope: _Scope) -> None:
        for name, other in (node.input[:2], node.input[1::-1]):
            source, values = scope.input(name), scope.value(other)
            if source is not None and values is not None:
                numbers = [value.fixed for value in values if value is not None]
                self.found.numbers.setdefault(source, []).extend(
                    float(number) for number in numbers if number is not None
                )

    def _table(self, node: NodeProto, shapes: Sequence[Shape], scope: _Scope) -> None:
        source, table = scope.input(node.input[1]), shapes[0]
        if source is None or not table:
            return
        rows = table[attribute(node, "axis", 0) % len(table)]
        if rows is not None and rows.fixed is not None:
            fewest = self.found.tables.get(source, rows.fixed)
            self.found.tables[source] = min(fewest, rows.fixed)

    # Constants and whole numbers.

    def _constant(self, scope: _Scope, name: str, tensor: TensorProto) -> None:
        scope.shapes[name] = tuple(map(constant, tensor.dims))
        whole = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type)).kind in "iub"
        if whole and prod(tensor.dims) <= _MOST_VALUES:
            values = self._model.array(tensor).reshape(-1)
            scope.values[name] = tuple(constant(int(value)) for value in values)

    def _constant_node(self, node: NodeProto, scope: _Scope) -> None:
        for entry in node.attribute:
            value = helper.get_attribute_value(entry)
            if entry.name == "value":
                self._constant(scope, node.output[0], value)
            elif entry.name.startswith("value_"):
                held = np.asarray(value)
                if held.dtype.kind in "if":
                    self._constant(scope, node.output[0], numpy_helper.from_array(held))

    def _numbers(self, node: NodeProto, scope: _Scope) -> Values | None:
        """The whole numbers that a node makes, where it computes a shape."""
        kind = node.op_type
        if kind in ("Shape", "Size"):
            shape = scope.shape(node.input[0])
            if shape is None:
                return None
            if kind == "Size":
                return (product(shape),)
            return shape[attribute(node, "start", 0) : attribute(node, "end", len(shape))]
        if kind not in _WITH_NUMBERS:
            return None
        read = [scope.value(name) if name else None for name in node.input]
        if kind == "Concat":
            pieces = [piece for piece in read if piece is not None]
            return sum(pieces, ()) if len(pieces) == len(read) else None
        first = read[0]
        if kind == "ConstantOfShape":
            return _filled(node, first)
        if first is None:
            return None
        if kind in _HANDED_ON:
            return first
        if kind == "ReduceProd":
            return (product(first),)
        if kind == "Slice":
            return _part(node, first, read)
        second = read[1]
        if second is None:
            return None
        if kind == "Gather":
            return tuple(
                None if place is None or place.fixed is None else first[place.fixed]
                for place in second
            )
        if kind == "Where":
            third = read[2]
            return None if third is None else _chosen(first, second, third)
        return _computed(kind, first, second)


_WITH_NUMBERS = {
    *("Concat", "ConstantOfShape", "ReduceProd", "Slice", "Gather", "Where", "Equal"),
    *("Mul", "Add", "Sub", "Div"),
    *_HANDED_ON,
}


def _filled(node: NodeProto, shape: Values | None) -> Values | None:
    count = None if shape is None else product(shape)
    if count is None or count.fixed is None or count.fixed > _MOST_VALUES:
        return None
    tensor = attribute(node, "value")
    value = 0 if tensor is None else numpy_helper.to_array(tensor).reshape(-1)[0]
    return (Length(scale=int(value)),) * count.fixed


def _part(node: NodeProto, values: Values, read: Sequence[Values | None]) -> Values | None:
    if attribute(node, "starts") is not None:
        starts, ends = attribute(node, "starts"), attribute(node, "ends")
        return values[starts[0] : ends[0]]
    given = [
        None if one is None or len(one) != 1 or one[0] is None else one[0].fixed for one in read
    ]
    start, end = given[1], given[2]
    step = given[4] if len(given) > 4 else 1
    if start is None or end is None or step is None:
        return None
    return values[slice(start, None if abs(end) > LAST else end, step)]


def _chosen(conditions: Values, first: Values, second: Values) -> Values:
    count = max(map(len, (conditions, first, second)))
    rows = zip(*(_repeated(one, count) for one in (conditions, first, second)), strict=True)
    return tuple(
        None if condition is None or condition.fixed is None else one if condition.fixed else other
        for condition, one, other in rows
    )


def _repeated(values: Values, count: int) -> Values:
    return values * count if len(values) == 1 else values


def _computed(kind: str, first: Values, second: Values) -> Values:
    count = max(len(first), len(second))
    pairs = zip(_repeated(first, count), _repeated(second, count), strict=True)
    return tuple(
        None if left is None or right is None else _result(kind, left, right)
        for left, right in pairs
    )


def _result(kind: str, left: Length, right: Length) -> Length | None:
    if kind == "Mul":
        return left.times(right)
    if kind == "Equal":
        if left == right:
            return constant(1)
        numbers = [one.fixed for one in (left, right) if one.fixed is not None]
        # No axis has a length of -1, which stands for one that is to be kept.
        return constant(0) if len(numbers) == 2 or any(number < 0 for number in numbers) else None
    if right.fixed is not None:
        if kind == "Div":
            return left.stepped(Step(by=right.fixed))
        return left.stepped(Step(plus=right.fixed if kind == "Add" else -right.fixed))
    return right.stepped(Step(plus=left.fixed)) if kind == "Add" and left.fixed else None


def _either(first: Shape, *others: Shape) -> Shape:
    """What is alike in several shapes."""
    found = first
    for other in others:
        if found is None or other is None or len(found) != len(other):
            return None
        pairs = zip(found, other, strict=True)
        found = tuple(one if one == another else None for one, another in pairs)
    return found


def _ordered(nodes: Sequence[NodeProto]) -> Iterator[NodeProto]:
    """Nodes behind all that they read, whatever order the file has them in."""
    produced = {name for node in nodes for name in node.output if name}
    waiting = list(nodes)
    ready: set[str] = set()
    while waiting:
        left = []
        for node in waiting:
            if all(name in ready or name not in produced for name in used_names([node])):
                yield node
                ready.update(node.output)
            else:
                left.append(node)
        if len(left) == len(waiting):
            return
        waiting = left


def joined_axes(same: Sequence[tuple[str, str]], first: Sequence[str]) -> Mapping[str, str]:
    """A name for every axis that has one length with others.

    Args:
        same: Pairs.
        first: Axes whose names are preferred, the foremost most.

    Returns:
        By axis, the name that stands for it; only axes that another one stands for.
    """
    rank = {name: place for place, name in enumerate(first)}
    root: dict[str, str] = {}

    def of(name: str) -> str:
        while name in root:
            name = root[name]
        return name

    for one, other in same:
        left, right = sorted((of(one), of(other)), key=lambda n: (rank.get(n, len(rank)), n))
        if left != right:
            root[right] = left
    return {name: of(name) for name in root}
