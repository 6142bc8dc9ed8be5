"""What is known while ranges are followed through a graph, and what the rules for nodes use."""

from collections.abc import Mapping

import numpy as np
from onnx import NodeProto, TensorProto

from onnx_relusv.graph.channel_sizes import fixed_lengths
from onnx_relusv.graph.channel_walk import attribute
from onnx_relusv.graph.constants import Constants
from onnx_relusv.graph.model import Model, all_tensors
from onnx_relusv.graph.operators import Shape
from onnx_relusv.graph.ranges_interval import EVERYTHING, Interval
from onnx_relusv.records import Floats

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
