"""Lengths that nodes compute of lengths, and the shapes that a Reshape takes from them.

With a batch of any length, exporters write a view of a tensor as a chain of nodes: Shape, Gather of
a length, Concat with others, Reshape. Every number on the way is followed back to the lengths that
it is a product of. Where a Reshape's shape turns out to be a row of constants, lengths that stay in
their place, and at most one that follows from the others, it is what a constant vector would do.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from onnx import NodeProto, TensorProto, helper

from onnx_relusv.graph.constants import Constants
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.nodes import is_standard

# Of a tensor, its lengths: a number, a name that equal ones share, or None where nothing is known.
Known = tuple[int | str | None, ...]
_WHOLE = (TensorProto.INT32, TensorProto.INT64)
# More numbers than any shape has.
_MOST_AXES = 64
_FIRST_OPSET_WITH_SLICES_AS_INPUT = 10
# What they make of lengths is followed no further, but is known to depend on them.
_OPAQUE = ("Add", "Div", "Max", "Min", "Mod", "Sub")


@dataclass(frozen=True)
class Length:
    """A number in a chain.

    Attributes:
        factor: What the lengths are multiplied with; the number itself where there are none.
        reads: The lengths, each a tensor and one of its axes.
        is_product: Whether it is the product of these; otherwise it depends on them somehow.
    """

    factor: int = 1
    reads: tuple[tuple[str, int], ...] = ()
    is_product: bool = True

    def times(self, other: "Length") -> "Length":
        """The product of two."""
        return Length(
            self.factor * other.factor,
            self.reads + other.reads,
            self.is_product and other.is_product,
        )

    def somehow(self, other: "Length") -> "Length":
        """Something that depends on two."""
        return Length(1, self.reads + other.reads, is_product=False)


@dataclass(frozen=True)
class Sizes:
    """A tensor of whole numbers that consists of lengths.

    Attributes:
        entries: Its numbers.
        is_scalar: Whether it has no axis; otherwise it has one.
    """

    entries: tuple[Length, ...]
    is_scalar: bool = False

    @property
    def reads(self) -> set[tuple[str, int]]:
        """All lengths that any of its numbers depends on."""
        return {read for entry in self.entries for read in entry.reads}

    def numbers(self) -> list[int]:
        """Its numbers, where they depend on no length; raises Unknown otherwise."""
        if any(entry.reads or not entry.is_product for entry in self.entries):
            raise Unknown
        return [entry.factor for entry in self.entries]


class Unknown(Exception):  # noqa: N818 - it is an answer, not an error
    """A node makes something else of lengths than is followed."""


class ShapeChains:
    """All tensors of a graph that consist of lengths.

    Args:
        model: The model.
        constants: Its constants.
        known: Lengths of tensors, as inferred.

    Attributes:
        sizes: Those tensors.
        vectors: By what a Reshape with a computed shape writes, the constant shape that would do
            the same, with 0 and -1 as the operator has them; those without one are left out.
    """

    def __init__(self, model: Model, constants: Constants, known: Mapping[str, Known]) -> None:
        self._constants = constants
        self._known = known
        self._opset = model.opset
        self.sizes: dict[str, Sizes] = {}
        self.vectors: dict[str, tuple[int, ...]] = {}
        for node in model.proto.graph.node:
            if is_standard(node):
                self._add(node)

    def _add(self, node: NodeProto) -> None:
        rule = _RULES.get(node.op_type)
        starts = node.op_type in ("Shape", "Size")
        if rule is not None and (starts or any(name in self.sizes for name in node.input)):
            try:
                self.sizes[node.output[0]] = rule(self, node)
            except Unknown:
                pass
            else:
                return
        if node.op_type == "Reshape" and node.input[1] in self.sizes:
            vector = self._vector(node)
            if vector is not None:
                self.vectors[node.output[0]] = vector

    def _vector(self, node: NodeProto) -> tuple[int, ...] | None:
        """The shape of a Reshape as a constant; None where it is none."""
        source = node.input[0]
        lengths = self._known.get(source, ())
        zero_copies = not _attribute(node, "allowzero", 0)
        found: list[int] = []
        open_places: list[int] = []
        for place, entry in enumerate(self.sizes[node.input[1]].entries):
            if not entry.reads and entry.is_product:
                found.append(entry.factor)
            elif zero_copies and self._stays(entry, source, place, lengths):
                found.append(0)
            else:
                numbers = [self._length(*read) for read in entry.reads]
                if entry.is_product and all(isinstance(number, int) for number in numbers):
                    found.append(entry.factor * prod(n for n in numbers if isinstance(n, int)))
                else:
                    open_places.append(place)
                    found.append(-1)
        # The number of entries is the same before and after, so that one length follows.
        return tuple(found) if found.count(-1) <= 1 else None

    def _stays(self, entry: Length, source: str, place: int, lengths: Known) -> bool:
        """Whether an entry is the length of the reshaped tensor that lies in the same place."""
        if not entry.is_product or entry.factor != 1 or len(entry.reads) != 1:
            return False
        ((name, axis),) = entry.reads
        if name == source:
            return axis == place
        own = lengths[place] if place < len(lengths) else None
        return isinstance(own, str) and own == self._length(name, axis)

    def _length(self, name: str, axis: int) -> int | str | None:
        lengths = self._known.get(name, ())
        return lengths[axis] if axis < len(lengths) else None

    # What nodes make of lengths.

    def shape(self, node: NodeProto) -> Sizes:
        """The lengths of a tensor, or of some of its axes."""
        if node.input[0] not in self._known:
            raise Unknown
        rank = len(self._known[node.input[0]])
        start, end = _attribute(node, "start", 0), _attribute(node, "end", rank)
        axes = range(rank)[slice(start, end)]
        return Sizes(tuple(Length(reads=((node.input[0], axis),)) for axis in axes))

    def size(self, node: NodeProto) -> Sizes:
        """How many numbers a tensor has."""
        entries = self.shape(node).entries
        return Sizes((_product(entries),), is_scalar=True)

    def gather(self, node: NodeProto) -> Sizes:
        """Some of them."""
        entries, places = self._vector_of(node.input[0]), self._constant(node.input[1])
        try:
            found = tuple(entries[place] for place in places.numbers())
        except IndexError:
            raise Unknown from None
        return Sizes(found, places.is_scalar)

    def slice(self, node: NodeProto) -> Sizes:
        """A row of them."""
        entries = self._vector_of(node.input[0])
        if self._opset < _FIRST_OPSET_WITH_SLICES_AS_INPUT:
            starts, ends = (_attribute(node, name, []) for name in ("starts", "ends"))
            steps = [1]
        else:
            starts, ends = (self._numbers(node.input[slot]) for slot in (1, 2))
            given = len(node.input) > 4 and node.input[4]
            steps = self._numbers(node.input[4]) if given else [1]
        if not len(starts) == len(ends) == len(steps) == 1:
            raise Unknown
        step, end = steps[0], ends[0]
        # A large negative end of a row backwards means its beginning.
        stop = None if step < 0 and end < -len(entries) else end
        return Sizes(entries[starts[0] : stop : step])

    def reshaped(self, node: NodeProto) -> Sizes:
        """The same with an axis more or less, where there is one of them."""
        found = self._sizes(node.input[0])
        if len(found.entries) != 1:
            raise Unknown
        if node.op_type == "Unsqueeze":
            if not found.is_scalar:
                raise Unknown
            return Sizes(found.entries)
        if node.op_type == "Squeeze":
            return Sizes(found.entries, is_scalar=True)
        wanted = self._numbers(node.input[1])
        if wanted not in ([], [1], [-1]):
            raise Unknown
        return Sizes(found.entries, is_scalar=not wanted)

    def concat(self, node: NodeProto) -> Sizes:
        """Several rows."""
        return Sizes(tuple(each for name in node.input for each in self._vector_of(name)))

    def same(self, node: NodeProto) -> Sizes:
        """The same numbers, whole ones still."""
        if node.op_type == "Cast" and _attribute(node, "to", 0) not in _WHOLE:
            raise Unknown
        return self._sizes(node.input[0])

    def combined(self, node: NodeProto) -> Sizes:
        """Two, number by number."""
        one, other = (self._sizes(name) for name in node.input)
        count = max(len(one.entries), len(other.entries))
        if not {len(one.entries), len(other.entries)} <= {1, count}:
            raise Unknown
        pairs = zip(_repeated(one.entries, count), _repeated(other.entries, count), strict=True)
        made = tuple(
            first.times(second) if node.op_type == "Mul" else first.somehow(second)
            for first, second in pairs
        )
        return Sizes(made, one.is_scalar and other.is_scalar)

    def reduced(self, node: NodeProto) -> Sizes:
        """The product of all."""
        entries = self._vector_of(node.input[0])
        return Sizes((_product(entries),), is_scalar=not _attribute(node, "keepdims", 1))

    def _sizes(self, name: str) -> Sizes:
        found = self.sizes.get(name)
        return self._constant(name) if found is None else found

    def _vector_of(self, name: str) -> tuple[Length, ...]:
        found = self._sizes(name)
        if found.is_scalar:
            raise Unknown
        return found.entries

    def _constant(self, name: str) -> Sizes:
        tensor = self._constants.tensor(name)
        if tensor is None or tensor.data_type not in _WHOLE or len(tensor.dims) > 1:
            raise Unknown
        if prod(tensor.dims) > _MOST_AXES:
            raise Unknown
        values = self._constants.array(name)
        if values is None:
            raise Unknown
        return Sizes(tuple(Length(int(value)) for value in values.reshape(-1)), values.ndim == 0)

    def _numbers(self, name: str) -> list[int]:
        return self._constant(name).numbers()


def _product(entries: Iterable[Length]) -> Length:
    found = Length()
    for entry in entries:
        found = found.times(entry)
    return found


def _repeated(entries: tuple[Length, ...], count: int) -> tuple[Length, ...]:
    return entries * count if len(entries) == 1 else entries


def _attribute(node: NodeProto, name: str, default: Any) -> Any:
    for found in node.attribute:
        if found.name == name:
            return helper.get_attribute_value(found)
    return default


_RULES = {
    "Shape": ShapeChains.shape,
    "Size": ShapeChains.size,
    "Gather": ShapeChains.gather,
    "Slice": ShapeChains.slice,
    "Concat": ShapeChains.concat,
    "Mul": ShapeChains.combined,
    "ReduceProd": ShapeChains.reduced,
    **dict.fromkeys(("Reshape", "Squeeze", "Unsqueeze"), ShapeChains.reshaped),
    **dict.fromkeys(("Cast", "Identity"), ShapeChains.same),
    **dict.fromkeys(_OPAQUE, ShapeChains.combined),
}
