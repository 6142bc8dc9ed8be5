"""What a model costs once so many units of every group are gone; quick, since planning asks often.

Which units go does not count, only how many: along an axis, units of one group come equally often.
Where a Split or a Slice gives an axis some units of a group alone, it loses them in proportion.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, helper

from onnx_relusv.core.blocks import Floats
from onnx_relusv.graph.channels.operators import operator_of
from onnx_relusv.graph.channels.walk import NO_UNIT, Channels, ConstantAxis, Units
from onnx_relusv.graph.constants import Constants
from onnx_relusv.graph.model import Model
from onnx_relusv.graph.nodes import Shape
from onnx_relusv.graph.protos import known_constant
from onnx_relusv.graph.reference import computed_shapes, node_macs

Counts = npt.NDArray[np.int64]
# How much longer the name of a cut constant is, at most, in each of the places that it has: the
# constant, its readers and, before IR version 4, an input of the graph.
_LONGER = 8
# What a constant that a cut adds spends beside its numbers and names.
_OVERHEAD = 48


@dataclass(frozen=True, eq=False)
class _Part:
    """A constant of which a cut leaves a product of two lengths.

    Attributes:
        fixed: (2,) float64: of each length, what stays in any case.
        slopes: (2, groups) float64: how often every group's units come along it.
        size: Bytes that its numbers take as what is left is stored, if all of it is left.
        further: Bytes that go with it besides, where nodes compute it of others.
        stays: Whether others read all of it, so that what is left is a copy.
        names: Bytes that its names take more, once it is cut, at most.
        macs: Multiply-accumulates in proportion to it.
    """

    fixed: Floats
    slopes: Floats
    size: float
    further: float
    stays: bool
    names: int
    macs: int


class CutCost:
    """Bytes and multiply-accumulates of a model by how many units of every group are kept.

    Args:
        model: The model.
        channels: Its groups.
        shapes: Of the tensors around its weighted nodes, for one sample.
    """

    def __init__(self, model: Model, channels: Channels, shapes: Mapping[str, Shape]) -> None:
        parts = list(_Parts(model, channels, shapes).all())
        self._whole = np.array([len(group.units) for group in channels.groups], np.int64)
        count, groups = len(parts), len(self._whole)
        self._fixed = np.array([part.fixed for part in parts]).reshape(count, 2)
        self._slopes = np.array([part.slopes for part in parts]).reshape(count, 2, groups)
        self._stays = np.array([part.stays for part in parts], np.bool_)
        self._names = np.array([part.names for part in parts], np.float64)
        # (parts,) float64: numbers in each.
        self._before = np.prod(self._fixed + self._slopes @ self._whole, axis=1)
        each = np.maximum(self._before, 1.0)
        self._sizes = np.array([part.size for part in parts]) / each
        self._further = np.array([part.further for part in parts], np.float64)
        self._macs = np.array([part.macs for part in parts]) / each

    def saved(self, counts: Counts) -> tuple[float, float]:
        """What is saved.

        Args:
            counts: (groups,) int64: units that are kept.

        Returns:
            Bytes, no more than a file loses by the cut, and less by names alone; and
            multiply-accumulates for one sample.
        """
        if not len(counts):
            return 0.0, 0.0
        saved, saved_macs = self.saved_with(counts, 0, counts[:1])
        return float(saved[0]), float(saved_macs[0])

    @property
    def parts(self) -> int:
        """How many constants cuts make smaller, each once for every way in which it is read."""
        return len(self._sizes)

    def most_saved(self, counts: Counts) -> tuple[float, float]:
        """The same, but no less than a file loses by any cut that keeps so many or more."""
        after = np.prod(self._fixed + self._slopes @ counts, axis=1)
        gone = self._before - after
        return float((self._sizes * ~self._stays) @ gone), float(gone @ self._macs)

    def saved_with(self, counts: Counts, place: int, options: Counts) -> tuple[Floats, Floats]:
        """The same with one group at each of some counts, (options,) float64 each.

        Args:
            counts: (groups,) int64.
            place: Which group.
            options: (options,) int64: units that are kept of it.
        """
        lengths = self._fixed + self._slopes @ counts
        steps = np.multiply.outer(options - counts[place], self._slopes[:, :, place])
        after = np.prod(lengths + steps, axis=2)
        freed = self._sizes * np.where(self._stays, -after, self._before - after) - self._names
        freed += self._further
        gone = self._before - after
        return np.sum(freed * (gone > 0), axis=1), gone @ self._macs


def counts_along(units: Units, channels: Channels) -> tuple[float, Floats]:
    """What of an axis stays, and how often every group's units come along it, on average."""
    slopes = np.array(
        [
            np.sum((units >= group.units.start) & (units < group.units.stop)) / len(group.units)
            for group in channels.groups
        ]
    )
    return float(np.sum(units == NO_UNIT)), slopes


class _Parts:
    """Finds the constants that cuts make smaller."""

    def __init__(self, model: Model, channels: Channels, shapes: Mapping[str, Shape]) -> None:
        self._channels = channels
        self._nodes = model.proto.graph.node
        self._constants = Constants(model)
        self._reads = self._constants.reads()
        self._shapes = dict(shapes)
        for each in model.proto.graph.initializer:
            self._shapes[each.name] = tuple(each.dims)
        self._shapes.update(computed_shapes(model))
        self._weights = {
            (axis.node, axis.slot) for axis in (*channels.produced, *channels.consumed)
        }

    def all(self) -> Iterator[_Part]:
        """All of them, and the vectors that name lengths."""
        for name, alike in self._by_constant().items():
            # Uses that are cut alike share what is left.
            stays = len(alike) > 1 or any(len(uses) < self._reads[name] for uses in alike.values())
            for axes, uses in alike.items():
                yield self._part(axes, uses, stays)
        for node in self._nodes:
            yield from self._vector(node)

    def _by_constant(self) -> dict[str, dict["_Axes", list[tuple[int, int]]]]:
        """By constant and by how it is cut, where it is read: nodes and slots."""
        by_use: dict[tuple[int, int], list[ConstantAxis]] = {}
        channels = self._channels
        for axis in (*channels.produced, *channels.consumed, *channels.carried):
            by_use.setdefault((axis.node, axis.slot), []).append(axis)
        found: dict[str, dict[_Axes, list[tuple[int, int]]]] = {}
        for (node, slot), axes in by_use.items():
            root = self._constants.root(self._nodes[node].input[slot])
            alike = found.setdefault(root, {})
            alike.setdefault(_Axes(axes), []).append((node, slot))
        return found

    def _part(self, axes: "_Axes", uses: Sequence[tuple[int, int]], stays: bool) -> _Part:
        (node, slot), *_ = uses
        name = self._nodes[node].input[slot]
        tensor = known_constant(self._constants.tensor(name), name)
        stored = self._constants.stored_type(name)
        item = np.dtype(helper.tensor_dtype_to_np_dtype(stored)).itemsize
        size = item * prod(tensor.dims)
        is_new = stays or self._constants.is_computed(name)
        fixed, slopes = self._lengths(axes.units)
        return _Part(
            fixed,
            slopes,
            size=size,
            further=0 if stays else self._constants.bytes_of(name) - size,
            stays=stays,
            names=_LONGER * (2 + len(uses))
            + (_OVERHEAD + 3 * len(tensor.name)) * (is_new + (stored != tensor.data_type)),
            macs=sum(
                node_macs(self._nodes[node], self._shapes)
                for node, slot in uses
                if (node, slot) in self._weights
                or (self._nodes[node].op_type == "Conv" and slot == 1)
            ),
        )

    def _vector(self, node: NodeProto) -> Iterator[_Part]:
        """The lengths that a node may name, in a vector that is called after its output."""
        operator = operator_of(node)
        if operator is None or operator.settings is None or operator.begins:
            return
        axis = self._channels.tensors.get(node.input[0])
        if axis is None:
            return
        fixed, slopes = self._lengths([axis.units])
        numbers = 8 * max(len(node.output), len(self._shapes.get(node.output[0], ())))
        names = numbers + _OVERHEAD + 3 * (len(node.output[0].encode()) + 2 * _LONGER)
        yield _Part(fixed, slopes, size=0, further=0, stays=False, names=names, macs=0)

    def _lengths(self, units: Sequence[Units]) -> tuple[Floats, Floats]:
        """What of two axes stays, and how often units come along them; 1 where one is missing."""
        fixed, slopes = np.ones(2), np.zeros((2, len(self._channels.groups)))
        for place, own in enumerate(units):
            fixed[place], slopes[place] = counts_along(own, self._channels)
        return fixed, slopes


class _Axes:
    """The axes of a constant along which units run; equal where constants are cut alike."""

    def __init__(self, axes: Iterable[ConstantAxis]) -> None:
        ordered = sorted(axes, key=lambda axis: axis.axis)
        self.units = [axis.units for axis in ordered]
        self._key = tuple((axis.axis, axis.units.tobytes()) for axis in ordered)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Axes) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)
