"""What a model's nodes require of the lengths of its inputs' dynamic axes.

A walk from the inputs: lengths as functions of the inputs' axes go through the operators, and where
one meets a weight, a fixed shape or another input, a rule says what the axis has to be. Bodies of
nodes and functions are walked too; what a body requires is not certain, for it may not run.
"""

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np
from onnx import FunctionProto, GraphProto, NodeProto, TensorProto, helper

from onnx_relusv.core.blocks import InputSpec
from onnx_relusv.graph.channels.lengths import (
    LONGEST,
    MOST_NUMBERS,
    AxisRules,
    Dims,
    Known,
    Length,
    LengthWalk,
    Row,
    Rule,
    Scope,
    Unknown,
    axis,
    constant,
)
from onnx_relusv.graph.channels.operator import NumberRule, Operator
from onnx_relusv.graph.channels.operators import OPERATORS
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.nodes import attribute
from onnx_relusv.graph.protos import Circular, bodies, held, node_order

# Functions in functions; a file that is deeper is walked so far.
_DEEPEST = 16


def axis_rules(model: Model, inputs: Sequence[InputSpec]) -> AxisRules:
    """Walks through a model.

    Args:
        model: The model.
        inputs: Its inputs, of which all have a number of axes.
    """
    walk, scope = _Walk(model), Scope()
    for spec in inputs:
        dims = tuple(
            axis(name) if length is None else constant(length)
            for name, length in zip(spec.axis_names, spec.shape, strict=True)
        )
        scope[spec.name] = Known(dims, source=spec.name)
    walk.graph(model.proto.graph, scope, certain=True)
    return walk.found


class _Walk(LengthWalk):
    """Goes through graphs, bodies and functions."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self._model = model
        self._functions = {
            (function.domain, function.name): function for function in model.proto.functions
        }
        self._depth = 0

    def graph(self, graph: GraphProto, scope: Scope, *, certain: bool) -> list[Dims]:
        """Walks through a graph; the lengths of its outputs."""
        for tensor in graph.initializer:
            scope[tensor.name] = self._constant(tensor)
        self._nodes(graph.node, scope, certain=certain)
        return [scope[output.name].dims for output in graph.output]

    def _nodes(self, nodes: Sequence[NodeProto], scope: Scope, *, certain: bool) -> None:
        before = self.scope, self.certain
        try:
            order = node_order(nodes)
        except Circular:
            return
        for index in range(len(nodes)) if order is None else order:
            self.scope, self.certain = scope, certain and before[1]
            self._node(nodes[index])
        self.scope, self.certain = before

    def _node(self, node: NodeProto) -> None:
        scope = self.scope
        if node.op_type == "Constant":
            tensor = held(node)
            scope[node.output[0]] = Known() if tensor is None else self._constant(tensor)
            return
        operator = OPERATORS.get(node.op_type)
        numbers, row = (None if operator is None else operator.numbers), None
        try:
            outputs = self._outputs(node, operator)
            row = None if numbers is None else self._row(node, numbers)
        # A node that is not as the standard has it is for onnxruntime to refuse, not for a guess.
        except (IndexError, TypeError, ValueError, KeyError, ZeroDivisionError, AttributeError):
            outputs = []
        for place, name in enumerate(node.output):
            if name:
                scope[name] = Known(outputs[place] if place < len(outputs) else None)
        if operator is not None and numbers is not None and node.output:
            source = scope[node.input[0]].source if operator.passes_values else None
            scope[node.output[0]] = Known(scope[node.output[0]].dims, row, source)

    def _row(self, node: NodeProto, numbers: NumberRule) -> Row | None:
        """The whole numbers that a node makes, where it computes a shape."""
        try:
            found = numbers(self, node)
        except Unknown:
            return None
        return found if len(found.entries) <= MOST_NUMBERS else None

    def _outputs(self, node: NodeProto, operator: Operator | None) -> Sequence[Dims]:
        dims = [self.scope[name].dims if name else None for name in node.input]
        function = self._functions.get((node.domain, node.op_type))
        if function is not None:
            return self._called(function, dims)
        if any(True for _ in bodies(node)):
            return self._bodies(node, dims)
        return [] if operator is None else operator.lengths(self, node, dims)

    def _called(self, function: FunctionProto, dims: Sequence[Dims]) -> Sequence[Dims]:
        if self._depth == _DEEPEST:
            return []
        scope = Scope()
        scope.update(zip(function.input, map(Known, dims), strict=False))
        self._depth += 1
        self._nodes(function.node, scope, certain=True)
        self._depth -= 1
        return [scope[name].dims for name in function.output]

    def _bodies(self, node: NodeProto, dims: Sequence[Dims]) -> Sequence[Dims]:
        found = []
        for body in bodies(node):
            states = list(dims)
            if node.op_type == "Scan":
                rows = len(dims) - attribute(node, "num_scan_inputs", 0)
                states = [own if at < rows or not own else own[1:] for at, own in enumerate(dims)]
            inner = Scope(self.scope)
            # A Loop's number of rounds and condition are scalars, as its body has them.
            inner.update(
                zip((value.name for value in body.input), map(Known, states), strict=False)
            )
            found.append(self.graph(body, inner, certain=False))
        if node.op_type != "If":
            return []
        return [_alike(*each) for each in zip(*found, strict=True)]

    def _constant(self, tensor: TensorProto) -> Known:
        dims, row = tuple(map(constant, tensor.dims)), None
        is_whole = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type)).kind in "iub"
        if is_whole and prod(tensor.dims) <= MOST_NUMBERS:
            values = self._model.array(tensor).reshape(-1)
            row = Row(tuple(constant(int(value)) for value in values), len(dims))
        return Known(dims, row)


def _alike(first: Dims, *others: Dims) -> Dims:
    """What is alike in the lengths of several tensors."""
    found = first
    for other in others:
        if found is None or other is None or len(found) != len(other):
            return None
        pairs = zip(found, other, strict=True)
        found = tuple(one if one == another else None for one, another in pairs)
    return found


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


class Solver:
    """Finds lengths of input axes that keep rules, as near to what is wanted as there are.

    Args:
        rules: The rules. Of such as are not certain, those that contradict others are passed over.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        unique = list(dict.fromkeys(rules))
        unique.sort(key=lambda rule: not rule.certain)
        self._own: dict[str, np.ndarray] = {}
        self._long: dict[str, int] = {}
        self._joint: list[Rule] = []
        for rule in unique:
            names = rule.length.names
            if len(names) > 1:
                self._joint.append(rule)
            elif names:
                self._add(next(iter(names)), rule)

    def _add(self, name: str, rule: Rule) -> None:
        if rule.kind == "equal" and rule.length.name is not None and rule.number > LONGEST:
            self._long.setdefault(name, rule.number)
            return
        known = self._own.get(name)
        kept = rule.holds({name: np.arange(1, LONGEST + 1)})
        kept = kept if known is None else kept & known
        if kept.any():
            self._own[name] = kept

    def nearest(self, name: str, wanted: int) -> int:
        """The length that keeps all rules of this axis alone: as wanted, above it, or below."""
        if name in self._long:
            return self._long[name]
        kept = self._own.get(name)
        if kept is None or (wanted <= LONGEST and kept[wanted - 1]):
            return wanted
        found = np.flatnonzero(kept) + 1
        above = found[found >= wanted]
        return int(above[0] if len(above) else found[-1])

    def solved(
        self, wanted: Mapping[str, int], movable: Sequence[str], batch: Sequence[str]
    ) -> dict[str, int]:
        """Lengths that keep the rules of single axes, and those of several where that is found.

        Args:
            wanted: By axis.
            movable: The axes that may be moved for a rule of several, the first ones first.
            batch: The axes of samples, which are moved where nothing else helps.
        """
        lengths = {name: self.nearest(name, length) for name, length in wanted.items()}
        for rule in self._joint:
            if rule.length.names <= set(lengths) and not rule.holds(lengths):
                lengths |= self._moved(rule, lengths, movable, batch)
        return lengths

    def _moved(
        self, rule: Rule, lengths: Mapping[str, int], movable: Sequence[str], batch: Sequence[str]
    ) -> dict[str, int]:
        own = [name for name in movable if name in rule.length.names]
        samples = [name for name in batch if name in rule.length.names]
        tried: list[tuple[Rule, list[str]]] = []
        for each in (*_one_a_sample(rule, samples), rule):
            tried += [(each, own), *((each, [name]) for name in own)]
        tried += [(rule, samples), (rule, own + samples)]
        for each, names in tried:
            found = self._together(each, lengths, names) if names else None
            if found is not None:
                return dict.fromkeys(names, found)
        return {}

    def _together(self, rule: Rule, lengths: Mapping[str, int], names: list[str]) -> int | None:
        """The nearest length of several axes, the same for all, that keeps a rule."""
        every = np.arange(1, LONGEST + 1)
        kept = rule.holds({**lengths, **dict.fromkeys(names, every)})
        for name in names:
            kept = kept & self._own.get(name, True)
        found = every[kept]
        if not len(found):
            return None
        above = found[found >= lengths[names[0]]]
        return int(above[0] if len(above) else found[-1])


def _one_a_sample(rule: Rule, samples: Sequence[str]) -> list[Rule]:
    """Of rows that a Reshape makes of everything: that every sample becomes one row."""
    parts = tuple(part for part in rule.length.parts if part[0] not in samples)
    if rule.kind != "multiple" or not parts:
        return []
    return [Rule(Length(rule.length.scale, rule.length.divisor, parts), "equal", rule.number)]
