"""Intervals that numbers of a tensor lie in, and their arithmetic.

Ends are exact but for float64; what a runtime's own rounding adds is the caller's `margin`, a share
of every term's size. A computed sum of terms t_i is the sum of t_i (1 + d_i) with small d_i, so
that sums of the terms' ends, each moved outwards by its share, bound it in whichever order they are
added. Zero stays zero: what is exactly zero in every run has the ends 0 and 0.

All of it is of finite numbers. Where an end is infinite nothing is known on that side, and zero
times it is zero.

What is known while ranges are followed through a graph, and what the rules for nodes use.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto, TensorProto

from onnx_relusv.core.blocks import Floats, ReadOnlyArrays
from onnx_relusv.graph.channels.sizes import fixed_lengths
from onnx_relusv.graph.channels.walk import attribute
from onnx_relusv.graph.constants import Constants
from onnx_relusv.graph.model import Model, all_tensors
from onnx_relusv.graph.nodes import Shape

# Beyond it a float32 overflows.
_LARGEST = float(np.finfo(np.float32).max)
# Where a float32 underflows, it is rounded by more than a share of itself; ends are never so small.
_SMALLEST = 1e-35


@dataclass(frozen=True, eq=False)
class Interval(ReadOnlyArrays):
    """Where the numbers of a tensor lie.

    Attributes:
        low: float64, of any shape that broadcasts to the tensor's as ONNX does: an axis of length
            1 has the same bounds everywhere along it.
        high: Of the same shape.
        whole: Whether the tensor's type is one of whole numbers, whose arithmetic wraps around.
    """

    low: Floats
    high: Floats
    whole: bool = False

    def aligned(self, rank: int) -> "Interval":
        """With as many axes as the tensor has."""
        shape = (1,) * (rank - self.low.ndim) + self.low.shape
        return Interval(self.low.reshape(shape), self.high.reshape(shape), self.whole)

    def spread(self, axes: tuple[int, ...] | None = None) -> "Interval":
        """One interval for all along some axes, each left with length 1; a scalar for all axes."""
        keep = axes is not None
        return Interval(
            np.asarray(self.low.min(axis=axes, keepdims=keep)),
            np.asarray(self.high.max(axis=axes, keepdims=keep)),
            self.whole,
        )

    def joined(self, value: float) -> "Interval":
        """With one more number that may be anywhere in the tensor."""
        return Interval(np.minimum(self.low, value), np.maximum(self.high, value), self.whole)

    @property
    def is_zero(self) -> np.ndarray:
        """Where the tensor is zero in every run; bool, of the shape of the ends."""
        found: np.ndarray = (self.low == 0) & (self.high == 0)
        return found


def interval(low: Floats, high: Floats, *, whole: bool = False) -> Interval:
    """An interval of computed ends, in as small a shape as says the same.

    Args:
        low: float64; NaN where nothing is known.
        high: Likewise.
        whole: As in `Interval`.
    """
    low, high = np.broadcast_arrays(low, high)
    unknown = np.isnan(low) | np.isnan(high)
    low = np.where(unknown | (low < -_LARGEST), -np.inf, low)
    high = np.where(unknown | (high > _LARGEST), np.inf, high)
    low = np.where(np.abs(low) < _SMALLEST, np.where(low < 0, -_SMALLEST, 0.0), low)
    high = np.where(np.abs(high) < _SMALLEST, np.where(high > 0, _SMALLEST, 0.0), high)
    for axis, length in enumerate(low.shape):
        first = [ends.take([0], axis) for ends in (low, high) if length]
        if length > 1 and np.all(low == first[0]) and np.all(high == first[1]):
            low, high = first
    return Interval(low, high, whole)


EVERYTHING = Interval(np.full((), -np.inf), np.full((), np.inf))


def outward(found: Interval, margin: float) -> Interval:
    """With every end moved by a share of itself."""
    low, high = found.low, found.high
    return interval(low - margin * np.abs(low), high + margin * np.abs(high))


def added(first: Interval, second: Interval, margin: float) -> Interval:
    """Of a sum."""
    low, high = first.low + second.low, first.high + second.high
    return interval(
        low - margin * (np.abs(first.low) + np.abs(second.low)),
        high + margin * (np.abs(first.high) + np.abs(second.high)),
    )


def negated(found: Interval) -> Interval:
    """Of the negative."""
    return Interval(-found.high, -found.low)


def product(first: Interval, second: Interval) -> Interval:
    """Of a product, number by number, of independent factors, without rounding."""
    corners = [_times(a, b) for a in (first.low, first.high) for b in (second.low, second.high)]
    return interval(np.minimum.reduce(corners), np.maximum.reduce(corners))


def multiplied(first: Interval, second: Interval, margin: float) -> Interval:
    """Of a product as it is computed."""
    return outward(product(first, second), margin)


def inverted(found: Interval) -> Interval:
    """Of the reciprocal; everything where zero may be divided by."""
    may_be_zero = (found.low <= 0) & (found.high >= 0)
    low, high = (np.where(may_be_zero, 1.0, ends) for ends in (found.low, found.high))
    return interval(
        np.where(may_be_zero, -np.inf, 1 / high), np.where(may_be_zero, np.inf, 1 / low)
    )


def _times(first: Floats, second: Floats) -> Floats:
    with np.errstate(invalid="ignore"):
        found = first * second
    # Zero times an end that is not known.
    return np.where(np.isnan(found), 0.0, found)


# Of the terms: what a runtime's optimisation may do to a product or a sum of two. What it merges
# into a matrix product is added to once for every panel of a hundred columns or so, and rounded
# each time: 1e-5 allows for 160 roundings of a float32.
_LEAST_MARGIN = 1e-5
# Roundings of a term besides those of its sum: its product, a normalisation folded into its weight,
# a bias, alpha and beta.
_FURTHER = 8
_UNITS = {TensorProto.BFLOAT16: 2.0**-8, TensorProto.FLOAT16: 2.0**-11}
_UNIT = 2.0**-24
# Of what constants of more numbers hold, only the ends are kept.
_LARGE = 1 << 20


class Unbounded(Exception):  # noqa: N818 - it is an answer, not an error
    """Nothing is known of what a node writes."""


class RangeWalk:
    """Ranges as far as they have been followed.

    Args:
        model: The model.
        shapes: Of the tensors between nodes, for one sample.

    Attributes:
        constants: The graph's constants.
        opset: Of the default operators.
        known: Intervals by tensor.
        unit: The unit roundoff of the coarsest type of floats that is computed with.
    """

    def __init__(self, model: Model, shapes: Mapping[str, Shape]) -> None:
        self.constants = Constants(model)
        self.opset = model.opset
        self.known: dict[str, Interval] = {}
        self._shapes = shapes
        self._fixed = fixed_lengths(model)
        self.unit = _coarsest(model)

    def margin(self, terms: int = 1) -> float:
        """By what share of every term a computed sum may be off, whatever the order.

        A term goes through as many roundings at most as there are terms, and through some more;
        n of them make n u / (1 - n u) (Higham, Accuracy and Stability of Numerical Algorithms).

        Raises:
            Unbounded: The type is too coarse for so many terms.
        """
        share = (terms + _FURTHER) * self.unit
        if share >= 1:
            raise Unbounded
        return max(_LEAST_MARGIN, share / (1 - share))

    def range(self, name: str) -> Interval:
        """Where a tensor's or a constant's numbers lie."""
        values = self.constants.array(name)
        if values is None:
            return self.known.get(name, EVERYTHING)
        whole = values.dtype.kind in "iu"
        if not values.size or not (whole or _is_float(values)):
            return EVERYTHING
        ends = values if values.size <= _LARGE else np.stack([values.min(), values.max()])
        ends = ends.astype(np.float64)
        if not np.isfinite(ends).all():
            return EVERYTHING
        if values.size > _LARGE:
            return Interval(ends[0], ends[1], whole)
        return Interval(ends, ends, whole)

    def floats(self, name: str) -> Interval:
        """The same for what is computed with.

        Raises:
            Unbounded: The numbers are whole, which may wrap around.
        """
        found = self.range(name)
        if found.whole:
            raise Unbounded
        return found

    def weight(self, name: str) -> np.ndarray:
        """The values of a constant of floats.

        Raises:
            Unbounded: It is none.
        """
        values = self.constants.array(name)
        if values is None or not _is_float(values):
            raise Unbounded
        return values

    def vector(self, name: str) -> Floats:
        """The values of a small constant of floats in float64.

        Raises:
            Unbounded: It is none, or they are not finite.
        """
        values = self.weight(name).astype(np.float64)
        if not np.isfinite(values).all():
            raise Unbounded
        return values

    def numbers(self, name: str) -> list[int]:
        """A constant vector of whole numbers.

        Raises:
            Unbounded: It is computed.
        """
        values = self.constants.array(name)
        if values is None:
            raise Unbounded
        return [int(value) for value in values.reshape(-1)]

    def scalar(self, name: str) -> float:
        """A constant of one element.

        Raises:
            Unbounded: It is none.
        """
        value = self.constants.scalar(name)
        if value is None:
            raise Unbounded
        return value

    def rank(self, name: str) -> int:
        """How many axes a tensor or constant has.

        Raises:
            Unbounded: That is not known.
        """
        return len(self.fixed(name))

    def fixed(self, name: str) -> tuple[int | None, ...]:
        """The lengths of a tensor or constant; None for those that are not the same at all sizes.

        Raises:
            Unbounded: Not even their number is known.
        """
        tensor = self.constants.tensor(name)
        if tensor is not None:
            return tuple(tensor.dims)
        if name not in self._shapes:
            raise Unbounded
        rank = len(self._shapes[name])
        found = self._fixed.get(name, ())
        return found if len(found) == rank else (None,) * rank


def number(node: NodeProto, name: str, default: float) -> float:
    """A number among the attributes."""
    value = attribute(node, name, default)
    return float(value)  # type: ignore[arg-type]


def _is_float(values: np.ndarray) -> bool:
    return values.dtype.kind == "f" or values.dtype.name == "bfloat16"


def _coarsest(model: Model) -> float:
    """Half the distance from 1 to the next number, in the coarsest type of a model's floats."""
    graph = model.proto.graph
    types = {tensor.data_type for tensor in all_tensors(graph)}
    types |= {value.type.tensor_type.elem_type for value in graph.input}
    types |= {attribute(node, "to") for node in graph.node if node.op_type == "Cast"}  # type: ignore[misc]
    return max((unit for kind, unit in _UNITS.items() if kind in types), default=_UNIT)
